"""Before a bundle is used: its signature is fetched where keys are given, the decision made, and remembered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Collection, Sequence
from contextlib import aclosing
from pathlib import Path

from edge_node.bundle_store import Fetch
from edge_node.known_bundles import KnownBundle, KnownBundles, digests_of, models_of, with_entry
from edge_node.trust import BY_USER, BundleTrust, Offered, decide
from wire.errors import BadInput, CleaveError, Denied
from wire.signature import MAX_SIGNATURE_BYTES, SIGNATURE_NAME, read_signature

_log = logging.getLogger(__name__)


class BundleCheck:
    """Of one device: `folder` is where its bundles are, and where it remembers which ones it has trusted."""

    def __init__(self, folder: Path, trust: BundleTrust) -> None:
        self._folder = folder
        self._trust = trust
        self._known = KnownBundles(folder)

    async def chosen(self, cloud: str, served: Collection[str]) -> str:
        """The model that is meant where the user names none: the first one served of which a bundle is known here.

        The cloud's first where none is, or where keys say what is trusted; "" where it serves none.
        """
        known = () if self._trust.keys else models_of(await asyncio.to_thread(self._read), cloud)
        return next((name for name in served if name in known), next(iter(served), ""))

    async def require(self, offered: Offered, fetch: Fetch) -> bytes | None:
        """The bundle's signature, where one counts. Raises Denied where it is not to be trusted.

        Nothing of it was fetched then but its signature.
        """
        signature: bytes | None = None
        if self._trust.keys and offered.digest not in self._trust.accepted | self._trust.refused:
            signature = await self._signature(offered, fetch)
        known = await asyncio.to_thread(self._read)
        self._reason(known, offered, signature)
        return signature

    async def remember(self, offered: Offered, signature: bytes | None) -> None:
        """It is in use from now on. Decides again, as another process may have met another bundle meanwhile."""
        if not self._trust.pins:
            return
        known = await asyncio.to_thread(self._read)
        before = digests_of(known, offered.cloud, offered.model)
        if before[-1:] == [offered.digest]:
            return
        reason = self._reason(known, offered, signature)
        try:
            await asyncio.to_thread(self._known.change, lambda now: self._noted(now, offered, signature))
        except BadInput as error:
            self._require_keys(error)
        if before:
            _log.warning(
                "%s serves bundle %s of %r now, %s; before it was %s",
                offered.cloud,
                offered.digest[:12],
                offered.model,
                "as once before" if offered.digest in before else f"trusted by {reason}",
                before[-1][:12],
            )

    async def _signature(self, offered: Offered, fetch: Fetch) -> bytes | None:
        """The one that is kept here where it still holds: a cloud that withholds it later takes nothing back."""
        folder = self._folder / offered.digest
        with contextlib.suppress(CleaveError):
            kept = await asyncio.to_thread(read_signature, folder)
            decide(self._trust, offered, (), kept)
            return kept
        fetched = await _fetched(offered.digest, fetch)
        if fetched is not None:
            decide(self._trust, offered, (), fetched)
            await asyncio.to_thread(_keep, folder, fetched)
        return fetched

    def _read(self) -> Sequence[KnownBundle]:
        if not self._trust.pins:
            return ()
        try:
            return self._known.read()
        except BadInput as error:
            self._require_keys(error)
            return ()

    def _require_keys(self, error: BadInput) -> None:
        """With keys the file decides nothing, and is kept only to tell of changes."""
        if not self._trust.keys:
            raise error
        _log.warning("what is trusted cannot be remembered: %s", error)

    def _noted(
        self, known: Sequence[KnownBundle], offered: Offered, signature: bytes | None
    ) -> list[KnownBundle]:
        reason = self._reason(known, offered, signature)
        entry = self._known.entry(offered.cloud, offered.model, offered.digest, reason or BY_USER)
        return with_entry(known, entry)

    def _reason(self, known: Sequence[KnownBundle], offered: Offered, signature: bytes | None) -> str:
        digests = digests_of(known, offered.cloud, offered.model)
        return decide(self._trust, offered, digests, signature, models_of(known, offered.cloud))


async def _fetched(digest: str, fetch: Fetch) -> bytes | None:
    """The cloud's manifest.sig; None where it has none."""
    data = b""
    try:
        async with aclosing(fetch(digest, SIGNATURE_NAME, 0)) as parts:
            async for part in parts:
                room = MAX_SIGNATURE_BYTES - len(data)
                # An empty part would let a cloud keep its device waiting for ever.
                if part.offset != len(data) or not 0 < len(part.data) <= room:
                    raise Denied(
                        f"the signature of bundle {digest} came with offset {part.offset:,} and {len(part.data):,} "
                        f"bytes after {len(data):,}; at most {MAX_SIGNATURE_BYTES:,} are read"
                    )
                data += part.data
    except BadInput:
        return None  # so says a cloud whose bundle is not signed
    return data


def _keep(folder: Path, signature: bytes) -> None:
    """For the next start, which verifies it anew. A link that somebody put in its place is not written through."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink():
            return
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{SIGNATURE_NAME}-")
        with os.fdopen(handle, "wb") as file:
            file.write(signature)
        Path(name).replace(folder / SIGNATURE_NAME)
