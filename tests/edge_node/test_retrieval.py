"""Embeddings through the wire: the whole model's own vectors, and indexes on the cloud, added to and searched."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cleave import EdgeNode
from cloud_node.asked.served import Bounds
from cloud_node.asked.tenants import ANYBODY, Tenant
from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.engine.engine import Engine, EngineSettings
from cloud_node.model.serving import serve
from cloud_node.retrieval.vectors import Found, Hit
from cloud_node.service import InferenceService
from cloud_node.streams.host import Host, Hosted
from edge_node.retrieval import vector_of
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.adapters.find import adapter_for
from splitmodel.loading import load
from splitmodel.media import MediaInput
from tests.kit.clouds import LIMIT_S, limits
from tests.kit.pictures import textured
from tests.kit.unobserved import Unobserved
from tests.kit.zoo_bundles import checkpoint, partitioned
from wire.errors import BadInput, MalformedMessage
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

PICTURES = {f"picture {seed}": textured(60 + seed, 40, seed) for seed in range(6)}


class Remembered:
    """Indexes in memory; every item is looked at."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[str, NDArray[np.float32]]] = defaultdict(dict)

    def add(
        self,
        index: str,
        digest: str,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        tenant: Tenant = ANYBODY,
    ) -> int:
        self.kept[index, digest].update(zip(item_ids, vectors, strict=True))
        return len(self.kept[index, digest])

    def search(
        self,
        index: str,
        digest: str,
        vector: NDArray[np.float32],
        num_hits: int,
        tenant: Tenant = ANYBODY,
    ) -> Found:
        items = self.kept[index, digest]
        hits = [Hit(item_id, float(kept @ vector)) for item_id, kept in items.items()]
        hits.sort(key=lambda hit: -hit.similarity)
        return Found(tuple(hits[:num_hits]), len(items))


@pytest.fixture(scope="module")
def adapter() -> DualEncoder:
    made = adapter_for(load(str(checkpoint("clip"))))
    assert isinstance(made, DualEncoder)
    return made


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeNode]:
    """Of a cloud that serves a dual encoder and keeps indexes."""
    folder = partitioned("clip").folder
    served, runner = serve(load(str(checkpoint("clip"))), folder)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[grpc.aio.Server, Engine, str]:
        from cloud_node.bundle_files import BundleFiles

        engine = Engine(runner, EngineSettings(), Unobserved())
        cache = Cache(None)
        hosted = {served.name: Hosted(served, Flights(engine, cache))}
        host = Host(hosted, Bounds(limits(), 60, 60), "0", cache, indexes=Remembered())
        server = grpc.aio.server()
        service = InferenceService(host, [BundleFiles(folder, served)], 8)
        pb_grpc.add_InferenceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, engine, f"127.0.0.1:{port}"

    async def stop() -> None:
        await server.stop(0)
        await engine.close()

    server, engine, address = asyncio.run_coroutine_threadsafe(start(), loop).result(LIMIT_S)
    with EdgeNode(address, bundles=tmp_path_factory.mktemp("bundles")) as node:
        yield node
    asyncio.run_coroutine_threadsafe(stop(), loop).result(LIMIT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(LIMIT_S)
    loop.close()


def whole(adapter: DualEncoder, media: Image.Image | str) -> NDArray[np.float32]:
    modality = "text" if isinstance(media, str) else "image"
    return adapter.whole_embedding(MediaInput(modality, media)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("split", [0, 3, None])
def test_vectors_are_the_whole_models_at_split_points_of_both_encoders(
    edge: EdgeNode, adapter: DualEncoder, split: int | None
) -> None:
    inputs: list[dict[str, Any]] = [{"image": textured(60, 40, seed)} for seed in (1, 2)]
    inputs += [{"text": text} for text in ("a red circle", "")]
    vectors = [edge.embed(**one, split=split, codec="raw" if split is not None else None) for one in inputs]
    for one, vector in zip(inputs, vectors, strict=True):
        (media,) = one.values()
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        expected = whole(adapter, media)
        assert vector @ expected > (0.99999 if split is not None else 0.99)
    assert abs(vectors[0] @ vectors[1]) < 0.999, "vectors that are all alike prove nothing"


@pytest.mark.slow
def test_index_finds_what_was_added_by_picture_and_by_text(edge: EdgeNode, adapter: DualEncoder) -> None:
    counts = [edge.index_add("pictures", name, image=picture) for name, picture in PICTURES.items()]
    assert counts == [1, 2, 3, 4, 5, 6]
    assert edge.index_add("pictures", "picture 3", image=PICTURES["picture 3"]) == 6
    for name, picture in PICTURES.items():
        first, second = edge.search("pictures", image=picture, num_hits=2, codec="raw")
        assert first.item_id == name
        assert first.similarity > 0.99
        assert first.similarity > second.similarity
    text = "a red circle"
    likeness = {
        name: float(whole(adapter, text) @ whole(adapter, picture)) for name, picture in PICTURES.items()
    }
    hits = edge.search("pictures", text=text)
    assert len(hits) == 6
    for hit in hits:
        assert hit.similarity == pytest.approx(likeness[hit.item_id], abs=0.05)
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda edge: edge.embed(), "give a picture or a sound"),
        (lambda edge: edge.embed(image=textured(8, 8), text="hi"), "2 inputs"),
        (lambda edge: edge.embed(sound=(np.zeros(50, np.float32), 16_000)), "takes no audio"),
        (lambda edge: edge.ask("hi", textured(8, 8)).text(), "prompt|generates nothing"),
        (lambda edge: edge.index_add("pictures", "", image=textured(8, 8)), "item id"),
        (lambda edge: edge.search("pictures", text="hi", num_hits=0), "num_hits"),
        (lambda edge: edge.search("pictures", text="hi", num_hits=-1), "cannot be said"),
        (lambda edge: edge.search("pictures", text="\udcff"), "UTF-8"),
    ],
)
def test_what_cannot_be_embedded_is_one_clear_error(edge: EdgeNode, call: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        call(edge)


@pytest.mark.parametrize("data", [b"", b"abc", bytes(65_540)])
def test_vector_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="vector"):
        vector_of(pb.Embedded(vectors=[pb.Vector(float32=data)] if data else []))


def test_vector_outlives_its_message(tmp_path: Path) -> None:
    message = pb.Embedded(vectors=[pb.Vector(float32=np.array([0.6, 0.8], "<f4").tobytes())])
    vector = vector_of(message)
    del message
    vector[0] = 1
    assert vector.tolist() == pytest.approx([1, 0.8])
