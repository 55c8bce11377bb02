"""Several bundles under one name: which go together, what each is called in metrics, and which one leads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cloud_node.asked.served import Served
from cloud_node.streams.host import Hosted
from wire.errors import BadInput

# Of one name; what Describe lists beside the first.
MAX_LATER = 16


def check_versions(models: Sequence[Served], *, is_rollout: bool) -> None:
    """Raises BadInput where two models would be taken for each other."""
    for served in models:
        same = [one.bundle_digest for one in models if one.name == served.name]
        if len(same) > 1 and not is_rollout:
            raise BadInput(
                f"two models would be served as {served.name!r}; give each a --name, or say with --rollout which share "
                "of the edges is told of the second one"
            )
        if same.count(served.bundle_digest) > 1:
            raise BadInput(
                f"the bundle {served.bundle_digest[:12]} would be served as {served.name!r} twice; leave one out"
            )
        if len(same) > 1 + MAX_LATER:
            raise BadInput(f"{len(same)} bundles would be served as {served.name!r}, and at most 17 may be")


def labels_of(models: Sequence[Served]) -> list[str]:
    """What each is called in metrics: its name, and where it shares that, the beginning of its digest, too."""
    names = [served.name for served in models]
    return [
        served.name if names.count(served.name) == 1 else f"{served.name}@{served.bundle_digest[:12]}"
        for served in models
    ]


def by_name(hosted: Sequence[Hosted]) -> dict[str, Hosted]:
    """The first of each name, with the later ones of it, in the order given."""
    grouped: dict[str, Hosted] = {}
    for one in hosted:
        first = grouped.get(one.served.name)
        grouped[one.served.name] = one if first is None else replace(first, later=(*first.later, one))
    return grouped
