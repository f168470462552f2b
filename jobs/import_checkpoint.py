"""GPT-OSS weights into NeMo 2 format, on a machine with a GPU and NeMo's environment (`make nemo-env`).

python -m jobs.import_checkpoint hf:///models/gpt-oss-20b /models/nemo/gpt-oss-20b
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.checkpoint import staging_folder
from tuneyard.command import run_command
from tuneyard.errors import CheckpointError, ClusterError

SCHEMES = ("hf", "openai")
EPILOG = """\
SOURCE is hf:// and the folder of a Hugging Face checkpoint (BF16 or MXFP4 experts), or openai:// and the folder of
OpenAI's original weights, with the model's tokenizer.json beside them. Sizes come from its config.json, so that
any GPT-OSS is imported, not the two published ones only. A third slash begins an absolute path.

examples:
  python -m jobs.import_checkpoint hf:///models/gpt-oss-20b /models/nemo/gpt-oss-20b
  python -m jobs.import_checkpoint openai:///models/gpt-oss-120b/original /models/nemo/gpt-oss-120b
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.import_checkpoint",
        description="Import GPT-OSS weights into NeMo 2 format.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="hf://FOLDER or openai://FOLDER")
    parser.add_argument("target", metavar="TARGET", type=Path, help="a folder that does not exist yet")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _on_gpu(arguments.source, arguments.target))


def import_checkpoint(source: str, target: Path) -> None:
    """Writes `source` to `target`, which appears whole or not at all.

    Raises CheckpointError for a source that is none or a target that exists, StorageFullError when the disk is
    full, MissingDependencyError without NeMo.
    """
    scheme, folder = parse_source(source)
    from jobs.nemo_fixes import apply_fixes

    apply_fixes()
    from nemo.collections import llm

    from jobs.nemo_connectors import IMPORTERS, register

    register()
    with staging_folder(target) as staging:
        written = staging / "checkpoint"  # NeMo imports into a folder that does not exist
        llm.import_ckpt(
            model=llm.GPTOSSModel(IMPORTERS[scheme](str(folder)).config),
            source=f"{scheme}://{folder}",
            output_path=written,
        )
        written.rename(target)


def parse_source(source: str) -> tuple[str, Path]:
    """Scheme and folder of a source. Raises CheckpointError when it is not one, or holds no weights."""
    scheme, separator, path = source.partition("://")
    if not separator or scheme not in SCHEMES:
        raise CheckpointError(f"{source}: expected hf://FOLDER or openai://FOLDER.")
    folder = Path(path).absolute()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise CheckpointError(f"{source}: {folder} holds no config.json with *.safetensors beside it.")
    return scheme, folder


def _on_gpu(source: str, target: Path) -> None:
    parse_source(source)
    import torch

    if not torch.cuda.is_available():
        raise ClusterError("NeMo imports checkpoints on machines with a CUDA GPU only; this one has none.")
    import_checkpoint(source, target)
    print(f"imported {source} to {target}")


if __name__ == "__main__":
    sys.exit(main())
