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

WORKDIR /opt/tuneyard
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY platform platform
# TensorRT-LLM pins fastapi and openai-harmony for its own server, which is not used here: Ray Serve and the prompts of
# training need later ones. pip says so and goes on; everything else that it pins is in the constraints, and is checked.
RUN pip install --no-cache-dir -c constraints/serve.txt ".[serve]" \
    && python -c "import importlib.metadata as m; v = m.version; \
assert v('tensorrt_llm') == '1.2.1', v('tensorrt_llm'); \
assert v('transformers') == '4.57.3', v('transformers'); \
assert v('numpy').startswith('1.'), v('numpy'); \
assert v('torch').startswith(('2.9.1', '2.9.2')), v('torch')"

RUN useradd --create-home --uid 10001 tuneyard
USER 10001
WORKDIR /home/tuneyard
