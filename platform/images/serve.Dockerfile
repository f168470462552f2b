# The serve image: NVIDIA's TensorRT-LLM, with Ray Serve and Tuneyard in the versions of constraints/serve.txt.
# Linted, but not built yet: our machines have no container engine.
#
#   docker build -f platform/images/serve.Dockerfile -t tuneyard-serve .
#
# All nodes of a cluster must have the same version of Ray and the same minor version of Python (3.12 in both images).
ARG TENSORRT_LLM_IMAGE=nvcr.io/nvidia/tensorrt-llm/release:1.2.1
# hadolint ignore=DL3006
FROM ${TENSORRT_LLM_IMAGE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Ray's cluster launcher uses these inside the head's container to start the other nodes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client rsync \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/tuneyard
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY platform platform
COPY serve_apps serve_apps
# TensorRT-LLM pins datasets, fastapi and openai-harmony for its own server, which is not used here. Ray Serve and the
# prompt renderer need other versions; pip reports the conflict and continues. torch and the packages that depend on its
# version stay as NVIDIA installed them.
RUN pip freeze | grep -iE '^(torch|torchvision|triton|numpy|nvidia-|flashinfer|tensorrt|xgrammar|llguidance)[a-z0-9_-]*(==| @)' \
        | grep -v ' @ ' > /tmp/image.txt || true; \
    before=$(python -c "import torch; print(torch.__version__)") \
    && pip install --no-cache-dir -c constraints/serve.txt -c /tmp/image.txt ".[serve]" boto3 google-api-python-client \
    && python -c "import importlib.metadata as m, sys, torch; \
assert torch.__version__ == sys.argv[1], torch.__version__; \
assert m.version('tensorrt_llm') == '1.2.1', m.version('tensorrt_llm'); \
assert m.version('transformers') == '4.57.3', m.version('transformers'); \
assert m.version('numpy').startswith('1.'), m.version('numpy')" "$before"
# serve_apps is run from this folder (python -m serve_apps.deploy); replicas import it from here on every node.
ENV PYTHONPATH=/opt/tuneyard

RUN useradd --create-home --uid 10001 tuneyard
USER 10001
WORKDIR /opt/tuneyard
ENV TUNEYARD_HOME=/home/tuneyard/.tuneyard
