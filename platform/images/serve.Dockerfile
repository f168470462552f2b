# The serve image: NVIDIA's TensorRT-LLM, and Ray Serve and Tuneyard in the versions of constraints/serve.txt.
# Linted, never built yet: no machine of ours has a container engine.
#
#   docker build -f platform/images/serve.Dockerfile -t tuneyard-serve .
#
# Python's minor version (3.12 in both images) and Ray's version must be the same on every node of a cluster.
ARG TENSORRT_LLM_IMAGE=nvcr.io/nvidia/tensorrt-llm/release:1.2.1
# hadolint ignore=DL3006
FROM ${TENSORRT_LLM_IMAGE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# What Ray's cluster launcher uses inside the head's container: it starts the other nodes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client rsync \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/tuneyard
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY platform platform
COPY serve_apps serve_apps
# TensorRT-LLM pins datasets, fastapi and openai-harmony for its own server, which is not used here: Ray Serve and the
# prompts of training need other ones, and pip says so and goes on. Its torch and what hangs on it stay as they are.
RUN pip freeze | grep -iE '^(torch|torchvision|triton|numpy|nvidia-|flashinfer|tensorrt|xgrammar|llguidance)[a-z0-9_-]*(==| @)' \
        | grep -v ' @ ' > /tmp/image.txt || true; \
    before=$(python -c "import torch; print(torch.__version__)") \
    && pip install --no-cache-dir -c constraints/serve.txt -c /tmp/image.txt ".[serve]" boto3 google-api-python-client \
    && python -c "import importlib.metadata as m, sys, torch; \
assert torch.__version__ == sys.argv[1], torch.__version__; \
assert m.version('tensorrt_llm') == '1.2.1', m.version('tensorrt_llm'); \
assert m.version('transformers') == '4.57.3', m.version('transformers'); \
assert m.version('numpy').startswith('1.'), m.version('numpy')" "$before"
# The rooms run from here: python -m serve_apps.deploy; replicas find them on every node of this image.
ENV PYTHONPATH=/opt/tuneyard

RUN useradd --create-home --uid 10001 tuneyard
USER 10001
WORKDIR /opt/tuneyard
ENV TUNEYARD_HOME=/home/tuneyard/.tuneyard
