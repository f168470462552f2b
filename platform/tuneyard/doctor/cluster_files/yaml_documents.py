"""YAML files of clusters, read as `ray up` and kubectl read them: YAML 1.1, several documents, merge keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tuneyard.core.errors import ConfigError

SET_MARK = re.compile(r"# SET\b(?! marks)")
"""The shipped files mark with it what each user fills in; a sentence that explains the mark does not count."""


def read_documents(path: Path) -> list[dict[str, Any]]:
    """Returns the documents of a YAML file, at least one. Each is a mapping.

    Raises ConfigError for a file that is missing, broken or holds something else, and for a duplicate key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from e
    documents = [document for document in parse_documents(text, str(path)) if document is not None]
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ConfigError(f"{path}: expected a mapping of fields.")
    return documents


def parse_documents(text: str, source: str) -> list[Any]:
    """Returns every document in the text; an empty document is None.

    Raises ConfigError that names `source` and the line, for broken YAML and for a duplicate key.
    """
    try:
        return list(yaml.load_all(text, Loader=_UniqueKeyLoader))
    except yaml.MarkedYAMLError as e:
        line = f", line {e.problem_mark.line + 1}" if e.problem_mark is not None else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {e.problem or e.context}.") from e
    except yaml.YAMLError as e:
        raise ConfigError(f"{source}: not valid YAML: {e}") from e


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which is also Ray's, but a duplicate key is an error. PyYAML keeps the last value.

    core.yaml_files is not used here: ruamel.yaml reads some YAML 1.1 values differently, such as `y` and `1e3`.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Keys are compared here because later, merge keys (`<<`) have added keys that may legally repeat.
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} repeats that of line {lines[name]}; remove one of the two",
                    problem_mark=key.start_mark,
                )
            lines[name] = line
        return node


def lines_to_fill_in(path: Path) -> list[str]:
    """Returns the numbers of the lines that a comment marks with SET."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [str(number) for number, line in lines if SET_MARK.search(line)]


def value_at(node: Any, dotted: str) -> Any:
    """Returns the value at a dotted path of mappings; None if there is none."""
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node
