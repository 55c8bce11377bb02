"""The files of served bundles, read in parts; only what the manifest lists, it and its signature are ever opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader
from pathlib import Path

from cloud_node.asked.served import Served
from wire.bundle_files import open_plain
from wire.errors import BadInput, IncompatibleBundle, Internal
from wire.limits import MAX_BUNDLE_PART_BYTES
from wire.signature import SIGNATURE_NAME, read_signature
from wire.v1 import inference_pb2 as pb

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """One bundle's folder; the manifest's own digest is the bundle's."""

    folder: Path
    served: Served

    def parts(self, request: pb.FetchBundleRequest) -> Iterator[pb.BundlePart]:
        """The parts of one file from an offset; raises BadInput before the first."""
        if request.path == SIGNATURE_NAME:
            return self._signature(request)
        sizes = {entry.path: (entry.num_bytes, entry.sha256) for entry in self.served.manifest.files}
        with self._open(MANIFEST) as file:
            sizes[MANIFEST] = (os.fstat(file.fileno()).st_size, self.served.bundle_digest)
        if request.path not in sizes:
            raise BadInput(f"bundle {request.bundle_digest[:12]} lists no file {request.path[:64]!r}")
        num_bytes, hexdigest = sizes[request.path]
        stop = _stop(request, num_bytes)
        return self._read(request.path, request.offset, stop, num_bytes, bytes.fromhex(hexdigest))

    def _signature(self, request: pb.FetchBundleRequest) -> Iterator[pb.BundlePart]:
        """In one part; read anew each time, as a bundle may be signed, with another key too, while it is served."""
        try:
            data = read_signature(self.folder)
        except IncompatibleBundle as error:
            raise _not_plain(SIGNATURE_NAME) from error
        if data is None:
            raise BadInput(f"bundle {request.bundle_digest[:12]} is not signed; see `cleave sign`")
        yield pb.BundlePart(
            path=request.path,
            offset=request.offset,
            total_bytes=len(data),
            sha256=sha256(data).digest(),
            data=data[request.offset : _stop(request, len(data))],
        )

    def _read(self, path: str, start: int, stop: int, total: int, digest: bytes) -> Iterator[pb.BundlePart]:
        with self._open(path) as file:
            file.seek(start)
            offset = start
            while offset < stop or offset == start:
                data = file.read(min(MAX_BUNDLE_PART_BYTES, stop - offset))
                yield pb.BundlePart(path=path, offset=offset, total_bytes=total, sha256=digest, data=data)
                offset += len(data)
                if not data:
                    return

    def _open(self, path: str) -> BufferedReader:
        """They were checked when the cloud started; whoever put a link there since gets nothing read through it."""
        try:
            return open_plain(self.folder, path)
        except IncompatibleBundle as error:
            raise _not_plain(path) from error


def _not_plain(path: str) -> Internal:
    return Internal(f"{path} of the bundle is no plain file here any more; make the bundle again")


def _stop(request: pb.FetchBundleRequest, num_bytes: int) -> int:
    """Where what is asked for of a file ends; raises BadInput where it begins behind it."""
    if request.offset > num_bytes:
        raise BadInput(f"{request.path} has {num_bytes:,} bytes, and the offset is {request.offset:,}")
    return min(num_bytes, request.offset + request.length) if request.length else num_bytes


def find_bundle(bundles: Sequence[BundleFiles], digest: str) -> BundleFiles:
    """The bundle of that digest; raises IncompatibleBundle where none is served."""
    for files in bundles:
        if files.served.bundle_digest == digest:
            return files
    known = ", ".join(files.served.bundle_digest[:12] for files in bundles)
    raise IncompatibleBundle(f"this cloud serves bundle {known}, not {digest[:12]!r}")
