"""The demo's edge process: asks each question in its plan, and tells what happens as lines of JSON.

python -m cleave.demo.edge ADDRESS < plan.json
"""

from __future__ import annotations

import json
import sys

from edge_node.blocking import EdgeNode
from edge_node.trust import BundleTrust
from wire.errors import CleaveError


def main() -> int:
    plan = json.load(sys.stdin)
    try:
        with EdgeNode(sys.argv[1], trust=BundleTrust(pins=False)) as edge:
            for index, item in enumerate(plan):
                answer = edge.ask(
                    item["question"], item["image"], split=item["split_point"], codec=item["codec"]
                )
                for text in answer:
                    _tell({"index": index, "text": text})
                _tell({"index": index, "report": answer.report.to_dict()})
    except CleaveError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _tell(event: dict[str, object]) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main())
