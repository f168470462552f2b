"""`tuneyard data preview`: prints rows as the model is trained on them, with the trained tokens marked."""

from __future__ import annotations

import argparse
import sys
from itertools import islice

from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.cli.data.inputs import load_codec, print_format, read_examples
from tuneyard.cli.data.row_options import load_row_settings
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.loss_mask import TrainingSample
from tuneyard.training_data.row_samples import name_samples, render_rows

GREEN, DIM, RESET = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def print_preview(arguments: argparse.Namespace) -> None:
    """The action."""
    codec = load_codec(arguments.model)
    use_colours = sys.stdout.isatty()
    if not use_colours:
        print("trained tokens stand between ⟦ and ⟧")
    reader = ChatRowReader(arguments.file, load_row_settings(arguments), accepts_pairs=True)
    for number, example in enumerate(islice(read_examples(reader), arguments.n)):
        if number == 0:
            print_format(reader)
        for row, samples in enumerate(render_rows(codec, example), start=1):
            for name, sample in zip(name_samples(example, row), samples, strict=True):
                loss_tokens = sum(sample.loss_mask)
                print(f"--- {example.source} {name}: {len(sample.token_ids)} tokens, {loss_tokens} with loss")
                print(_mark_trained(sample, codec, use_colours=use_colours))
                if arguments.ids:
                    print(" ".join(map(str, sample.token_ids)))


def _mark_trained(sample: TrainingSample, codec: HarmonyCodec, *, use_colours: bool) -> str:
    """Returns the row's text; runs of trained tokens are coloured, or stand in brackets."""
    pieces: list[str] = []
    start = 0
    for end in range(1, len(sample.token_ids) + 1):
        if end < len(sample.token_ids) and sample.loss_mask[end] == sample.loss_mask[start]:
            continue
        text = codec.render_text(sample.token_ids[start:end])
        is_trained = sample.loss_mask[start]
        if use_colours:
            pieces.append(f"{GREEN if is_trained else DIM}{text}{RESET}")
        else:
            pieces.append(f"⟦{text}⟧" if is_trained else text)
        start = end
    return "".join(pieces)
