"""What a line of the log holds, as text or as JSON: one line per record, and no user's data in any.

A formatter of our own, because it is the guard: only the fields named here are written, and of an exception only its
class and where it was raised, for its text may be a prompt, a path or a token. Libraries write whatever they are given.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cloud_node.asked.request import Request
from wire.errors import MalformedMessage
from wire.limits import check_request_id

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# What a record may say beside its message, given as `extra`.
FIELDS = (
    "request_id",
    "tenant",
    "model",
    "trace_id",
    "outcome",
    "cache",
    "duration_s",
    "tokens",
    "payload_bytes",
)
# Those of this house; other packages are heard from `warning` on.
_OURS = ("cleave", "cloud_node", "partitioner", "splitmodel", "wire")
_MAX_FRAMES = 12


def about(request: Request) -> dict[str, str]:
    """The `extra` of every line about a request."""
    known = {"request_id": request.request_id, "tenant": request.tenant.name, "model": request.model}
    if request.trace is not None:
        known["trace_id"] = request.trace.trace_id
    return {name: value for name, value in known.items() if value}


def about_unknown(request_id: str) -> dict[str, str]:
    """The same of what is no request; what an edge calls it is said only where it can be an id."""
    try:
        return {"request_id": check_request_id(request_id)}
    except MalformedMessage:
        return {}


def start_logging(log_format: LogFormat = "text", level: LogLevel = "info") -> None:
    """From now on all that is logged, warned of or raised in a thread is a line on standard error."""
    # Nothing of what these find out is ever written, and it takes a sixth of a line's time (Logging HOWTO).
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        setattr(logging, name, None)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed


class TextLines(logging.Formatter):
    """For people: time, level, logger, message, and the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        known = _known(record)
        head = [known.pop(name) for name in ("time", "level", "logger")]
        message = known.pop("message")
        fields = [f"{name}={_one_line(value)}" for name, value in known.items()]
        return " ".join([*head, _one_line(message), *fields])


class JsonLines(logging.Formatter):
    """For machines: one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_known(record))


def _known(record: logging.LogRecord) -> dict[str, Any]:
    made = datetime.fromtimestamp(record.created, UTC)
    known: dict[str, Any] = {
        "time": made.isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    known |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
    if record.exc_info and (error := record.exc_info[1]) is not None:
        known["error"] = " from ".join(type(one).__name__ for one in _chain(error))
        known["raised"] = _frames(error)
    return known


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found and len(found) < _MAX_FRAMES:
        found.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return found


def _frames(error: BaseException) -> list[str]:
    """Where it was raised, the innermost first: file, line and function, and nothing of what they held."""
    frames = [
        f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return frames[: -_MAX_FRAMES - 1 : -1]


def _one_line(value: Any) -> str:
    """What a peer said may hold line breaks, and must not look like a line of its own."""
    text = " < ".join(value) if isinstance(value, list) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    error = failed.exc_value
    logging.getLogger("cleave").error(
        "a thread failed", exc_info=(failed.exc_type, error, failed.exc_traceback) if error else None
    )
