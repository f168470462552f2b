"""Runs in .venv-triton: deploys and serves a checkpoint with Export-Deploy's calls.

python triton_server.py ENGINE CHECKPOINT HTTP_PORT
"""

from __future__ import annotations

import sys

from serve_apps.export_deploy.deployable import TensorRTLLMAPIDeployable
from serve_apps.export_deploy.triton_front import DeployPyTriton
from tuneyard.configs.engine import EngineConfig

SCRIPT = ((72, 73), (74, 75, 76))


def main() -> None:
    """Serves until SIGTERM, then prints STOPPED."""
    name, checkpoint, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    engine = EngineConfig.model_validate({"engine": name, **({"script": SCRIPT} if name == "scripted" else {})})
    with TensorRTLLMAPIDeployable(hf_model_id_path=checkpoint, engine=engine) as deployable:
        front = DeployPyTriton(model=deployable, triton_model_name="gpt-oss", http_port=port, allow_grpc=False)
        front.deploy()
        front.serve()
    print("STOPPED", flush=True)


if __name__ == "__main__":
    main()
