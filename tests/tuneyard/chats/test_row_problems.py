"""The catalogue: every problem that the code names is in it, and the config accepts exactly its names and choices."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import ValidationError

from tuneyard.chats.row_problems import PROBLEMS, SEVERITIES, UNUSABLE
from tuneyard.chats.row_settings import RowSettings

ROOMS = (Path("platform/tuneyard/chats"), Path("platform/tuneyard/training_data"))
CONSTRUCTORS = {"RowProblem": 1, "Finding": 0, "FormatProblem": 1}
"""The calls that name a problem, and the position of its name."""


def named_problems() -> set[str]:
    """The names that the code gives to problems, as constants."""
    names = set()
    for path in [path for room in ROOMS for path in room.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CONSTRUCTORS:
                position = CONSTRUCTORS[node.func.id]
                if len(node.args) > position and isinstance(name := node.args[position], ast.Constant):
                    names.add(str(name.value))
    return names


def test_every_named_problem_is_in_the_catalogue() -> None:
    names = named_problems()
    assert len(names) > 25
    assert names <= PROBLEMS.keys()


def test_every_kind_says_what_it_means_and_what_to_do() -> None:
    for name, kind in PROBLEMS.items():
        assert kind.name == name
        assert kind.meaning.endswith(".")
        assert kind.fix.endswith(".")
        assert kind.choices in (SEVERITIES, UNUSABLE, ())
        assert kind.severity in (kind.choices or ("error",))


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        ({"duplicates": "drop"}, "there is no problem 'duplicates'. Known: unreadable, "),
        ({"duplicate": "delete"}, "Input should be 'error', 'warning', 'note', 'ignore' or 'drop'"),
        ({"role_order": "warning"}, "role_order cannot be 'warning'. Choices: error, drop"),
        ({"nothing_to_learn": "ignore"}, "Choices: none; it is always an error"),
    ],
)
def test_wrong_answers_are_refused(problems: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RowSettings.model_validate({"problems": problems})


def test_the_config_decides_and_the_catalogue_otherwise() -> None:
    settings = RowSettings(problems={"duplicate": "drop"})
    assert settings.severity_of("duplicate") == "drop"
    assert settings.severity_of("near_duplicate") == "warning"
