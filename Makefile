# make demo    environment, install, then the main job: pretraining on generated scenes
# make test    environment, install, then lint, types and all tests
# make check   the same without what takes long: an answer to an edit, in minutes
# make coverage   all tests, and which lines none of them runs
#
# PYTHON=python3.12 chooses another Python than the newest that works, VENV=DIR another environment.

VENV ?= .venv
# One with pip's installer before one without; a name that is there but does not run (a pyenv shim of
# a version that is not active) is passed over.
PYTHON ?= $(shell for needed in ensurepip sys; do for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c "import $$needed, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))" 2>/dev/null \
	&& echo $$python && exit; done; done)
BIN := $(VENV)/bin
APT_PACKAGES := libopencv-dev libturbojpeg0-dev pkg-config
APT_OK = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null

.PHONY: demo test check coverage lint clean

demo: $(VENV)/.installed
	$(BIN)/cp2fast pretrain $(if $(wildcard runs/demo/config.yaml),--resume)

test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

check: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m 'not slow'

coverage: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --cov=cp2fast --cov-report=term:skip-covered

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info

# On Debian and Ubuntu the venv module is a package of its own, for each Python.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "no Python from 3.11 to 3.14 runs here: apt-get install python3 python3-venv, or name one with PYTHON=PATH"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
		|| { echo "PYTHON=$(PYTHON) does not run, or is not Python 3.11 to 3.14"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { venv=$$(basename "$$(realpath "$$(command -v $(PYTHON))")")-venv; \
		$(APT_OK) && apt-get update -qq && apt-get install -y -qq $$venv \
		|| { echo "$(PYTHON) has no venv module: apt-get install $$venv"; exit 2; }; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

# FFCV is built from source against system libraries; where they cannot be had, it is left out and
# its tests say so.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@pkg-config --exists opencv4 libturbojpeg 2>/dev/null || { $(APT_OK) && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(APT_PACKAGES) g++ >/dev/null; } \
		|| echo "not root on Debian or Ubuntu: for FFCV run apt-get install $(APT_PACKAGES) g++"
	$(BIN)/pip install --quiet --editable '.[dev]'
	@if pkg-config --exists opencv4 libturbojpeg 2>/dev/null; then $(BIN)/pip install --quiet --editable '.[dev,ffcv]' \
		|| echo "FFCV could not be built: its tests will be skipped"; fi
	@touch $@ $(VENV)/.installed
