"""The files of served bundles, read in parts; only what the manifest lists is ever opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from cloud_node.served import Served
from wire.bundle_files import open_plain
from wire.errors import BadInput, IncompatibleBundle, Internal
from wire.limits import MAX_BUNDLE_PART_BYTES
from wire.v1 import inference_pb2 as pb

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """One bundle's folder; the manifest's own digest is the bundle's."""

    folder: Path
    served: Served

    def parts(self, request: pb.FetchBundleRequest) -> Iterator[pb.BundlePart]:
        """The parts of one file from an offset; raises BadInput before the first."""
        sizes = {entry.path: (entry.num_bytes, entry.sha256) for entry in self.served.manifest.files}
        with self._open(MANIFEST) as file:
            sizes[MANIFEST] = (os.fstat(file.fileno()).st_size, self.served.bundle_digest)
        if request.path not in sizes:
            raise BadInput(f"bundle {request.bundle_digest[:12]} lists no file {request.path[:64]!r}")
        num_bytes, sha256 = sizes[request.path]
        if request.offset > num_bytes:
            raise BadInput(f"{request.path} has {num_bytes:,} bytes, and the offset is {request.offset:,}")
        stop = min(num_bytes, request.offset + request.length) if request.length else num_bytes
        return self._read(request.path, request.offset, stop, num_bytes, bytes.fromhex(sha256))

    def _read(self, path: str, start: int, stop: int, total: int, sha256: bytes) -> Iterator[pb.BundlePart]:
        with self._open(path) as file:
            file.seek(start)
            offset = start
            while offset < stop or offset == start:
                data = file.read(min(MAX_BUNDLE_PART_BYTES, stop - offset))
                yield pb.BundlePart(path=path, offset=offset, total_bytes=total, sha256=sha256, data=data)
                offset += len(data)
                if not data:
                    return

    def _open(self, path: str) -> BufferedReader:
        """They were checked when the cloud started; whoever put a link there since gets nothing read through it."""
        try:
            return open_plain(self.folder, path)
        except IncompatibleBundle as error:
            raise Internal(
                f"{path} of the bundle is no plain file here any more; make the bundle again"
            ) from error


def find_bundle(bundles: Sequence[BundleFiles], digest: str) -> BundleFiles:
    """The bundle of that digest; raises IncompatibleBundle where none is served."""
    for files in bundles:
        if files.served.bundle_digest == digest:
            return files
    known = ", ".join(files.served.bundle_digest[:12] for files in bundles)
    raise IncompatibleBundle(f"this cloud serves bundle {known}, not {digest[:12]!r}")
