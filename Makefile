# Every target makes .venv and installs what is missing by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN := PYTHONPATH=platform:. PYTHONWARNINGS=ignore $(BIN)/python
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
INPUTS := pyproject.toml constraints/default.txt
COMPAT := .venv-compat
COMPAT_STAMP := $(COMPAT)/.installed
TRITON := .venv-triton
TRITON_STAMP := $(TRITON)/.installed
NEMO := .venv-nemo
NEMO_STAMP := $(NEMO)/.installed

.PHONY: help demo demo-check test test-fast test-compat test-gpu check bench nemo-env test-nemo clean

help:
	@echo "make demo        finetune, serve and chat on this machine; Ctrl-C ends it"
	@echo "make demo-check  the same, ends by itself; the exit code says whether it worked"
	@echo "make test        all tests       make test-fast  without Ray and servers"
	@echo "make check       ruff, mypy, import rules, layout"
	@echo "make bench       the README's figures"
	@echo "make test-compat checkpoints in the transformers that TensorRT-LLM pins, Triton's front; own environments (2 GB)"
	@echo "make test-nemo   NeMo, in .venv-nemo, which make nemo-env makes (3 GB)"
	@echo "make test-gpu    on a GPU node, GPU_PYTHON=…: real TensorRT-LLM against its contract, engines, figures"
	@echo "options          ARGS=\"--port 8001 --ui-port 7861\" for demo, PYTHON=python3.12 for the first run"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"Tuneyard needs Python 3.11 or 3.12, found {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11 …")'
	$(PYTHON) -m venv $(VENV)

# Where it is set, each of the many processes would compile torch and the rest anew.
unexport PYTHONDONTWRITEBYTECODE

# Without --no-compile pip would byte-compile every package, a minute for files that are mostly never imported.
$(STAMP): $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/default.txt -e '.[gguf,serve,embedded,ui]'
	@touch $@

$(DEV_STAMP): $(INPUTS) $(STAMP)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/default.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(RUN) -m tuneyard.cli.demo $(ARGS)

demo-check: $(STAMP)
	@$(RUN) -m tuneyard.cli.demo --check $(ARGS)

test: test-fast
	$(BIN)/python -m pytest -m integration $(ARGS)

test-fast: $(DEV_STAMP)
	$(BIN)/python -m pytest -m "not integration and not compat" -n 2 $(ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint platform/images/*.Dockerfile
	$(BIN)/mypy platform/tuneyard jobs serve_apps ui
	PYTHONPATH=platform:. $(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_layout.py

bench: $(DEV_STAMP)
	@$(RUN) -m tests.bench $(ARGS)

# gpt-oss: OpenAI's reference model, an oracle for the tests; it asks for Python 3.12 and more, and runs on 3.11.
$(COMPAT_STAMP): constraints/compat.txt | $(BIN)/python
	$(BIN)/python -m venv $(COMPAT)
	$(COMPAT)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/compat.txt torch transformers accelerate
	$(COMPAT)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --ignore-requires-python gpt-oss==0.0.9
	@touch $@

$(TRITON_STAMP): constraints/triton.txt | $(BIN)/python
	$(BIN)/python -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/triton.txt nvidia-pytriton torch transformers accelerate llguidance pydantic pyyaml ruamel.yaml filelock platformdirs openai-harmony bpe-openai httpx
	@touch $@

test-compat: $(COMPAT_STAMP) $(TRITON_STAMP) $(DEV_STAMP)
	$(BIN)/python -m pytest -m compat $(ARGS)

$(NEMO_STAMP): pyproject.toml constraints/nemo.txt | $(BIN)/python
	$(BIN)/python -m venv $(NEMO)
	$(NEMO)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/nemo.txt -e '.[nemo,test]'
	$(NEMO)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --ignore-requires-python gpt-oss==0.0.9
	@touch $@

nemo-env: $(NEMO_STAMP)

# The default environment too: what NeMo trained is served there.
# NeMo and what it imports warn by the dozen, so warnings are no errors here.
test-nemo: $(NEMO_STAMP) $(STAMP)
	$(NEMO)/bin/python -m pytest -W ignore --show-capture=no -n 2 --ignore=tests/nemo/test_on_ray.py tests/nemo $(ARGS)
	$(NEMO)/bin/python -m pytest -W ignore --show-capture=no tests/nemo/test_on_ray.py $(ARGS)

# On a node with a GPU, in the serve image or any environment that has PyTorch with CUDA and our extra `test`.
GPU_PYTHON ?= python3
test-gpu:
	@$(GPU_PYTHON) -c 'import hypothesis, psutil, pytest, pytest_asyncio, torch' || (echo "$(GPU_PYTHON) lacks what the tests need: $(GPU_PYTHON) -m pip install -e '.[test]', or GPU_PYTHON=/path/to/python"; exit 1)
	PYTHONPATH=platform:. $(GPU_PYTHON) -m pytest -W ignore -m gpu -rs tests/gpu $(ARGS)

clean:
	rm -rf $(VENV) $(NEMO) $(COMPAT) $(TRITON) .mypy_cache .ruff_cache .pytest_cache .hypothesis
