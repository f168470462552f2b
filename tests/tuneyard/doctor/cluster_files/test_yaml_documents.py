"""YAML of cluster files is read as PyYAML reads it, except that a duplicate key is an error that names the line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.tuneyard.doctor.cluster_files.changed_documents import LAUNCHER_FILES, MANIFESTS
from tuneyard.core.errors import ConfigError
from tuneyard.doctor.cluster_files.yaml_documents import lines_to_fill_in, parse_documents, read_documents


@pytest.mark.parametrize("path", [*LAUNCHER_FILES, *MANIFESTS], ids=lambda path: path.name)
def test_shipped_files_are_read_as_ray_and_kubectl_read_them(path: Path) -> None:
    assert read_documents(path) == list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda v: st.dictionaries(st.text(), v)))
def test_any_document_without_duplicates_is_read_as_pyyaml_reads_it(document: object) -> None:
    assert parse_documents(yaml.safe_dump(document), "source") == [document]


@pytest.mark.parametrize("text", ["y", "1e3", "0755", "12:30", "on", "2026-01-31", "~"])
def test_scalars_of_yaml_1_1(text: str) -> None:
    assert parse_documents(f"a: {text}", "source") == [yaml.safe_load(f"a: {text}")]


@pytest.mark.parametrize(
    ("text", "line", "key", "first_line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", 1),
        ("x:\n  b: 1\n  b: 1\n", 3, "b", 2),
        ("x: [{b: 1,\n b: 2}]\n", 2, "b", 1),
        ("a: 1\n---\nb: 1\n'b': 2\n", 4, "b", 3),
        ("k: &k {c: 1}\n<<: *k\n<<: *k\n", 3, "<<", 2),
    ],
)
def test_a_duplicate_key_is_reported_with_both_lines(text: str, line: int, key: str, first_line: int) -> None:
    expected = rf"^cluster\.yaml, line {line}: not valid YAML: the key '{key}' repeats that of line {first_line}"
    with pytest.raises(ConfigError, match=expected):
        parse_documents(text, "cluster.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {k: 1}\nb: &b {<<: *a, k: 2}\nc: {<<: *b, k: 3}\n",
        "a: &a {k: 1}\nb: &b {k: 2}\nc: {<<: [*a, *b], k: 3}\n",
        "a: {k: 1}\nb: {k: 1}\n---\na: 1\n",
        "1: a\n'1': b\n",
    ],
)
def test_keys_that_merging_repeats_are_no_duplicates(text: str) -> None:
    assert parse_documents(text, "source") == list(yaml.safe_load_all(text))


@pytest.mark.parametrize("text", ["a: [", "a: *b", "a: !x 1", "a: \x07"])
def test_broken_yaml_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^file(, line 1)?: not valid YAML: "):
        parse_documents(text, "file")


def test_lines_marked_set_are_found(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# SET marks what you fill in\na: 1  # SET: your region\nb: 2\n# SET\n")
    assert lines_to_fill_in(tmp_path / "c.yaml") == ["2", "4"]


NESTED = "a: " + "[" * 3000 + "]" * 3000
BILLION = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: &a\n  b: *a\n", r"line 2: .*an alias stands within its own anchor"),
        ("a: &a [1, *a]\n", r"line 1: .*an alias stands within its own anchor"),
        (NESTED, r"line 1: .*nested more than 64 levels deep"),
        (BILLION, r"line 6: .*more than 50,000 values"),
        ("a: 1\nb: 2026-13-45\n", r"line 2: .*the value '2026-13-45' cannot be read as timestamp; put it in quotes"),
        ("a: !!bool maybe\n", r"line 1: .*the value 'maybe' cannot be read as bool"),
    ],
    ids=["loop", "loop-in-list", "deep", "billion", "date", "bool"],
)
def test_text_that_has_no_end_or_no_value_is_refused_with_its_line(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=rf"^file, {wanted}"):
        parse_documents(text, "file")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "found nothing but comments or blank lines"),
        ("# nothing\n---\n~\n", "found nothing but comments or blank lines"),
        ("- a\n", "found a list as document 1 of 1"),
        ("a: 1\n---\nhello\n", "found a text as document 2 of 2"),
        ("# x\n" * 2**19, r"the file has 2.0 MiB; at most 1 MiB are read"),
    ],
    ids=["empty", "null", "list", "text", "large"],
)
def test_a_file_that_is_no_cluster_file_is_refused_with_what_was_found(text: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=wanted) as error:
        read_documents(path)
    assert str(error.value).startswith(f"{path}: ")
