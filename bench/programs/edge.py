"""The edge node as a device runs it: python -m bench.programs.edge ADDRESS IMAGE QUESTION SPLIT."""

from __future__ import annotations

import sys

from bench.programs.common import tell
from edge_node.blocking import EdgeNode


def main(address: str, image: str, question: str, split: str) -> None:
    with EdgeNode(address) as edge:
        answer = edge.ask(question, image, split=int(split), codec="raw")
        tell(answer.text())


if __name__ == "__main__":
    main(*sys.argv[1:])
