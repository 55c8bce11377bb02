"""A cloud node whose model does nothing: python -m bench.programs.noop_cloud BUNDLE '{"cache_bytes": 0}'."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from bench.noop import MODEL, NoopRunner
from cloud_node.asked.served import Served
from cloud_node.config import CloudConfig
from cloud_node.ready import Ready
from cloud_node.server import SWITCH_S, CloudServer
from cloud_node.telemetry.log_lines import start_logging
from wire.manifest import MANIFEST_NAME, bundle_digest, load_manifest


async def main(bundle: Path, config: CloudConfig) -> None:
    """Until SIGTERM."""
    data = (bundle / MANIFEST_NAME).read_bytes()
    served = Served(MODEL, load_manifest(data), bundle_digest(data))
    server = CloudServer(config, [Ready(served, NoopRunner(), bundle)])
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    print(f"listening on {await server.start()}", flush=True)
    await ending.wait()
    await server.stop()


if __name__ == "__main__":
    start_logging("text", "info")
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(main(Path(sys.argv[1]), CloudConfig(listen="127.0.0.1:0", **json.loads(sys.argv[2]))))
