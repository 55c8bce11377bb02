"""What is told of a request that has ended: to the metrics, to the log, and to whoever traces."""

from __future__ import annotations

import logging
import time

from cloud_node.asked.sequence import Finished, StepTimes
from cloud_node.streams.host import Host
from cloud_node.streams.opened import OpenRequest
from cloud_node.telemetry.log_lines import about, about_unknown
from cloud_node.telemetry.spans import Ended
from wire.errors import CleaveError

_log = logging.getLogger(__name__)


def tell_done(host: Host, opened: OpenRequest, finished: Finished, times: StepTimes) -> None:
    host.metrics.request_ended("done", opened.cache_use)
    host.metrics.answered(times, finished.prompt_tokens, finished.generated_tokens, opened.ttft_s)
    _tell(host, opened, "done", times, finished.prompt_tokens, finished.generated_tokens)


def tell_failed(host: Host, opened: OpenRequest, error: CleaveError) -> None:
    outcome = error.code.name.lower()
    host.metrics.request_ended(outcome, opened.cache_use)
    _tell(host, opened, outcome, StepTimes(), 0, opened.num_said)


def tell_refused(host: Host, request_id: str, error: CleaveError) -> None:
    """Of an Open that became no request. What its edge traces says so, too: there is no span of it here."""
    outcome = error.code.name.lower()
    host.metrics.request_ended(outcome, "miss")
    host.metrics.request_refused(outcome)
    _log.info("request refused", extra={**about_unknown(request_id), "outcome": outcome})


def _tell(
    host: Host, opened: OpenRequest, outcome: str, times: StepTimes, prompt_tokens: int, tokens: int
) -> None:
    now_s = time.monotonic()
    request, received = opened.request, sum(opened.received_bytes)
    facts = {
        "outcome": outcome,
        "cache": opened.cache_use,
        "duration_s": round(now_s - opened.opened_s, 6),
        "tokens": tokens,
        "payload_bytes": received,
    }
    _log.info("request ended", extra={**about(request), **facts})
    ended = Ended(
        request, opened.opened_s, opened.ready_s, now_s, outcome, opened.cache_use, times, received,
        prompt_tokens, tokens,
    )  # fmt: skip
    host.spans.tell(ended)
