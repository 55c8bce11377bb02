"""known_bundles.json: which bundles this device has trusted, of which cloud and model. One file, for all processes.

It lies beside the bundles, and a person may read and edit it. What is wrong in it is an error and never an empty list:
whoever could damage it would otherwise have every bundle trusted anew.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from wire.bundle_files import Sha256
from wire.errors import BadInput

try:
    import fcntl
except ImportError:  # no Unix: there the last writer wins
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "known_bundles.json"
# Of one model of one cloud: an edge that follows signed bundles for years forgets the oldest.
MAX_DIGESTS = 16
MAX_FILE_BYTES = 1 << 20
_LOCK_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.005

Text = Annotated[str, Meta(min_length=1, max_length=512)]


class KnownBundle(Struct, frozen=True, forbid_unknown_fields=True):
    """One bundle that was trusted. Of one cloud and model the last in the file is the one in use."""

    cloud: Text  # its address, as it was given
    model: Text
    digest: Sha256
    first_seen: Text  # UTC, ISO 8601
    trusted_by: Text  # "first use", "user" or "key ID"


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    format_version: Literal[1]
    bundles: list[KnownBundle]


# All that is known -> what is to be known; the same list where nothing changes.
Change = Callable[[Sequence[KnownBundle]], Sequence[KnownBundle]]


class KnownBundles:
    """The file in one folder. Every method may wait for another process, at most some seconds; raises BadInput."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self.path = folder / FILE_NAME
        self._now = now

    def read(self) -> Sequence[KnownBundle]:
        """In the order in which they came into use."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BadInput(f"cannot read {self.path}: {error.strerror}; set CLEAVE_CACHE") from error
        if len(data) > MAX_FILE_BYTES:
            raise BadInput(f"{self.path} has more than {MAX_FILE_BYTES:,} bytes; see `cleave trust list`")
        try:
            return msgspec.json.decode(data, type=_File).bundles
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput(
                f"{self.path} is not valid: {error}; mend it, or remove it to trust every cloud's next bundle"
            ) from error

    def change(self, change: Change) -> Sequence[KnownBundle]:
        """What `change` makes of the file, under the lock; what is known then. What it raises changes nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                known = self.read()
                changed = change(known)
                if list(changed) != list(known):
                    self._write(changed)
                return changed
        except OSError as error:
            raise BadInput(f"cannot keep {self.path}: {error.strerror}; set CLEAVE_CACHE") from error

    def entry(self, cloud: str, model: str, digest: str, trusted_by: str) -> KnownBundle:
        """One that is trusted from now on."""
        first_seen = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        return KnownBundle(cloud, model, digest, first_seen, trusted_by)

    def _write(self, bundles: Sequence[KnownBundle]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_File(1, list(bundles))), indent=2) + b"\n"
        if len(data) > MAX_FILE_BYTES:
            raise BadInput(
                f"{self.path} would have {len(data):,} bytes, and at most {MAX_FILE_BYTES:,} are read; forget some "
                "with `cleave trust forget`"
            )
        try:
            msgspec.json.decode(data, type=_File)
        except (
            msgspec.DecodeError
        ) as error:  # a name that a cloud made up; it must not cost what else is known
            raise BadInput(f"such a bundle cannot be remembered in {self.path}: {error}") from error
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{FILE_NAME}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """On a file of its own, which nobody renames; it ends with its process, however that ends."""
        if fcntl is None:
            yield
            return
        with self.path.with_suffix(".lock").open("ab") as file:
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BadInput(
                            f"another process has held {self.path} for {_LOCK_TIMEOUT_S:g} s; is it stopped?"
                        ) from None
                    time.sleep(_LOCK_RETRY_S)
            yield


def digests_of(known: Sequence[KnownBundle], cloud: str, model: str) -> list[str]:
    """Of one cloud and model, the one in use last."""
    return [one.digest for one in known if (one.cloud, one.model) == (cloud, model)]


def models_of(known: Sequence[KnownBundle], cloud: str) -> list[str]:
    """Those of which a bundle of this cloud is known."""
    return list(dict.fromkeys(one.model for one in known if one.cloud == cloud))


def with_entry(known: Sequence[KnownBundle], entry: KnownBundle) -> list[KnownBundle]:
    """It is in use now; where it was known before, it keeps its own beginning."""

    def is_same_model(one: KnownBundle) -> bool:
        return (one.cloud, one.model) == (entry.cloud, entry.model)

    same = [one for one in known if is_same_model(one)]
    before = next((one for one in same if one.digest == entry.digest), entry)
    kept = [one for one in same if one is not before][1 - MAX_DIGESTS :]
    if same and same[-1] == before:
        return list(known)
    return [*(one for one in known if not is_same_model(one)), *kept, before]


def without(known: Sequence[KnownBundle], cloud: str, model: str | None = None) -> list[KnownBundle]:
    """All but those of a cloud, or of one of its models."""
    return [one for one in known if one.cloud != cloud or model not in (None, one.model)]
