"""`python -m jobs.import_checkpoint SOURCE TARGET`: converts GPT-OSS weights to NeMo 2 format.

It needs a GPU and NeMo's environment (`make nemo-env`).

python -m jobs.import_checkpoint hf:///models/gpt-oss-20b /models/nemo/gpt-oss-20b
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.core.command import local_path, run_command

EPILOG = """\
SOURCE is hf:// and the folder of a Hugging Face checkpoint (BF16 or MXFP4 experts), or openai:// and the folder of
OpenAI's original weights with the model's tokenizer.json beside them. A third slash starts an absolute path.
Model sizes are read from the source's config.json, so any GPT-OSS can be imported, not only the two published ones.

examples:
  python -m jobs.import_checkpoint hf:///models/gpt-oss-20b /models/nemo/gpt-oss-20b
  python -m jobs.import_checkpoint openai:///models/gpt-oss-120b/original /models/nemo/gpt-oss-120b
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.import_checkpoint",
        description="Convert GPT-OSS weights to NeMo 2 format.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="hf://FOLDER or openai://FOLDER")
    parser.add_argument("target", metavar="TARGET", type=local_path, help="a folder that does not exist yet")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments.source, arguments.target))


def _run(source: str, target: Path) -> None:
    import torch

    from jobs.nemo.checkpoint_import import import_checkpoint, parse_source
    from tuneyard.core.errors import ClusterError

    parse_source(source)
    if not torch.cuda.is_available():
        raise ClusterError("NeMo imports checkpoints on machines with a CUDA GPU only, and this machine has none.")
    import_checkpoint(source, target)
    print(f"imported {source} to {target}")


if __name__ == "__main__":
    sys.exit(main())
