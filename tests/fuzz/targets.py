"""The inventory: every decoder of bytes that a peer, or a bundle, or a shared cache gives, by name.

What is not here is not a peer's: files that the user names himself, the operator's configuration and tokens, and the
indexes on the cloud's own disk. A stage's ONNX file is run by onnxruntime, which a bundle's digest or signature vouches
for: tests/wire/test_hostile_bundles.py says what it may not read.
"""

from __future__ import annotations

from tests.fuzz.cloud_targets import CLOUD_TARGETS
from tests.fuzz.edge_targets import EDGE_TARGETS
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import WIRE_TARGETS

TARGETS: dict[str, Target] = {**WIRE_TARGETS, **CLOUD_TARGETS, **EDGE_TARGETS}
