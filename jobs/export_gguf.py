"""`python -m jobs.export_gguf CHECKPOINT --type q8_0`: writes a checkpoint as a GGUF file, proved with llama.cpp.

python -m jobs.export_gguf acme-support@newest --type q8_0
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from jobs.checkpoints.loss_options import add_loss_options
from tuneyard.core.command import local_path, run_command

TYPES = ("mxfp4", "q8_0", "f16", "bf16", "f32")
MAX_ROWS = 32
"""Rows on which the loss is measured by default."""

EPILOG = """\
CHECKPOINT is name@alias or name/version in the registry, or a checkpoint folder: one that you trained, or a base such
as openai/gpt-oss-20b after `tuneyard models adopt`. llama.cpp, Ollama and LM Studio read the file: docs/gguf.md.

types, with the bits of a weight:
  mxfp4   experts 4.25, all else as it is. Changes no value, and needs experts that are MXFP4 already: those of
          openai/gpt-oss, or python -m jobs.quantize CHECKPOINT --format mxfp4. The type for GPT-OSS.
  q8_0    8.5. Small and fast on a CPU, for checkpoints whose experts are not MXFP4.
  bf16    16. What training and Tuneyard's exports hold: changes no value.
  f16     16. For programs that have no bf16.
  f32     32. Changes no value; for comparisons.

The file and FILE.manifest.json appear only if it is proved: llama.cpp loads it, and its log-probabilities on held-out
chats are compared with the checkpoint's in transformers. The manifest holds the loss before and after, the KL
divergence and how often both rank the same token first. If the loss rises by more than --max-loss-increase, nothing is
kept.
Writing needs the memory of one expert; the proof loads the model twice, one after the other.

examples:
  python -m jobs.export_gguf acme-support@newest --type q8_0
  python -m jobs.export_gguf acme-support-mxfp4@newest --type mxfp4 --output acme.gguf
  python -m jobs.export_gguf /models/gpt-oss-20b --type mxfp4 --heldout heldout.jsonl --output gpt-oss-20b.gguf
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parse(argv)
    return run_command(lambda: _run(arguments), on_interrupt="Interrupted. No half-written file was left.")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.export_gguf",
        description="Write a checkpoint as a GGUF file for llama.cpp, Ollama and LM Studio, and prove it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="name@alias, name/version or a checkpoint folder")
    parser.add_argument("--type", choices=TYPES, required=True, help="how the file holds the weights, see below")
    parser.add_argument(
        "--output",
        type=local_path,
        metavar="FILE",
        help="the file to write; default: NAME-VERSION-TYPE.gguf in this folder",
    )
    add_loss_options(parser, MAX_ROWS)
    return parser.parse_args(argv)


def default_name(name: str, version: str, kind: str) -> str:
    """The file's name in this folder. A manifest can name the model as a path, such as openai/gpt-oss-20b."""
    return re.sub(r"[^\w.-]+", "-", f"{name}-{version}-{kind}.gguf").lstrip(".-")


def _run(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.gguf.gguf_types import GgufType
    from tuneyard.checkpoints.manifest import read_manifest
    from tuneyard.checkpoints.node_cache import local_folder
    from tuneyard.checkpoints.references import resolve_checkpoint

    folder = local_folder(resolve_checkpoint(arguments.checkpoint))
    source = read_manifest(folder)
    # It loads torch and transformers, which takes longer than to find out that there is no such checkpoint.
    from jobs.checkpoints.gguf.gguf_export import GgufExport, export_gguf

    target = arguments.output or Path(default_name(source.name, source.version, arguments.type))
    manifest = export_gguf(
        GgufExport(
            folder,
            target,
            GgufType(arguments.type),
            arguments.heldout,
            max_rows=arguments.rows,
            max_loss_increase=arguments.max_loss_increase,
        )
    )
    proof = manifest.proof
    print(
        f"[gguf] loss {proof['loss_before']:.4f} in transformers, {proof['loss_after']:.4f} in llama.cpp (nats per "
        f"token, {proof['positions']} tokens of {proof['loss_rows']} rows); KL {proof['mean_kl']:.2g}, same first "
        f"token {proof['top1_agreement']:.1%}"
    )
    print(f"[gguf] wrote {target} ({manifest.file.size_bytes / 1e9:.2f} GB) and {target.name}.manifest.json")


if __name__ == "__main__":
    sys.exit(main())
