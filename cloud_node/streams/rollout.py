"""A staged rollout: which share of the edges is told of a model's next bundle. Its file may change while it is served.

Why it is so: docs/decisions/0017-rollout.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cloud_node.access.reloading import Reloaded
from wire.bounded_file import read_file
from wire.errors import BadInput

_log = logging.getLogger(__name__)

MAX_FILE_BYTES = 64 << 10
EVERYBODY = "*"


def is_told_of_next(edge_id: str, model: str, share: float) -> bool:
    """Whether this edge is among the share (0 to 1) that is told of the model's next bundle.

    An edge stays where it is while the share grows, and the shares of two models are of different edges. One that does
    not say who it is belongs to the last.
    """
    if not edge_id:
        return share >= 1
    digest = sha256(f"cleave rollout 1\0{model}\0{edge_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def parse_share(text: str) -> float:
    """ "10%", "0.1%" or a number from 0 to 1 that is written with a point; raises BadInput."""
    number = text.strip()
    is_percent = number.endswith("%")
    try:
        share = float(number.removesuffix("%")) / (100 if is_percent else 1)
    except ValueError:
        share = -1.0
    # "10" would be 10 % to one and a thousand to another.
    if not 0 <= share <= 1 or not (is_percent or "." in number or number in ("0", "1")):
        raise BadInput(f"{text[:40]!r} is no share of a rollout; give 0% to 100%, such as 10%")
    return share


def parse_shares(text: str) -> dict[str, float]:
    """Shares by the model's name, "*" for all others, one per line as "NAME SHARE" or "SHARE"; raises BadInput.

    What follows a # is a comment.
    """
    shares: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        name, _, share = said.rpartition(" ")
        name = name.strip() or EVERYBODY
        if name in shares:
            raise BadInput(f"line {number} gives a second share for {name[:80]!r}; give one")
        shares[name] = parse_share(share)
    return shares


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """One share for all models, or a file that is read again when it changes; neither: all edges get the first one."""

    share: float | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        if self.share is not None and self.file is not None:
            raise BadInput("a rollout goes by --rollout or by --rollout-file, and both were given")
        if self.share is not None and not 0 <= self.share <= 1:
            raise BadInput(f"the share of a rollout is {self.share:g}, and it must be from 0 to 1")

    @property
    def is_on(self) -> bool:
        return self.share is not None or self.file is not None


class Rollout:
    """The shares by now. `watched` is the file, where there is one: for whoever looks whether it changed."""

    def __init__(self, config: RolloutConfig) -> None:
        """Raises BadInput where the file is wrong from the start."""
        self._fixed = {EVERYBODY: config.share or 0.0}
        file = config.file
        self.watched = () if file is None else (Reloaded([file], lambda: _read(file)),)

    def share_of(self, model: str) -> float:
        """0 to 1."""
        shares = self.watched[0].value if self.watched else self._fixed
        return shares.get(model, shares.get(EVERYBODY, 0.0))


def _read(file: Path) -> dict[str, float]:
    data = read_file(file, "the rollout file", MAX_FILE_BYTES)
    try:
        shares = parse_shares(data.decode())
    except UnicodeDecodeError as error:
        raise BadInput(f"the rollout file {file} is not UTF-8") from error
    said = ", ".join(f"{100 * share:g} % of {name}" for name, share in shares.items())
    _log.info("the rollout is %s", said or "at an end: every edge gets the first bundle")
    return shares
