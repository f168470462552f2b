"""`tuneyard data`: validate, stats, preview, parity."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tuneyard.chats.formats import FORMATS
from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import DatasetError
from tuneyard.core.room_commands import BUILD_BASE_MODEL

if TYPE_CHECKING:
    from tuneyard.chats.dataset import ChatRowReader
    from tuneyard.chats.messages import ChatExample
    from tuneyard.harmony.codec import HarmonyCodec, TrainingSample
    from tuneyard.training_data.dataset_stats import DatasetStats

DEFAULT_MODEL = "$TUNEYARD_HOME/models/base/smol-oss-135m"
TRAINED, SPECIAL, CONTEXT, PLAIN = "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
EPILOG = """\
FILE is a file (.jsonl .json .csv .parquet, each also .gz or .zst), a folder of them, a dataset that
datasets.save_to_disk wrote, a URI (s3://…, gs://…), or hf:owner/name[:split]. Its format is detected.

examples:
  tuneyard data validate chats.jsonl --heldout heldout.jsonl
  tuneyard data validate chats.jsonl --model my-base/ --max-length 2048
  tuneyard data stats chats.jsonl --max-length 1024 --json
  tuneyard data preview chats.jsonl -n 3
  tuneyard data parity support@newest --base-url http://127.0.0.1:8000/v1
"""
Item = TypeVar("Item")


def add_data_command(commands: Commands) -> None:
    """Adds `data` and what is below it."""
    data = add_command(commands, "data", "check and look at chats", EPILOG)
    below = data.add_subparsers(required=True, metavar="COMMAND")
    validate = below.add_parser("validate", help="every problem with file and line; exit code 1 if there is one")
    _add_file(validate)
    validate.add_argument("--heldout", metavar="FILE", help="held-out chats: checked too, and for leakage")
    validate.add_argument("--model", help="checkpoint whose tokens --max-length counts")
    validate.add_argument("--max-length", type=int, metavar="TOKENS", help="name rows that are longer; needs --model")
    validate.add_argument("--show", type=int, default=50, metavar="N", help="problems to print (default: 50; 0: all)")
    validate.set_defaults(action=_validate)
    stats = below.add_parser("stats", help="rows, turns, tokens, packing, steps per epoch")
    _add_file(stats)
    _add_model(stats)
    stats.add_argument("--max-length", type=int, default=2048, metavar="TOKENS", help="default: 2048")
    stats.add_argument("--batch-size", type=int, default=4, metavar="ROWS", help="rows per step, all workers (4)")
    stats.add_argument("--json", action="store_true", help="for programs")
    stats.set_defaults(action=_stats)
    preview = below.add_parser("preview", help="rows as the model is trained on them, trained tokens coloured")
    _add_file(preview)
    _add_model(preview)
    preview.add_argument("-n", type=int, default=3, metavar="ROWS", help="how many (default: 3)")
    preview.add_argument("--ids", action="store_true", help="token ids below each text")
    preview.set_defaults(action=_preview)
    parity = below.add_parser(
        "parity", help="prompts of a model's training, rendered again: here, or where it is served"
    )
    parity.add_argument("model", help="name@alias, name/version or a checkpoint folder")
    parity.add_argument(
        "--base-url", metavar="URL", help="a running endpoint of it; without: this installation's codec"
    )
    parity.add_argument("--model-id", help="what the endpoint calls it; default: what it lists first")
    parity.set_defaults(action=_parity)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--format", choices=tuple(FORMATS), help="default: detected")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"checkpoint folder (default: {DEFAULT_MODEL})")


def _validate(arguments: argparse.Namespace) -> int:
    from tuneyard.chats.dataset import ChatRowReader
    from tuneyard.training_data.row_checks import NOTES, RowChecker, ValidationCounts, validate_dataset

    if (arguments.model is None) != (arguments.max_length is None):
        raise DatasetError("--model and --max-length belong together: tokens are counted with a model's tokenizer.")
    checker = RowChecker(_codec(arguments.model) if arguments.model else None, arguments.max_length)
    counts = ValidationCounts()
    shown = 0
    for location in filter(None, (arguments.file, arguments.heldout)):
        reader = ChatRowReader(location, arguments.format)
        found = validate_dataset(
            _progress(reader, "rows"), checker, counts, location, is_heldout=location == arguments.heldout
        )
        for problem in found:
            shown += 1
            if not arguments.show or shown <= arguments.show:
                _print_above_bar(f"{problem}{' (note)' if problem.kind in NOTES else ''}")
        _say_format(reader)
    if arguments.show and shown > arguments.show:
        print(f"… and {shown - arguments.show} more; --show 0 prints all")
    for kind, count in counts.by_kind.most_common():
        print(f"{count:>8}  {kind}{' (note)' if kind in NOTES else ''}")
    print(f"{counts.rows} rows, {counts.problems or 'no'} problem{'' if counts.problems == 1 else 's'}")
    return 1 if counts.problems else 0


def _stats(arguments: argparse.Namespace) -> int:
    from tuneyard.chats.dataset import ChatRowReader
    from tuneyard.training_data.dataset_stats import collect_stats

    _check_positive(arguments, "max_length", "batch_size")
    reader = ChatRowReader(arguments.file, arguments.format)
    examples = _progress(_examples(reader), "rows")
    stats = collect_stats(examples, _codec(arguments.model), arguments.max_length, arguments.batch_size)
    if arguments.json:
        print(json.dumps({"file": arguments.file, "format": reader.format, **stats.as_json()}, indent=2))
        return 0
    _say_format(reader)
    print(_stats_table(stats))
    return 0


def _stats_table(stats: DatasetStats) -> str:
    lines = [
        ("rows", f"{stats.rows:,}"),
        ("assistant turns", f"{stats.turns:,}, {stats.training_rows:,} of them trained on"),
        ("tokens", f"{stats.tokens:,}"),
        ("  with loss", f"{stats.trained_tokens:,} ({stats.assistant_share:.1%})"),
        ("  per row", f"median {stats.median:,}, longest {stats.longest:,}"),
        (f"over {stats.max_length:,} tokens", f"{stats.over_max_length:,}"),
        ("steps per epoch", f"{stats.steps_per_epoch:,} at {stats.batch_size} rows a step"),
        ("  packed", f"{stats.steps_per_epoch_packed:,} at {stats.batch_size} packs a step"),
        ("places with a token", f"{stats.padding_efficiency:.1%} padded, {stats.packing_efficiency:.1%} packed"),
    ]
    most = max(stats.histogram.values(), default=1)
    bars = [
        f"  up to {edge:>7,}  {count:>8,}  {'█' * max(1, round(40 * count / most))}"
        for edge, count in stats.histogram.items()
    ]
    return "\n".join([*(f"{name:<22}{value}" for name, value in lines), "tokens of a row", *bars])


def _preview(arguments: argparse.Namespace) -> int:
    from itertools import islice

    from tuneyard.chats.dataset import ChatRowReader

    codec = _codec(arguments.model)
    coloured = sys.stdout.isatty()
    if not coloured:
        print("trained tokens stand between ⟦ and ⟧")
    for example in islice(_examples(ChatRowReader(arguments.file, arguments.format)), arguments.n):
        for turn, sample in enumerate(codec.render_for_training(example), start=1):
            loss = sum(sample.loss_mask)
            print(f"--- {example.source} turn {turn}: {len(sample.token_ids)} tokens, {loss} with loss")
            print(_painted(sample, codec, coloured=coloured))
            if arguments.ids:
                print(" ".join(map(str, sample.token_ids)))
    return 0


def _painted(sample: TrainingSample, codec: HarmonyCodec, *, coloured: bool) -> str:
    """The row's text, trained stretches coloured or bracketed."""
    pieces: list[str] = []
    start = 0
    for end in range(1, len(sample.token_ids) + 1):
        if end < len(sample.token_ids) and sample.loss_mask[end] == sample.loss_mask[start]:
            continue
        text = codec.render_text(sample.token_ids[start:end])
        if coloured:
            pieces.append(f"{TRAINED if sample.loss_mask[start] else CONTEXT}{text}{PLAIN}")
        else:
            pieces.append(f"⟦{text}⟧" if sample.loss_mask[start] else text)
        start = end
    return "".join(pieces)


def _parity(arguments: argparse.Namespace) -> int:
    from tuneyard.api.admin_key import load_admin_key
    from tuneyard.checkpoints.manifest import read_manifest
    from tuneyard.checkpoints.node_cache import local_folder
    from tuneyard.checkpoints.references import resolve_checkpoint
    from tuneyard.core.errors import CheckpointError
    from tuneyard.harmony.parity import check_parity, parse_parity_rows, render_over_http, render_with

    folder = local_folder(resolve_checkpoint(arguments.model), weights=False)
    manifest = read_manifest(folder)
    rows = parse_parity_rows(manifest.parity)
    if manifest.codec is None or not rows:
        raise CheckpointError(
            f"{folder}: its manifest holds no prompts of training to compare (a {manifest.kind} model)."
        )
    codec = _codec(str(folder))
    if arguments.base_url:
        model_id = arguments.model_id or _first_model(arguments.base_url)
        where, render = arguments.base_url, render_over_http(arguments.base_url, model_id, load_admin_key())
    else:
        where, render = "this installation", render_with(codec)
    tokens = check_parity(rows, render, codec, where)
    print(f"{manifest.name}/{manifest.version}: {len(rows)} prompts of its training, {tokens} tokens, equal at {where}")
    return 0


def _first_model(base_url: str) -> str:
    import httpx

    from tuneyard.core.errors import CheckpointError

    try:
        # As OpenAI's client finds its key.
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        response = httpx.get(base_url.rstrip("/") + "/models", timeout=10, headers=headers)
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as e:
        raise CheckpointError(
            f"{base_url}/models: no models there: {e!r}. Give --model-id, or where keys are asked for OPENAI_API_KEY."
        ) from e


def _codec(model: str) -> HarmonyCodec:
    """The codec of a checkpoint: its manifest's settings, or the defaults for a base."""
    from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
    from tuneyard.core.errors import CheckpointError
    from tuneyard.core.home import tuneyard_home
    from tuneyard.harmony.codec import CodecSettings, HarmonyCodec

    folder = Path(model.replace("$TUNEYARD_HOME", str(tuneyard_home()))).expanduser()
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"--model {folder}: no checkpoint there, and tokens are counted with its tokenizer. "
            f"Build the demo's with: python -m {BUILD_BASE_MODEL} smol-oss-135m"
        )
    settings = CodecSettings()
    if (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder)
        if manifest.codec is not None:
            settings = CodecSettings.model_validate(manifest.codec.settings)
    return HarmonyCodec.from_checkpoint(folder, settings)


def _examples(reader: ChatRowReader) -> Iterator[ChatExample]:
    """The examples; raises DatasetError at the first broken row."""
    from tuneyard.chats.dataset import RowProblem

    for row in reader:
        if isinstance(row, RowProblem):
            raise DatasetError(f"{row}\nAll problems at once: tuneyard data validate {reader.location}")
        yield row


def _say_format(reader: ChatRowReader) -> None:
    if reader.format is not None:
        print(f"{reader.location}: {FORMATS[reader.format][0]} ({reader.format})")


def _progress(items: Iterable[Item], unit: str) -> Iterable[Item]:
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False)
    return bar


def _print_above_bar(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text)


def _check_positive(arguments: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(arguments, name) < 1:
            raise DatasetError(f"--{name.replace('_', '-')} must be at least 1, found {getattr(arguments, name)}.")
