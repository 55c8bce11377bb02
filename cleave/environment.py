"""What libraries read when they are imported: set by importing this, before them. For the command line only."""

import os

# Torch's threads, waiting in a spin, would take the cores from whatever else runs on this machine and make small
# models many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# gRPC tells of lost connections by itself, beside the one sentence that we have for them.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# transformers tells at every answer which of a checkpoint's own settings it passes over.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
