"""A Dockerfile's steps without docker: the same shell commands and copies, in a folder instead of a container.

What stands in for what: the base image is this machine with this Python; absolute paths of the image lie under a
folder, in commands and copies; commands that need root (`useradd` and `groupadd`) do nothing.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_S = 400.0
_NEED_ROOT = ("useradd", "groupadd")
# Where the images keep something; whatever else a command names is this machine's.
PLACES = ("/opt/cleave", "/src", "/var/lib/cleave")


@dataclass(slots=True)
class Image:
    """What the last stage comes to: `root` holds its files."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(
        default_factory=dict
    )  # of USER, ENTRYPOINT, CMD, HEALTHCHECK, …: the last value
    copied: list[str] = field(default_factory=list)  # paths of the image that COPY made

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def command(self, setting: str) -> list[str]:
        """The exec form of ENTRYPOINT, CMD, or what follows CMD in HEALTHCHECK."""
        words: list[str] = json.loads(self.settings[setting][self.settings[setting].index("[") :])
        return words

    def environment_here(self, **more: str) -> dict[str, str]:
        """A container's: nothing of this Python's, and the image's own programs first."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        return {**kept, **self.environment, **more, "PATH": f"{self.at('/opt/cleave/bin')}:{kept['PATH']}"}

    def run(self, *command: object, **more: str) -> subprocess.CompletedProcess[str]:
        """A program of the image to its end, with more in its environment."""
        environment = self.environment_here(CLEAVE_CACHE=str(self.at("/var/lib/cleave")), **more)
        program = self.at("/opt/cleave/bin") / str(command[0])
        arguments = [str(program), *map(str, command[1:])]
        return subprocess.run(
            arguments, capture_output=True, text=True, env=environment, cwd=self.root, timeout=LIMIT_S
        )

    def lacks(self, *modules: str) -> bool:
        return all(
            "ModuleNotFoundError" in self.run("python", "-c", f"import {name}").stderr for name in modules
        )


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, its arguments), continuation lines joined, without comments."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    parts = [line.strip().split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, rest in parts]


def build(dockerfile: Path, context: Path, folder: Path, arguments: Mapping[str, str] | None = None) -> Image:
    """Runs all stages in order; the last one's files end under FOLDER/image, as did each one's while it was made."""
    builder = _Builder(
        context, dockerfile.with_name(f"{dockerfile.name}.dockerignore"), folder, arguments or {}
    )
    for word, rest in instructions(dockerfile):
        builder.take(word, rest)
    return builder.image


class _Builder:
    def __init__(self, context: Path, ignore: Path, folder: Path, arguments: Mapping[str, str]) -> None:
        self._context = context
        self._patterns = [line for line in ignore.read_text().splitlines() if line and line[0] != "#"]
        self._folder = folder
        self._given = dict(arguments)
        self._arguments: dict[str, str] = {}
        self._stages: dict[str, Path] = {}
        self._stage = ""
        self._workdir = "/"
        self.image = Image(folder / "image")

    def take(self, word: str, rest: str) -> None:
        match word:
            case "FROM":
                self._from(rest)
            case "ARG":
                name, _, default = rest.partition("=")
                self._arguments[name] = self._given.get(name, default)
            case "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(rest))
                self.image.environment |= {name: value for name, _, value in pairs}
            case "WORKDIR":
                self._workdir = rest
                self.image.at(rest).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(shlex.split(rest))
            case "RUN":
                self._run(rest)
            case _:
                self.image.settings[word] = rest

    def _from(self, rest: str) -> None:
        """The stage before it steps aside, and its paths are the new one's: scripts hold absolute ones."""
        if self._stage:
            self._stages[self._stage] = self._folder / self._stage
            self.image.root.rename(self._stages[self._stage])
        self._stage, self._workdir = rest.partition(" AS ")[2] or "last", "/"
        self.image = Image(self._folder / "image")
        for place in ("/", "/opt", "/var/lib"):
            self.image.at(place).mkdir(parents=True, exist_ok=True)

    def _copy(self, words: list[str]) -> None:
        sources, target = [word for word in words[:-1] if not word.startswith("--")], words[-1]
        stage = next((word.partition("=")[2] for word in words if word.startswith("--from=")), None)
        for source in sources:
            to = self.image.at(os.path.join(self._workdir, target))  # an absolute target stays itself
            if stage is not None:
                shutil.copytree(
                    self._stages[stage] / source.lstrip("/"), to, symlinks=True, copy_function=os.link
                )
                self.image.copied.append(target)
            else:
                self._copy_context(source, to)

    def _copy_context(self, source: str, to: Path) -> None:
        names = sorted(self._allowed()) if source == "." else [source]
        to.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name not in self._allowed():
                raise FileNotFoundError(f"COPY of {name!r}, which .dockerignore keeps out of the context")
            path = self._context / name
            if path.is_dir():
                never = [
                    pattern.removeprefix("**/") for pattern in self._patterns if pattern.startswith("**/")
                ]
                shutil.copytree(path, to / name, ignore=shutil.ignore_patterns(*never))
            else:
                shutil.copy(path, to / name)

    def _allowed(self) -> set[str]:
        """A .dockerignore here shuts out all (*), lets in by name (!NAME), and shuts out everywhere (**/NAME)."""
        assert self._patterns[0] == "*", "a .dockerignore that lets in by name begins by shutting out all"
        allowed = {pattern[1:] for pattern in self._patterns if pattern.startswith("!")}
        assert not any(set(name) & set("*?[") for name in allowed), allowed
        return {
            name
            for name in allowed
            if not any(fnmatch.fnmatch(name, p) for p in self._patterns[1:] if p[0] != "!")
        }

    def _run(self, command: str) -> None:
        for place in PLACES:
            command = re.sub(rf"(?<![\w./-]){re.escape(place)}\b", str(self.image.at(place)), command)
        environment = {**os.environ, **self._arguments, **self.image.environment, "PATH": self._path()}
        environment.pop("PYTHONPATH", None)
        folder = self.image.at(self._workdir)
        subprocess.run(["sh", "-ec", command], cwd=folder, env=environment, check=True, timeout=LIMIT_S)

    def _path(self) -> str:
        """python and pip are those of this interpreter; what needs root does nothing."""
        shims = self._folder / "shims"
        if not shims.is_dir():
            shims.mkdir(parents=True)
            for name, script in _shims():
                (shims / name).write_text(f"#!/bin/sh\n{script}\n")
                (shims / name).chmod(0o755)
        return f"{shims}:{os.environ['PATH']}"


def _shims() -> Iterator[tuple[str, str]]:
    yield "python", f'exec {shlex.quote(sys.executable)} "$@"'
    yield "pip", f'exec {shlex.quote(sys.executable)} -m pip --quiet --disable-pip-version-check "$@"'
    for name in _NEED_ROOT:
        yield name, "exit 0"
