"""Completions from a NeMo checkpoint, before it is exported: a job on the run's own workers.

python -m jobs.generate --config jobs/configs/gpt_oss_20b_lora.yaml --prompt "What does error E47 mean?"
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.chats.messages import ChatMessage
from tuneyard.checkpoints.layout.gpt_oss import read_json
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.command import add_config_arguments, run_command
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.planning.nemo_parallelism import check_nemo_config

if TYPE_CHECKING:
    from jobs.nemo.generate import GenerationSettings
    from tuneyard.harmony.codec import HarmonyCodec

EPILOG = """\
The run's config says what the checkpoint belongs to: base, codec, parallelism and workers. Prompts are rendered as
training rendered them. Without --checkpoint: the run's newest one, or, before there is one, its base.

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
    parser.add_argument("--checkpoint", type=Path, help="folder in NeMo 2 format")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="a user's message; repeatable")
    parser.add_argument("--data", metavar="FILE", help="chats; each is continued at its last assistant message")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSONL to write; default: text on standard output")
    parser.add_argument("--max-tokens", type=int, default=512, metavar="N", help="per completion (default: 512)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default): greedy")
    parser.add_argument("--top-p", type=float, default=0.0, help="nucleus sampling; not together with --top-k")
    parser.add_argument("--top-k", type=int, default=0, help="sample among so many tokens")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    from jobs.nemo.generate import GenerationSettings
    from tuneyard.harmony.codec import HarmonyCodec

    config = load_config(FinetuneConfig, arguments.config, arguments.overrides)
    if config.training.backend != "nemo":
        raise ConfigError(
            f"{arguments.config}: training.backend is {config.training.backend}; jobs.generate is for nemo."
        )
    if arguments.top_p and arguments.top_k:
        raise ConfigError(
            f"--top-p {arguments.top_p} and --top-k {arguments.top_k}: Megatron's engine takes one of them."
        )
    settings = GenerationSettings(
        arguments.max_tokens, arguments.temperature, arguments.top_p, arguments.top_k, config.training.seed
    )
    codec = HarmonyCodec.from_checkpoint(config.model.folder, config.codec)
    asked = _prompts(arguments)
    check_nemo_config(config, read_json(config.model.folder / "config.json"))
    checkpoint = arguments.checkpoint.resolve() if arguments.checkpoint else newest_checkpoint(config)
    if not (checkpoint / "weights").is_dir():
        raise CheckpointError(f"--checkpoint {checkpoint}: no checkpoint in NeMo 2 format, it has no weights/ in it.")
    print(f"[generate] from {checkpoint}", file=sys.stderr, flush=True)
    prompts = [codec.render(messages, tools) for messages, tools in asked]
    completions = generate_on_ray(config, checkpoint, prompts, settings, arguments.address, verbose=arguments.verbose)
    answers = [parse_completion(codec, ids) for ids in completions]
    _write([messages[-1].content for messages, _ in asked], answers, arguments.out)


def newest_checkpoint(config: FinetuneConfig) -> Path:
    """The run's last NeMo checkpoint, else the imported base. Raises CheckpointError when there is neither."""
    from jobs.nemo.folders import checkpoint_folder, nemo_base, written_checkpoints

    base = nemo_base(config)
    found = [*([base] if base.exists() else []), *written_checkpoints(checkpoint_folder(config))]
    if not found:
        raise CheckpointError(
            f"The run {config.run.name!r} has no NeMo checkpoint, and its base is not imported to {base}. "
            f"Import it: python -m jobs.import_checkpoint hf://{config.model.folder} {base}"
        )
    return found[-1]


def generate_on_ray(
    config: FinetuneConfig,
    checkpoint: Path,
    prompts: list[list[int]],
    settings: GenerationSettings,
    address: str | None,
    *,
    verbose: bool = False,
) -> list[list[int]]:
    """Completions, by as many workers as the config trains with. Raises ClusterError and TrainingError."""
    import ray.train

    from jobs.nemo.folders import checkpoint_folder
    from jobs.nemo.generate import generate_per_worker
    from jobs.runs.ray_training import check_workers, fit, worker_group
    from tuneyard.cluster.connection import connect_ray
    from tuneyard.cluster.driver_channel import DriverChannel

    print(f"[generate] Ray: {connect_ray(address, verbose=verbose)}", file=sys.stderr, flush=True)
    lacking = check_workers(config, "Generating")
    if lacking:
        print(f"[generate] waiting for nodes: {lacking}", file=sys.stderr, flush=True)
    results = DriverChannel()
    folder = checkpoint_folder(config).parent
    name = f"generate-{time.time_ns()}"
    loop_config = {
        "config": config.model_dump_json(),
        "checkpoint": str(checkpoint),
        "prompts": prompts,
        "settings": asdict(settings),
        "results": results,
    }
    run = ray.train.RunConfig(name=name, storage_path=str(folder))
    try:
        fit(worker_group(config, generate_per_worker, loop_config, run))
        found: list[list[int]] = results.receive()[-1]
    finally:
        results.close()
        shutil.rmtree(folder / name, ignore_errors=True)
    return found


def parse_completion(codec: HarmonyCodec, token_ids: list[int]) -> dict[str, Any]:
    """Answer, reasoning, and whether the model ended by itself."""
    parser = codec.stream_parser()
    parts = {"content": "", "reasoning_content": ""}
    for delta in [*parser.feed(token_ids), *parser.finish()]:
        parts["content" if delta.channel == "final" else "reasoning_content"] += delta.text
    return {**parts, "complete": parser.complete}


def _prompts(arguments: argparse.Namespace) -> list[tuple[tuple[ChatMessage, ...], Any]]:
    from tuneyard.chats.dataset import load_chat_dataset

    asked: list[tuple[tuple[ChatMessage, ...], Any]] = [
        ((ChatMessage(role="user", content=text),), ()) for text in arguments.prompt
    ]
    if arguments.data is not None:
        for example in load_chat_dataset(arguments.data).examples:
            asked.append((example.last_prompt, example.tools))
    if not asked:
        raise ConfigError("Nothing to generate from: give --prompt TEXT or --data FILE.")
    return asked


def _write(questions: list[str], answers: list[dict[str, Any]], out: Path | None) -> None:
    if out is None:
        for question, answer in zip(questions, answers, strict=True):
            print(f"> {question}\n{answer['content'] or '(no answer: ' + answer['reasoning_content'] + ')'}\n")
        return
    lines = [
        json.dumps({"prompt": question, **answer}, ensure_ascii=False)
        for question, answer in zip(questions, answers, strict=True)
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"[generate] wrote {len(lines)} completions to {out}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
