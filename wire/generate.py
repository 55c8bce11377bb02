"""Writes the stubs in wire/v1 from proto/wire/v1/inference.proto: `python -m wire.generate [folder]`.

Needs the development dependencies (grpcio-tools, mypy-protobuf). The stubs are committed.
"""

import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = "wire/v1/inference.proto"


def generate(out: Path) -> None:
    """Write `wire/v1/inference_pb2{,_grpc}.{py,pyi}` under the folder `out`.

    Raises RuntimeError if protoc refuses the file.
    """
    from grpc_tools import protoc

    scripts = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={ROOT / 'proto'}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        PROTO,
    ]
    status = protoc.main(arguments)
    if status != 0:
        raise RuntimeError(f"protoc ended with status {status} on {PROTO}; its message is above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
