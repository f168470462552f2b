"""`python -m jobs.export RUN_OR_CHECKPOINT`: exports, proves and registers a checkpoint of a run at any time.

python -m jobs.export /mnt/shared/tuneyard/runs/acme-support
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.core.command import run_command

EPILOG = """\
RUN_OR_CHECKPOINT is a run's folder, <storage>/runs/NAME, for its newest checkpoint; or a checkpoint of a run: a folder
in its ray_train/ or nemo/; or a NeMo checkpoint that your own NeMo-Run job wrote, with --config. The result is a new
version of the run's model, with the proof of a finished run. The run itself does not change and may still be training.

--form adapter exports a LoRA run's adapter as PEFT's files, tens of MB, as a version of MODEL-adapter. An adapter that
was exported so may be given as RUN_OR_CHECKPOINT too: it is merged into its base, as a version of the run's model.

examples:
  python -m jobs.export /mnt/shared/tuneyard/runs/acme-support
  python -m jobs.export /mnt/shared/tuneyard/runs/acme-support/nemo/step-0000300
  python -m jobs.export /mnt/shared/tuneyard/runs/acme-support --form adapter
  python -m jobs.export /mnt/shared/tuneyard/models/acme-support-adapter/1
  python -m jobs.export /mnt/shared/nemo_run/checkpoints/step=99 --config jobs/configs/gpt_oss_20b_lora.yaml
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.export",
        description="Export, prove and register a checkpoint of a run, also before the run is done.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="RUN_OR_CHECKPOINT", help="a run's folder, one of its checkpoints, or an adapter"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the run's config; default: the one in the run's folder"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="FIELD=VALUE",
        help="replace a field of --config, such as run.model_name=draft; repeatable",
    )
    parser.add_argument(
        "--form",
        choices=("merged", "adapter"),
        default="merged",
        help="merged: a model to serve; adapter: PEFT's files of a LoRA run; default: %(default)s",
    )
    parser.add_argument("--address", help="the Ray cluster; default: the running one, or else a private Ray")
    parser.add_argument("--verbose", action="store_true", help="print the logs of Ray and of the workers")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments), on_interrupt="Interrupted. No half-written checkpoint was left.")


def _run(arguments: argparse.Namespace) -> None:
    from jobs.runs.checkpoint_export import export_checkpoint, find_checkpoint

    found = find_checkpoint(arguments.source, arguments.config, arguments.overrides)
    export_checkpoint(found, arguments.form, address=arguments.address, verbose=arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
