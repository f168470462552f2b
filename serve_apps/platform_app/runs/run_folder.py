"""A run's config and data report, from its folder on a disk or an object store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tuneyard.cluster.job_secrets import hide_in_text
from tuneyard.configs.finetune import CONFIG_NAME
from tuneyard.core.errors import StorageError
from tuneyard.storage.folder import StorageFolder
from tuneyard.training_data.report.data_report import REPORT_NAME, DataReport


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run's folder says; what it does not say is None, and `problems` tells why."""

    config: dict[str, Any] | None = None
    data: DataReport | None = None
    problems: tuple[str, ...] = ()


def read_run_folder(location: str) -> RunFiles:
    """Reads both files. Secrets in the config are hidden. Raises nothing for what cannot be read."""
    problems: list[str] = []
    config = report = None
    try:
        folder = StorageFolder.open(location)
        config_text, report_text = folder.read(CONFIG_NAME), folder.read(REPORT_NAME)
    except StorageError as e:
        return RunFiles(problems=(f"The run's folder cannot be read here: {e}",))
    if config_text is None and report_text is None:
        return RunFiles(
            problems=(f"{location} holds no files of a run here: it was deleted, or is on another machine.",)
        )
    try:
        config = hide_in_values(json.loads(config_text)) if config_text is not None else None
    except ValueError as e:
        problems.append(f"{location}/{CONFIG_NAME} is damaged: {e}.")
    try:
        report = DataReport.model_validate_json(report_text) if report_text is not None else None
    except ValidationError:
        problems.append(f"{location}/{REPORT_NAME} is damaged, or of another release.")
    if report_text is None:
        problems.append("An earlier release wrote this run, without a report of its data.")
    return RunFiles(config, report, tuple(problems))


def hide_in_values(value: Any) -> Any:
    """The JSON value with credentials in its texts replaced; see hide_in_text."""
    match value:
        case str():
            return hide_in_text(value)
        case dict():
            return {name: hide_in_values(item) for name, item in value.items()}
        case list():
            return [hide_in_values(item) for item in value]
    return value
