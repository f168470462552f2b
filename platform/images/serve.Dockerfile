# The serve image: NVIDIA's TensorRT-LLM, with Ray Serve and Tuneyard in the versions of constraints/serve.txt.
# Linted, but not built yet: our machines have no container engine.
#
#   docker build -f platform/images/serve.Dockerfile -t tuneyard-serve .
#
# All nodes of a cluster must have the same version of Ray and the same minor version of Python (3.12 in both images).
# The hosts need NVIDIA's driver 580 or newer (train.Dockerfile explains it).
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
# NVIDIA's images since 25.03 set PIP_CONSTRAINT to a list of their own (its release notes, "PyTorch container"), which contradicts
# what is installed here. /tmp/image.txt replaces it: what NVIDIA installed and compiled against stays, numpy included, whose major
# version TensorRT-LLM's wheel and NVIDIA's image of it do not agree on (PR 12904).
# TensorRT-LLM pins datasets, fastapi and openai-harmony for its own server, which is not used here. Ray Serve and the
# prompt renderer need other versions; pip reports the conflict and continues.
ENV PIP_CONSTRAINT=
RUN python -c "import importlib.metadata as m, re; \
kept = re.compile('(torch|torchvision|triton|numpy|nvidia|flashinfer|tensorrt|xgrammar|llguidance)([-_].*|[a-z0-9]*)', re.I); \
print(*sorted({f'{d.name}=={d.version}' for d in m.distributions() if d.name and kept.fullmatch(d.name)}), sep='\n')" > /tmp/image.txt \
    && grep -q '^numpy==' /tmp/image.txt && grep -q '^torch==' /tmp/image.txt \
    && pip install --no-cache-dir -c constraints/serve.txt -c /tmp/image.txt ".[serve,redis,postgresql,otel]" boto3 google-api-python-client \
    && python -c "import importlib.metadata as m, pathlib, torch, numpy; \
image = dict(line.split('==') for line in pathlib.Path('/tmp/image.txt').read_text().split()); \
changed = {name: m.version(name) for name in image if m.version(name) != image[name]}; \
assert not changed, changed; \
assert m.version('tensorrt_llm') == '1.2.1', m.version('tensorrt_llm'); \
assert m.version('transformers') == '4.57.3', m.version('transformers')"
# serve_apps is run from this folder (python -m serve_apps.deploy); replicas import it from here on every node.
ENV PYTHONPATH=/opt/tuneyard
# Ray Serve's proxies and replicas limit the time and size of request headers (docs/security.md).
ENV RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=tuneyard.api.header_limits:install_in_uvicorn
# Ray Serve's HAProxy cuts answers 120 s after a replica starts or stops; answers may take 600 s (answer_timeout_s).
ENV RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=630
# Ray Serve passes the tokens of streams on without a thread between, and by gRPC (tuneyard/cluster/serve_streams.py).
ENV RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD=0 \
    RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=0 \
    RAY_SERVE_USE_GRPC_BY_DEFAULT=1 \
    RAY_SERVE_PROXY_USE_GRPC=0
# TensorRT-LLM starts Open MPI also for one GPU. In a container with the host's network, Open MPI may choose an interface on which
# it cannot reach itself, and LLM() hangs. All ranks of an engine are on one node, so loopback is enough
# (docs.open-mpi.org: btl_tcp_if_include; TensorRT-LLM's troubleshooting page).
ENV OMPI_MCA_btl_tcp_if_include=lo \
    OMPI_MCA_oob_tcp_if_include=lo

RUN useradd --create-home --uid 10001 tuneyard
USER 10001
WORKDIR /opt/tuneyard
ENV TUNEYARD_HOME=/home/tuneyard/.tuneyard
