"""`python -m jobs.generate`: completes prompts with a run's NeMo checkpoint, before it is exported, on Ray.

python -m jobs.generate --config jobs/configs/gpt_oss_20b_lora.yaml --prompt "What does error E47 mean?"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuneyard.core.command import add_config_arguments, local_path, run_command

EPILOG = """\
The checkpoint's base, codec, parallelism and workers are read from the run's config, and how the rows of --data become
chats (section `data`). Prompts are rendered exactly as
for training. Without --checkpoint the run's newest checkpoint is used, or its base if the run has none yet.

examples:
  python -m jobs.generate --config run.yaml --prompt "What does error E47 mean?"
  python -m jobs.generate --config run.yaml --data heldout.jsonl --out answers.jsonl --temperature 0.7 --top-p 0.9
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.generate",
        description="Generate from a NeMo checkpoint, on Ray.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder in NeMo 2 format")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="a user message; repeatable")
    parser.add_argument(
        "--data", metavar="FILE", help="chats; the last assistant message of each is replaced by a generated one"
    )
    parser.add_argument(
        "--out", type=local_path, metavar="FILE", help="JSONL file to write; default: print the answers as text"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=512, metavar="N", help="limit per completion (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="sampling temperature; 0 (default): greedy")
    parser.add_argument("--top-p", type=float, default=0.0, help="nucleus sampling; excludes --top-k (default: off)")
    parser.add_argument("--top-k", type=int, default=0, help="sample from the K likeliest tokens (default: off)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    from jobs.generation.completions import write_completions
    from jobs.generation.nemo_generation import check_sampling, generate_completions, read_nemo_config
    from jobs.generation.prompts import read_prompts
    from jobs.nemo.generation import GenerationSettings

    config = read_nemo_config(arguments.config, arguments.overrides)
    settings = GenerationSettings(
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        seed=config.training.seed,
    )
    check_sampling(settings)
    prompts = read_prompts(arguments.prompt, arguments.data, config.data)
    completions = generate_completions(
        config, arguments.checkpoint, prompts, settings, address=arguments.address, verbose=arguments.verbose
    )
    write_completions(prompts, completions, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
