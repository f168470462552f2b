"""YAML files of clusters, read as `ray up` and kubectl read them: YAML 1.1, several documents, merge keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tuneyard.core.errors import ConfigError
from tuneyard.core.wording import count_of

SET_MARK = re.compile(r"# SET\b(?! marks)")
"""The shipped files mark with it what each user fills in; a sentence that explains the mark does not count."""

MAX_FILE_BYTES = 2**20
"""Largest file that is read. etcd stores no object of more than 1.5 MiB (etcd.io, "System limits")."""

MAX_DEPTH = 64
"""Deepest nesting that is read; the shipped files have 16. Deeper ones would exhaust Python's stack."""

MAX_VALUES = 50_000
"""Most values of a document, each alias counted with all that it stands for."""


def read_documents(path: Path) -> list[dict[str, Any]]:
    """Returns the documents of a YAML file, at least one. Each is a mapping.

    Raises ConfigError for a file that is missing, too large, broken or holds something else, and for a duplicate key.
    """
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MAX_FILE_BYTES else ""
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from e
    if size > MAX_FILE_BYTES:
        raise ConfigError(
            f"{path}: the file has {size / 2**20:.1f} MiB; at most {MAX_FILE_BYTES // 2**20} MiB are read. Name a "
            "launcher file or a Kubernetes manifest."
        )
    documents = [document for document in parse_documents(text, str(path)) if document is not None]
    if not documents:
        raise ConfigError(
            f"{path}: expected a mapping of fields, found nothing but comments or blank lines. A launcher file begins "
            "with cluster_name, a Kubernetes manifest with apiVersion."
        )
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, dict):
            raise ConfigError(
                f"{path}: expected a mapping of fields, found {_kind_of(document)} as document {number} of "
                f"{len(documents)}. A launcher file begins with cluster_name, a Kubernetes manifest with apiVersion."
            )
    return documents


def parse_documents(text: str, source: str) -> list[Any]:
    """Returns every document in the text; an empty document is None.

    Raises ConfigError that names `source` and the line: for broken YAML, a duplicate key, an alias within its own
    anchor, and for a document that is nested too deeply or has too many values.
    """
    try:
        return list(yaml.load_all(text, Loader=_BoundedLoader))
    except yaml.MarkedYAMLError as e:
        line = f", line {e.problem_mark.line + 1}" if e.problem_mark is not None else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {e.problem or e.context}.") from e
    except yaml.YAMLError as e:
        raise ConfigError(f"{source}: not valid YAML: {e}") from e


def _kind_of(document: Any) -> str:
    names = {"list": "a list", "str": "a text"}
    return names.get(type(document).__name__, f"a value of type {type(document).__name__}")


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which is also Ray's, but what it would read wrongly, or never end reading, is an error.

    PyYAML keeps the last value of a duplicate key, and reads aliases that stand for billions of values.
    core.yaml_files is not used here: ruamel.yaml reads some YAML 1.1 values differently, such as `y` and `1e3`.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values = 0
        self._values_within: dict[int, int] = {}

    def compose_document(self) -> yaml.Node | None:
        self._values = 0
        self._values_within.clear()
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._values
        self._depth += 1
        if self._depth > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} levels deep, which no cluster file needs"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and node is not None and node.end_mark is None:  # its end has not been read yet
            problem = "an alias stands within its own anchor; write the value out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        self._values += self._values_within.get(id(node), 1) if is_alias else 1
        self._values_within[id(node)] = self._values - before
        if self._values > MAX_VALUES:
            problem = f"more than {count_of(MAX_VALUES, 'value')}, counting what aliases stand for"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return node

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

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as e:  # `2026-13-45`, `!!bool maybe`, `!!timestamp x`
            value = f" {node.value[:40]!r}" if isinstance(node, yaml.ScalarNode) else ""
            problem = f"the value{value} cannot be read as {node.tag.rpartition(':')[2]}; put it in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from e


def lines_to_fill_in(path: Path) -> list[str]:
    """Returns the numbers of the lines that a comment marks with SET."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [str(number) for number, line in lines if SET_MARK.search(line)]


def value_at(node: Any, dotted: str) -> Any:
    """Returns the value at a dotted path of mappings; None if there is none."""
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def items_at(node: Any, dotted: str) -> list[Any]:
    """Returns the list at a dotted path of mappings; an empty one if there is none."""
    found = value_at(node, dotted)
    return found if isinstance(found, list) else []
