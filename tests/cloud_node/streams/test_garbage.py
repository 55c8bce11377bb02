"""What a request leaves behind: nothing that waits for the garbage collector, which comes late to large tensors."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from PIL import Image

from cloud_node.model.serving import serve
from edge_node.blocking import EdgeNode
from splitmodel.loading import load
from tests.kit.clouds import cloud_thread
from wire.errors import DeadlineExceeded


@pytest.mark.slow
def test_requests_leave_no_cycles(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    served, runner = serve(load(str(tiny_checkpoint)), tiny_bundle)
    pictures = [Image.new("RGB", (48, 48), (index, 30, 90)) for index in range(12)]
    with (
        cloud_thread(served, tiny_bundle, runner, num_slots=4) as node,
        EdgeNode(node.address, bundles=tmp_path) as edge,
    ):
        ask(edge, pictures[:2])
        gc.collect()
        gc.disable()
        try:
            gc.set_debug(gc.DEBUG_SAVEALL)
            ask(edge, pictures[2:])
            node.require_idle()
            gc.collect()
            left = {type(one).__name__ for one in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not left & {"Sequence", "Flight", "OpenRequest", "ModelPrompt", "Tensor", "Request"}, left


def ask(edge: EdgeNode, pictures: list[Image.Image]) -> None:
    """Fresh, repeated, about a known picture, sampled, and too late."""
    for picture in pictures:
        for question in ("what?", "what?", "where?"):
            edge.ask(question, picture, max_new_tokens=4, temperature=0).text()
        edge.ask("draw", picture, max_new_tokens=4, temperature=1.0).text()
    with pytest.raises(DeadlineExceeded):
        edge.ask("late", pictures[0], max_new_tokens=250, min_new_tokens=250, deadline_s=0.02).text()
