# The train image: CUDA, PyTorch and TransformerEngine, with NeMo and Ray in the versions of constraints/nemo.txt.
# Linted, but not built yet: our machines have no container engine.
#
#   docker build -f platform/images/train.Dockerfile -t tuneyard-train .
#
# All nodes of a cluster must have the same version of Ray and the same minor version of Python.
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04
# hadolint ignore=DL3006
FROM ${CUDA_IMAGE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Ubuntu 24.04 has Python 3.12. The compilers build TransformerEngine against the CUDA of the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake git ninja-build \
        openssh-client python3 python3-dev python3-venv rsync \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv

WORKDIR /opt/tuneyard
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY platform platform
RUN pip install --no-cache-dir -c constraints/nemo.txt ".[nemo]" \
    && NVTE_FRAMEWORK=pytorch pip install --no-cache-dir --no-build-isolation -c constraints/nemo.txt \
        "transformer-engine[pytorch]>=2.8,<3"

RUN useradd --create-home --uid 10001 tuneyard
USER 10001
WORKDIR /home/tuneyard
