"""Runs in .venv-triton: queries the server with NVIDIA's client, as Export-Deploy's query class does.

python triton_client.py HTTP_PORT PROMPT MAX_LENGTH
"""

from __future__ import annotations

import sys

import numpy as np
from pytriton.client import ModelClient


def main() -> None:
    """Prints the answer."""
    prompt = np.array([[sys.argv[2].encode()]])
    with ModelClient(f"http://127.0.0.1:{sys.argv[1]}", "gpt-oss", init_timeout_s=60) as client:
        result = client.infer_batch(prompts=prompt, max_length=np.full((1, 1), int(sys.argv[3]), dtype=np.int64))
    print(result["sentences"][0, 0].decode())


if __name__ == "__main__":
    main()
