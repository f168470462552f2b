"""`python -m jobs.export_openai SOURCE TARGET`: writes a checkpoint in OpenAI's original form.

python -m jobs.export_openai acme-support-mxfp4@newest /models/acme-original
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.core.command import local_path, run_command

EPILOG = """\
SOURCE is name@alias or name/version in the registry, or a checkpoint folder. OpenAI's form has MXFP4 experts only:
make such a checkpoint with python -m jobs.quantize. No value changes; every tensor is read back and compared before
TARGET appears.

examples:
  python -m jobs.export_openai acme-support-mxfp4@newest /models/acme-original
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.export_openai",
        description="Write a checkpoint in OpenAI's original form.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="name@alias, name/version or a checkpoint folder; its experts must be MXFP4"
    )
    parser.add_argument("target", metavar="TARGET", type=local_path, help="a folder that does not exist yet")
    arguments = parser.parse_args(argv)
    return run_command(
        lambda: _run(arguments.source, arguments.target),
        on_interrupt="Interrupted. No half-written checkpoint was left.",
    )


def _run(source: str, target: Path) -> None:
    from jobs.checkpoints.openai_export import export_openai
    from tuneyard.checkpoints.node_cache import local_folder
    from tuneyard.checkpoints.references import resolve_checkpoint

    count = export_openai(local_folder(resolve_checkpoint(source)), target.absolute())
    print(f"[export] wrote {count} tensors in OpenAI's form to {target}; all were read back and are equal")


if __name__ == "__main__":
    sys.exit(main())
