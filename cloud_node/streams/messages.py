"""What the cloud knows, as messages of the wire. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloud_node.asked.sequence import Finished, FinishReason, StepTimes
from cloud_node.asked.served import Bounds, Served
from cloud_node.engine.load import Load
from wire import limits
from wire.codecs import codec_infos, split_codec_name
from wire.manifest import Chain
from wire.media.registry import media_codecs
from wire.modality import modality_to_wire
from wire.v1 import inference_pb2 as pb

_FINISH_REASONS: dict[FinishReason | None, pb.FinishReason.ValueType] = {
    None: pb.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP_TOKEN: pb.FINISH_REASON_STOP_TOKEN,
    FinishReason.STOP_STRING: pb.FINISH_REASON_STOP_STRING,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


def welcome_message(bounds: Bounds, server_version: str) -> pb.Down:
    return pb.Down(
        welcome=pb.Welcome(
            protocol_version=limits.PROTOCOL_VERSION,
            server_version=server_version,
            limits=bounds.limits.to_wire(),
        )
    )


def load_message(load: Load) -> pb.Down:
    return pb.Down(load=pb.Load(queued=load.queued, active=load.active, slots=load.slots))


def need_message(request_id: str, input_index: int, from_offset: int = 0) -> pb.Down:
    return pb.Down(need=pb.Need(request_id=request_id, input_index=input_index, from_offset=from_offset))


def ack_message(request_id: str, input_index: int, received_bytes: int, now_s: float) -> pb.Down:
    ack = pb.Ack(
        request_id=request_id, input_index=input_index, received_bytes=received_bytes, server_time_s=now_s
    )
    return pb.Down(ack=ack)


def have_answer_message(request_id: str, received_bytes: int, num_tokens: int) -> pb.Down:
    have = pb.Have(
        request_id=request_id,
        what=pb.Have.WHAT_ANSWER,
        received_bytes=received_bytes,
        received_tokens=num_tokens,
    )
    return pb.Down(have=have)


def have_features_message(request_id: str, input_index: int, received_bytes: int) -> pb.Down:
    have = pb.Have(
        request_id=request_id,
        what=pb.Have.WHAT_FEATURES,
        input_index=input_index,
        received_bytes=received_bytes,
    )
    return pb.Down(have=have)


def done_message(request_id: str, finished: Finished, cache: pb.Cache.ValueType, times: StepTimes) -> pb.Down:
    return pb.Down(
        done=pb.Done(
            request_id=request_id,
            finish_reason=_FINISH_REASONS[finished.reason],
            prompt_tokens=finished.prompt_tokens,
            generated_tokens=finished.generated_tokens,
            cache=cache,
            times=pb.StepTimes(**{name: getattr(times, name) for name in times.__dataclass_fields__}),
        )
    )


def describe_reply(
    models: Sequence[Served],
    bounds: Bounds,
    server_version: str,
    digests: Mapping[str, Sequence[str]] | None = None,
) -> pb.DescribeReply:
    """`digests` are of all bundles that are served under a model's name, where there are several."""
    return pb.DescribeReply(
        server_version=server_version,
        protocol_version=limits.PROTOCOL_VERSION,
        models=[_model(served, (digests or {}).get(served.name, ())) for served in models],
        codecs=[*codec_infos(), *_media_codec_infos(models)],
        limits=bounds.limits.to_wire(),
    )


def _media_codec_infos(models: Sequence[Served]) -> list[pb.CodecInfo]:
    """Those of the modalities that some model reads."""
    read = dict.fromkeys(modality for served in models for modality in served.manifest.modalities)
    return [
        pb.CodecInfo(codec_id=codec.codec_id, settings=codec.settings, media=modality_to_wire(modality))
        for modality in read
        for codec in media_codecs(modality)
    ]


def _model(served: Served, digests: Sequence[str]) -> pb.Model:
    chains = served.manifest.chains
    return pb.Model(
        name=served.name,
        bundle_digest=served.bundle_digest,
        chains=[_chain(chain, served) for chain in chains],
        default_arm=_default_arm(chains[0]),
        shape=served.manifest.shape,
        decoding=served.decoding,
        also_served=[digest for digest in digests if digest != served.bundle_digest],
        samples_by_default=served.samples_by_default,
    )


def _chain(chain: Chain, served: Served) -> pb.Chain:
    shape = chain.input_shape
    refused = served.refused.get(chain.chain_id, {})
    return pb.Chain(
        modality=modality_to_wire(chain.modality),
        input_shape=pb.InputShape(
            shape_id=shape.shape_id,
            width=shape.width,
            height=shape.height,
            tensor=shape.tensors[0].spec().to_wire(),
            is_tiled=shape.is_tiled,
            samples=shape.samples,
        ),
        split_points=[
            pb.SplitPoint(
                index=point.index,
                label=point.label,
                boundary=[entry.spec().to_wire() for entry in point.tensors],
                raw_bytes=point.raw_bytes,
                served=point.index not in refused,
                reason=refused.get(point.index, ""),
            )
            for point in chain.split_points
        ],
        tail_batching=served.tail_batching.get(chain.chain_id, "one by one"),
        default_arm=_default_arm(chain),
    )


def _default_arm(chain: Chain) -> pb.Arm:
    codec_id, setting = split_codec_name(chain.default_arm.codec)
    return pb.Arm(
        modality=modality_to_wire(chain.modality),
        shape_id=chain.input_shape.shape_id,
        split_point=chain.default_arm.split_point,
        codec_id=codec_id,
        setting=setting,
    )
