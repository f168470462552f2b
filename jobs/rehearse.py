"""`python -m jobs.rehearse`: rehearses a finetuning run with a small model on this machine's CPUs.

`tuneyard jobs rehearse CONFIG` runs this.
"""

from __future__ import annotations

import argparse
import json
import sys

from tuneyard.core.command import add_overrides, run_command

EPILOG = """\
examples:
  python -m jobs.rehearse --config jobs/configs/gpt_oss_20b_lora.yaml
  python -m jobs.rehearse --config my.yaml --set workers.num_workers=16 --json
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.rehearse",
        description="Rehearse a finetuning run: check it, then run all of it with a small model on CPUs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="CONFIG", help="YAML file of a finetuning run")
    add_overrides(parser)
    parser.add_argument("--keep", action="store_true", help="keep the files of the rehearsal, and print where they are")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)
    left = "The files are kept" if arguments.keep else "The files of the rehearsal are deleted"
    return run_command(lambda: _rehearse(arguments), on_interrupt=f"Interrupted. {left}.")


def _rehearse(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from jobs.rehearsal.rehearsal import rehearse
    from jobs.rehearsal.step_display import StepDisplay

    # Kept, because sys.stdout is another stream while Ray runs.
    with StepDisplay(sys.stderr if arguments.json else sys.stdout) as display:
        report = rehearse(
            Path(arguments.config),
            arguments.overrides,
            keep=arguments.keep,
            show=display.show,
            begin=display.begin,
            announce=lambda line: display.write(f"[rehearse] {line}"),
        )
        display.write(f"[rehearse] {report.verdict()}")
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
