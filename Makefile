# make demo and make test do all their own set-up. PYTHON and PIP_ARGS are passed to requirements/install.sh.
VENV ?= .venv
STACK ?= cpu
export PYTHON PIP_ARGS

.PHONY: demo test test-all unit lint setup flash-attn clean

demo: setup  ## the whole chain on this machine; files in runs/demo
	$(VENV)/bin/openrlhf-math demo --run-dir $(or $(RUN_DIR),runs/demo)

# Two at once: most of a test of engines is waiting for one to start. A file stays with one worker, as its engines do.
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: lint  ## unit tests, and the real Ray, vLLM and DeepSpeed
	$(PYTEST) -m "not slow"

test-all: lint  ## the same, and what takes minutes more
	$(PYTEST)

unit: setup  ## only what takes seconds
	$(PYTEST) tests/unit

lint: setup  ## style, and types; half a minute the first time, a second after
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

setup: $(VENV)/.$(STACK)-installed

# The stamp comes last, so that an interrupted installation is taken up again.
$(VENV)/.$(STACK)-installed: $(wildcard requirements/*) setup.py pyproject.toml
	@requirements/install.sh $(STACK) $(VENV)
	@touch $@

flash-attn:  ## an extra of the gpu stack, for ring attention; compiles for up to an hour, with nvcc
	$(VENV)/bin/python -m pip install $(PIP_ARGS) --no-deps --no-build-isolation -r requirements/gpu-flash-attn.txt

clean:  ## runs are kept
	rm -rf $(VENV) .mypy_cache build *.egg-info
