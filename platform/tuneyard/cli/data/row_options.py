"""Command-line options that say how the rows of a chat file become chats, for every command that reads one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.chats.row_formats.names import FORMATS
from tuneyard.core.command import Options, add_overrides

if TYPE_CHECKING:
    from tuneyard.chats.row_settings import RowSettings


def add_row_options(parser: Options) -> None:
    """Adds the options --format, --config and --set, for load_row_settings."""
    names = tuple(FORMATS)
    parser.add_argument(
        "--format", choices=names, metavar="FORMAT", help=f"format of the rows (default: detected): {', '.join(names)}"
    )
    parser.add_argument(
        "--config", type=Path, help="config of a finetuning run, whose section `data` says how rows become chats"
    )
    add_overrides(parser)


def load_row_settings(arguments: argparse.Namespace) -> RowSettings:
    """How rows become chats: the section `data` of --config, then --set, then --format.

    Raises ConfigError for a wrong field.
    """
    # Imported here, because the help of a command needs none of them, and most files are read without a config.
    from tuneyard.core.config_loading import load_config

    overrides = list(arguments.overrides)
    if arguments.format is not None:
        overrides.append(f"data.format={arguments.format}")
    if arguments.config is not None:
        from tuneyard.configs.finetune import FinetuneConfig

        return load_config(FinetuneConfig, arguments.config, overrides).data
    from tuneyard.chats.row_settings import DataSection

    return load_config(DataSection, None, overrides).data
