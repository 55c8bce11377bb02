"""What pip would install for a requirement, as links into this environment: nothing is downloaded or copied."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def needed_for(pyproject: Path, *extras: str) -> set[str]:
    """The names of all distributions that an installation of a project with these extras brings, itself left out.

    The project's own requirements are its file's: what is installed of it may be older.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    own, names = _normal(project["name"]), set[str]()
    waiting = [Requirement(one) for one in [*project["dependencies"], f"{own}[{','.join(extras)}]"]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = _normal(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name != own:
                waiting += _required(name, extra)
            elif extra:
                waiting += map(Requirement, project["optional-dependencies"][extra])
        names.add(name)
    return names - {own}


def link(names: set[str], folder: Path) -> Path:
    """A folder for sys.path that holds these distributions, and whatever shares a top-level folder with them."""
    folder.mkdir(parents=True)
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "/")}:
            source = Path(str(distribution.locate_file(top)))
            if top.endswith(".pth") or top == "__pycache__" or not source.exists():
                continue
            if not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


def _required(name: str, extra: str) -> Iterator[Requirement]:
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
