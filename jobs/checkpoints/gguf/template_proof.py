"""Whether the chat template of a GGUF file renders the prompts that a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.utils.chat_template_utils import render_jinja_template

from tuneyard.chats.messages import request_fields
from tuneyard.core.errors import CheckpointError
from tuneyard.harmony.chat_template.template import chat_template
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity_rows import ParityRow


def check_template(rows: Sequence[ParityRow], codec: HarmonyCodec) -> int:
    """Renders the prompts of a manifest's parity rows by the template, and returns how many they were.

    `codec` is that of the checkpoint. Raises CheckpointError for a prompt that is not the text of the row's token ids.
    """
    for number, row in enumerate(rows, start=1):
        # The day on which the row was rendered in training.
        date = {"conversation_date": row.today} if codec.settings.conversation_date == "today" else {}
        fields = request_fields(row.messages, row.tools)
        texts, _ = render_jinja_template(
            [fields["messages"]],
            tools=fields.get("tools"),
            chat_template=chat_template(codec.settings.model_copy(update=date)),
            add_generation_prompt=True,
        )
        if texts[0] != codec.render_text(row.token_ids):
            raise CheckpointError(
                f"The chat template renders prompt {number} of the manifest's `parity` otherwise than training did, so "
                "a program that uses it would ask the model other questions. Nothing was kept. This is a fault of "
                "Tuneyard: report it."
            )
    return len(rows)
