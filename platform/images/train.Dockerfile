# The train image: CUDA, PyTorch and TransformerEngine, with NeMo and Ray in the versions of constraints/nemo.txt.
# Linted, but not built yet: our machines have no container engine.
#
#   docker build -f platform/images/train.Dockerfile -t tuneyard-train .
#   docker build … --build-arg EFA_INSTALLER=VERSION         with libfabric and aws-ofi-nccl, for more than one AWS node
#
# All nodes of a cluster must have the same version of Ray and the same minor version of Python.
#
# The hosts need NVIDIA's driver 580 or newer: CUDA 13 runs on no older one (CUDA Toolkit Release Notes, table 3), and
# `docker exec` and KubeRay skip the entrypoint that would select NVIDIA's compatibility libraries. `tuneyard cluster doctor`
# checks it.
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04
# hadolint ignore=DL3006
FROM ${CUDA_IMAGE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Ubuntu 24.04 has Python 3.12. The compilers build TransformerEngine against the CUDA of the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates cmake curl git ninja-build \
        openssh-client python3 python3-dev python3-venv rsync \
    && rm -rf /var/lib/apt/lists/*

# libfabric and the NCCL plugin for EFA (docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-start-nccl.html). The kernel module is
# the host's. Without them NCCL uses TCP between nodes.
ARG EFA_INSTALLER=
RUN if [ -n "${EFA_INSTALLER}" ]; then \
        curl -fsSL "https://efa-installer.amazonaws.com/aws-efa-installer-${EFA_INSTALLER}.tar.gz" | tar -xz -C /tmp \
        && apt-get update \
        && env -C /tmp/aws-efa-installer ./efa_installer.sh -y -g --skip-kmod --skip-limit-conf --no-verify \
        && rm -rf /tmp/aws-efa-installer /var/lib/apt/lists/*; \
    fi

ENV PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv
# An image from NVIDIA's catalogue, given as CUDA_IMAGE, would apply its own pip constraints to every install.
ENV PIP_CONSTRAINT=

WORKDIR /opt/tuneyard
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY platform platform
# TransformerEngine is compiled against the torch that is installed here, so without build isolation; then its setup needs what
# isolation would install, and a venv of Python 3.12 has neither setuptools nor wheel (its pyproject.toml: build-system.requires).
# 2.9 is the version that megatron-core 0.15.3 names (`transformer-engine>=2.9.0a0,<2.10.0` in its extra `dev`).
# Each compiler process takes about 4 GB of memory; without a limit ninja starts one per CPU.
ARG MAX_JOBS=8
RUN pip install --no-cache-dir -c constraints/nemo.txt ".[nemo]" \
    && pip install --no-cache-dir -c constraints/nemo.txt setuptools wheel packaging pybind11 \
    && NVTE_FRAMEWORK=pytorch MAX_JOBS="${MAX_JOBS}" NVTE_BUILD_THREADS_PER_JOB=2 pip install --no-cache-dir --no-build-isolation \
        -c constraints/nemo.txt "transformer-engine[pytorch]==2.9.0" \
    && python -c "import importlib.metadata as m; assert m.version('transformer-engine') == '2.9.0'; \
assert m.version('numpy').startswith('1.'), m.version('numpy')"

RUN useradd --create-home --uid 10001 tuneyard
USER 10001
WORKDIR /home/tuneyard
