"""The log: one line per record, in either format, with the fields that are named and no user's data."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cloud_node.asked.tenants import Tenant
from cloud_node.asked.trace_context import TraceContext
from cloud_node.telemetry.log_lines import JsonLines, TextLines, about, start_logging
from tests.kit.clouds import SECRET, request_of

_ASKED = replace(
    request_of(SECRET), tenant=Tenant("acme"), model="tiny", trace=TraceContext("a" * 32, "b" * 16, True)
)


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root, hook = logging.getLogger(), threading.excepthook
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logging.getLogger(name).level
        for name in ("cleave", "cloud_node", "partitioner", "splitmodel", "wire")
    }
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)


def record(
    message: str = "request done", error: BaseException | None = None, **fields: object
) -> logging.LogRecord:
    made = logging.LogRecord(
        "cloud_node.streams.stream", logging.INFO, "stream.py", 1, message, (),
        (type(error), error, error.__traceback__) if error else None,
    )  # fmt: skip
    made.__dict__.update(fields)
    return made


def raised() -> Exception:
    """What holds user data, caused by what holds user data."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        return error


def test_json_line_has_the_fields_of_its_request() -> None:
    line = JsonLines().format(record(**about(_ASKED), duration_s=0.25, tokens=3))
    said = json.loads(line)
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "info", "logger": "cloud_node.streams.stream", "message": "request done", "request_id": "r",
        "tenant": "acme", "model": "tiny", "trace_id": "a" * 32, "duration_s": 0.25, "tokens": 3,
    }  # fmt: skip


def test_text_line_has_the_same() -> None:
    line = TextLines().format(record(**about(_ASKED), tokens=3))
    ending = f"request_id=r tenant=acme model=tiny trace_id={'a' * 32} tokens=3"
    assert line.endswith(f" info cloud_node.streams.stream request done {ending}")


def test_what_a_request_has_not_is_not_said() -> None:
    assert about(request_of("hi")) == {"request_id": "r"}


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
def test_exception_is_named_and_placed_and_its_text_goes_nowhere(lines: logging.Formatter) -> None:
    line = lines.format(record("request failed", raised()))
    assert "RuntimeError from KeyError" in line
    assert "telemetry/test_log_lines.py:" in line
    assert " raised" in line
    assert SECRET not in line


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
def test_what_is_not_a_named_field_is_not_written(lines: logging.Formatter) -> None:
    assert SECRET not in lines.format(record(prompt=SECRET, args_given=SECRET))


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
def test_no_peer_can_make_a_line_of_its_own(lines: logging.Formatter) -> None:
    line = lines.format(record("a\n2026 error cloud_node forged\x1b[2J", request_id="r\nforged\u2028"))
    assert line.isprintable()
    assert "\\n" in line


@pytest.mark.usefixtures("_logging_as_before")
def test_our_packages_are_heard_from_the_level_given_and_others_from_warning(
    capfd: pytest.CaptureFixture[str],
) -> None:
    start_logging("json", "debug")
    for name in ("cloud_node.streams.stream", "PIL.PngImagePlugin"):
        for level in (logging.DEBUG, logging.WARNING):
            logging.getLogger(name).log(level, "said")
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(one["logger"], one["level"]) for one in said] == [
        ("cloud_node.streams.stream", "debug"),
        ("cloud_node.streams.stream", "warning"),
        ("PIL.PngImagePlugin", "warning"),
    ]  # fmt: skip


@pytest.mark.usefixtures("_logging_as_before")
def test_thread_that_fails_is_a_line_like_others(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise raised()

    start_logging("json")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["error"] == "RuntimeError from KeyError"
    assert SECRET not in line
