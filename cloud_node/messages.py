"""What the cloud knows, as messages of the wire. Pure."""

from __future__ import annotations

from cloud_node.request import Bounds, Served
from cloud_node.sequence import Finished, FinishReason, StepTimes
from wire import limits
from wire.codecs import codec_infos, parse_codec
from wire.modality import modality_to_wire
from wire.v1 import inference_pb2 as pb

_FINISH_REASONS = {
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


def ack_message(request_id: str, received_bytes: int, now_s: float) -> pb.Down:
    return pb.Down(ack=pb.Ack(request_id=request_id, received_bytes=received_bytes, server_time_s=now_s))


def have_answer_message(request_id: str, received_bytes: int, num_tokens: int) -> pb.Down:
    have = pb.Have(
        request_id=request_id,
        what=pb.Have.WHAT_ANSWER,
        received_bytes=received_bytes,
        received_tokens=num_tokens,
    )
    return pb.Down(have=have)


def have_features_message(request_id: str, received_bytes: int) -> pb.Down:
    have = pb.Have(request_id=request_id, what=pb.Have.WHAT_FEATURES, received_bytes=received_bytes)
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


def describe_reply(served: Served, bounds: Bounds, server_version: str) -> pb.DescribeReply:
    arm = served.manifest.default_arm
    codec = parse_codec(arm.codec)
    model = pb.Model(
        name=served.name,
        bundle_digest=served.bundle_digest,
        chains=[_chain(served)],
        default_arm=pb.Arm(
            modality=modality_to_wire(arm.modality),
            shape_id=arm.shape_id,
            split_point=arm.split_point,
            codec_id=codec.codec_id,
            setting=codec.setting,
        ),
    )
    return pb.DescribeReply(
        server_version=server_version,
        protocol_version=limits.PROTOCOL_VERSION,
        models=[model],
        codecs=codec_infos(),
        limits=bounds.limits.to_wire(),
    )


def _chain(served: Served) -> pb.Chain:
    shape = served.chain.input_shape
    return pb.Chain(
        modality=modality_to_wire(served.chain.modality),
        input_shape=pb.InputShape(
            shape_id=shape.shape_id,
            width=shape.width,
            height=shape.height,
            tensor=shape.tensor.spec().to_wire(),
        ),
        split_points=[
            pb.SplitPoint(
                index=point.index,
                label=point.label,
                boundary=[entry.spec().to_wire() for entry in point.tensors],
                raw_bytes=point.raw_bytes,
                served=point.index not in served.refused,
                reason=served.refused.get(point.index, ""),
            )
            for point in served.chain.split_points
        ],
        tail_batching=served.tail_batching,
    )
