"""Keeps a process off the Hugging Face Hub: models are checked folders, and nothing is fetched beside them."""

from __future__ import annotations

import os
import sys

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
}
"""Environment variables with which Hugging Face's libraries raise an error in place of a download."""


def disable_hub_access() -> None:
    """Makes every download from the Hub an error in this process and its children. Call it before loading a model.

    A loader that meets a name it does not know, such as that of an attention kernel, would otherwise fetch and run it.
    """
    os.environ |= OFFLINE
    # The libraries read the variables when they are imported, and may have been imported already.
    for module, name in (
        ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
        ("transformers.utils.hub", "_is_offline_mode"),
        ("datasets.config", "HF_HUB_OFFLINE"),
        ("evaluate.config", "HF_EVALUATE_OFFLINE"),
    ):
        if module in sys.modules and hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, True)
