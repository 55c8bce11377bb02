"""The demo: its plan covers the chain, and as JSON it prints one object and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cleave.demo.main import plan

SAMPLES = [{"image": f"{i}.png", "question": "?", "answer": "!"} for i in range(9)]
STEPS = {"encode", "codec", "upload", "queue", "tail", "prefill", "first_token", "total"}


def test_the_plan_starts_at_the_default_arm_and_reaches_both_ends_of_the_chain():
    items = plan(SAMPLES, 19, None)
    assert (items[0]["split_point"], items[0]["codec"]) == (None, None)
    points = [item["split_point"] for item in items[1:-1]]
    assert (points[0], points[-1]) == (0, 18)
    assert points == sorted(set(points))
    assert len({item["codec"] for item in items}) > 3


def test_the_plan_takes_one_codec_for_all_where_it_is_given():
    assert {item["codec"] for item in plan(SAMPLES, 19, "raw")} == {"raw"}


def test_the_plan_asks_twice_about_the_last_picture_and_repeats_its_first_question():
    samples = [*SAMPLES, {"image": "8.png", "question": "and?", "answer": "?"}]
    *_, first, second, again = plan(samples, 19, None)
    assert again == first
    assert (second["image"], second["question"]) == ("8.png", "and?")
    assert (
        (second["split_point"], second["codec"])
        == (first["split_point"], first["codec"])
        == (18, "int8:token+zstd")
    )


@pytest.mark.slow
def test_the_demo_as_json_prints_one_object_with_every_answer_as_expected(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "cleave.cli", "demo", "--json"],
        capture_output=True, text=True, timeout=240, env={**os.environ, "CLEAVE_CACHE": str(tmp_path)},
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert told["ok"] is True
    assert told["cache_in"] == "redis"
    assert len(told["answers"]) >= 6
    for answer in told["answers"]:
        assert answer["answer"] == answer["expected"]
        assert answer["jpeg_bytes"] > 0
        assert answer["ms"]["first_token"] <= answer["ms"]["total"]
    *fresh, second, again = told["answers"]
    for answer in fresh:
        assert answer["cache"] == "miss"
        assert 0 < answer["uploaded_bytes"] == answer["feature_bytes"] < answer["sent_bytes"]
        assert set(answer["ms"]) >= STEPS
    assert (second["cache"], again["cache"]) == ("features", "answer")
    for answer in (second, again):
        assert answer["uploaded_bytes"] == 0 < answer["sent_bytes"] < 2048
    assert again["answer"] == fresh[-1]["answer"]
    assert len({answer["split_point"] for answer in told["answers"]}) >= 6
