"""A device says the same id for ever, and is one device even where it cannot keep it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_node.addresses import check_address, target_of
from edge_node.edge_id import check_edge_id, kept_edge_id
from wire.errors import BadInput


def test_id_is_kept(tmp_path: Path) -> None:
    made = kept_edge_id(tmp_path / "bundles")
    assert check_edge_id(made) == made
    assert kept_edge_id(tmp_path / "bundles") == made
    assert kept_edge_id(tmp_path / "others") != made
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["edge_id"]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    code = "from pathlib import Path; from edge_node import edge_id; "
    code += f"print(edge_id.kept_edge_id(Path({str(tmp_path)!r})))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", b"x" * 65])
def test_file_that_holds_no_id_costs_nothing_but_the_id(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "edge_id").write_bytes(content)
    assert check_edge_id(kept_edge_id(tmp_path))


def test_folder_that_cannot_be_written_costs_nothing_but_the_id(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert check_edge_id(kept_edge_id(tmp_path / "file" / "bundles"))


@pytest.mark.parametrize("edge_id", ["", "a b", "ü", "x" * 65])
def test_id_that_no_message_can_say_is_refused(edge_id: str) -> None:
    with pytest.raises(BadInput, match="edge id"):
        check_edge_id(edge_id)


def test_one_address_is_a_name_and_several_are_a_list() -> None:
    assert target_of("cloud.example:50051") == "cloud.example:50051"
    assert target_of("10.0.0.1:1, 10.0.0.2:2") == "ipv4:10.0.0.1:1,10.0.0.2:2"
    assert target_of("[::1]:1,[::2]:2") == "ipv6:[::1]:1,[::2]:2"


@pytest.mark.parametrize("text", ["a:1,b:2", "10.0.0.1:1,[::1]:2", "10.0.0.1:1,", "10.0.0.1:1,10.0.0.2"])
def test_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        check_address(text)
