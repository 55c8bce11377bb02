"""From a checkpoint and a bundle to a model that is served: digests compared, every split point probed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from cloud_node.asked.served import Decoding, Served
from cloud_node.model.encoding_runner import EncodingRunner
from cloud_node.model.fusion import RecordedFusion
from cloud_node.model.loop_runner import LoopFusion, LoopRunner
from cloud_node.model.prepare import Preparer
from cloud_node.model.probing import probe_tails
from cloud_node.model.runner import ModelRunner, Room
from cloud_node.model.tails import Tail, Tails
from cloud_node.model.tracing import trace_bundle
from cloud_node.model.warm_up import compile_steps
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.adapters.find import adapter_for
from splitmodel.batching import BatchedChain
from splitmodel.decoder import Decoder
from splitmodel.encoder import Encoder
from splitmodel.loading import Checkpoint
from splitmodel.media import MediaInput
from splitmodel.model_call import ModelCall
from splitmodel.probe import ProbeData, read_probe
from wire.bundle_files import open_plain
from wire.errors import BadInput, IncompatibleBundle
from wire.limits import MAX_MANIFEST_BYTES
from wire.manifest import MANIFEST_NAME, Manifest, bundle_digest, check_files, load_manifest
from wire.signature import load_signatures, read_signature

__all__ = ["AnyRunner", "open_bundle", "serve", "trace_bundle"]

_log = logging.getLogger(__name__)

AnyRunner = ModelRunner | LoopRunner | EncodingRunner


def open_bundle(folder: Path) -> tuple[Manifest, str]:
    """A bundle's manifest and digest, after checking every file; raises a CleaveError where one is off."""
    if not (folder / MANIFEST_NAME).is_file():
        raise IncompatibleBundle(
            f"{folder} holds no manifest.json; make a bundle with `cleave partition MODEL --out DIR`"
        )
    with open_plain(folder, MANIFEST_NAME) as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    manifest = load_manifest(data)
    check_files(folder, manifest)
    if (signature := read_signature(folder)) is not None:
        load_signatures(signature)
    return manifest, bundle_digest(data)


def serve(
    checkpoint: Checkpoint, folder: Path, name: str = "", room: Room | None = None
) -> tuple[Served, AnyRunner]:
    """The model as served; raises IncompatibleBundle where the bundle was made of other weights."""
    manifest, digest = open_bundle(folder)
    adapter = adapter_for(checkpoint)
    encoders = trace_bundle(manifest, adapter, folder)
    probe = read_probe(folder / manifest.probe.path)
    tails = _tails(manifest, adapter, encoders, probe)
    refused = probe_tails(manifest, probe, tails)
    room = room or Room()
    runner = _runner(tails, room, _example_call(manifest, adapter, probe))
    config = checkpoint.model.generation_config if checkpoint.model.can_generate() else None
    served = Served(
        name or manifest.model,
        manifest,
        digest,
        refused=refused,
        tail_batching={chain_id: tail.batched.batching for chain_id, tail in tails.by_id.items()},
        decoding=_decoding(runner),
        samples_by_default=bool(getattr(config, "do_sample", False)),
        defaults_digest=_defaults_digest(checkpoint, config),
        rate_hz=adapter.processing.rate_hz,
        languages=tuple(getattr(config, "lang_to_id", None) or ()),
        tasks=tuple(getattr(config, "task_to_id", None) or ()),
    )
    _say(served, runner)
    if room.compiled:
        if not isinstance(runner, ModelRunner):
            raise BadInput(f"{served.name} has no batched steps to compile; leave out --compile")
        compile_steps(runner, manifest, probe)
    return served, runner


def _tails(manifest: Manifest, adapter: Adapter, encoders: Mapping[str, Encoder], probe: ProbeData) -> Tails:
    tails: dict[str, Tail] = {}
    for index, item in enumerate(manifest.probe.items):
        chain = manifest.chain(item.modality, item.shape_id)
        if chain.chain_id not in tails:
            encoder = encoders[chain.chain_id]
            example = adapter.boundary_input(encoder, probe.media(index, item.modality))[0]
            tails[chain.chain_id] = Tail(chain, encoder, BatchedChain(encoder.chain, example))
    return Tails(adapter, tails)


def _example_call(manifest: Manifest, adapter: Adapter, probe: ProbeData) -> ModelCall | None:
    """The whole model's call on the probe's first input; None for a model that generates nothing."""
    if isinstance(adapter, DualEncoder):
        return None
    item = manifest.probe.items[0]
    return adapter.whole([MediaInput(item.modality, probe.media(0, item.modality))], item.prompt)


def _runner(tails: Tails, room: Room, example: ModelCall | None) -> AnyRunner:
    """Batched where the engine can give every token of the decoder's to many rows at once."""
    adapter = tails.adapter
    if example is None:
        return EncodingRunner(Preparer(tails, None))
    context_tokens = room.row_tokens(adapter.model)
    decoder = _recorded_decoder(adapter, example)
    if decoder is None:
        return LoopRunner(Preparer(tails, LoopFusion(adapter, context_tokens)))
    return ModelRunner(Preparer(tails, RecordedFusion(adapter, decoder, context_tokens)), decoder, room)


def _recorded_decoder(adapter: Adapter, example: ModelCall) -> Decoder | None:
    """None where it decodes one by one: it reads an encoder, too, or is called in a way that is not understood."""
    if adapter.model.config.is_encoder_decoder:
        return None
    try:
        decoder = Decoder(adapter.model)
        decoder.record(example)
        return decoder
    except BadInput as error:
        _log.warning("%s decodes one by one: %s", adapter.checkpoint.name, error)
        return None


def _decoding(runner: AnyRunner) -> Decoding:
    if isinstance(runner, EncodingRunner):
        return ""
    return "batched" if isinstance(runner, ModelRunner) else "one by one"


def _defaults_digest(checkpoint: Checkpoint, generation_config: Any) -> str:
    """Of all that an answer depends on beside weights, features and settings: a cache may outlive this process."""
    defaults = "" if generation_config is None else generation_config.to_json_string(use_diff=False)
    template = str(getattr(checkpoint.processor, "chat_template", None))
    return sha256(f"{defaults}\0{template}\0{checkpoint.model.dtype}".encode()).hexdigest()


def _say(served: Served, runner: AnyRunner) -> None:
    for chain_id, reasons in served.refused.items():
        for index, reason in reasons.items():
            _log.warning("split point %d of %s is not served: %s", index, chain_id, reason)
    model = runner.preparer.adapter.model
    _log.info(
        "%s on %s in %s decodes %s; %d chains, tails of several requests: %s",
        served.name,
        model.device,
        str(model.dtype).removeprefix("torch."),
        served.decoding or "nothing",
        len(served.manifest.chains),
        ", ".join(dict.fromkeys(served.tail_batching.values())),
    )
    if isinstance(runner, ModelRunner):
        kv = runner.kv
        _log.info(
            "%d slots of %s tokens take %.1f MB", kv.num_slots, f"{kv.num_tokens:,}", kv.num_bytes / 1e6
        )
