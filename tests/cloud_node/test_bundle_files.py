"""manifest.sig as a cloud serves it: read anew, bounded, never through a link, and checked before it listens."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from cloud_node.asked.served import Served
from cloud_node.bundle_files import BundleFiles
from cloud_node.model.serving import open_bundle
from wire.errors import BadInput, Internal, MalformedMessage, TooLarge
from wire.signature import MAX_SIGNATURE_BYTES, Signature, dump_signatures
from wire.v1 import inference_pb2 as pb

SIGNATURE = dump_signatures([Signature("0" * 16, bytes(64))])


def parts(folder: Path, served: Served, **options: int) -> list[pb.BundlePart]:
    request = pb.FetchBundleRequest(bundle_digest=served.bundle_digest, path="manifest.sig", **options)
    return list(BundleFiles(folder, served).parts(request))


def test_signature_is_served_as_it_is_by_now(bundle: Path, served: Served) -> None:
    with pytest.raises(BadInput, match="not signed"):
        parts(bundle, served)
    (bundle / "manifest.sig").write_bytes(SIGNATURE)
    (part,) = parts(bundle, served)
    assert (part.data, part.total_bytes) == (SIGNATURE, len(SIGNATURE))
    assert part.sha256 == sha256(SIGNATURE).digest()
    (part,) = parts(bundle, served, offset=3, length=4)
    assert (part.data, part.offset) == (SIGNATURE[3:7], 3)
    with pytest.raises(BadInput, match="offset"):
        parts(bundle, served, offset=len(SIGNATURE) + 1)


def test_signature_is_not_read_through_a_link_or_beyond_its_bound(bundle: Path, served: Served) -> None:
    (bundle / "manifest.sig").symlink_to("/etc/passwd")
    with pytest.raises(Internal, match="no plain file"):
        parts(bundle, served)
    (bundle / "manifest.sig").unlink()
    (bundle / "manifest.sig").write_bytes(b" " * (MAX_SIGNATURE_BYTES + 1))
    with pytest.raises(TooLarge):
        parts(bundle, served)


def test_cloud_does_not_start_on_a_signature_that_no_device_could_read(bundle: Path) -> None:
    (bundle / "manifest.sig").write_bytes(b"signed, honestly")
    with pytest.raises(MalformedMessage, match="sign the bundle again"):
        open_bundle(bundle)
    (bundle / "manifest.sig").write_bytes(SIGNATURE)
    assert open_bundle(bundle)
