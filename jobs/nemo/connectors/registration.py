"""Registers these connectors for `llm.import_ckpt` and `llm.export_ckpt`."""

from __future__ import annotations

from nemo.collections.llm import GPTOSSModel
from nemo.lightning import io

import jobs.nemo.setup.patched
from jobs.nemo.connectors.hf_exporter import HFExporter
from jobs.nemo.connectors.hf_importer import HFImporter
from jobs.nemo.connectors.openai_importer import OpenAIImporter

IMPORTERS = {"hf": HFImporter, "openai": OpenAIImporter}
"""The importer of each URL scheme."""


def register_connectors() -> None:
    """Replaces NeMo's GPT-OSS connectors in this process."""
    for scheme, importer in IMPORTERS.items():
        io.model_importer(GPTOSSModel, scheme)(importer)
    io.model_exporter(GPTOSSModel, "hf")(HFExporter)
