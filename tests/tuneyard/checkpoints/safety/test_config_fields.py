"""Any field outside the allow-lists is refused, and any path or Hub name in an allowed one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.checkpoints.safety.checkpoint_safety import safety_problems
from tuneyard.checkpoints.safety.config_fields import ALLOWED_FIELDS, EFFECTS, FREE_TEXT

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc_.0", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=4), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(sorted(ALLOWED_FIELDS))
hub_names = st.from_regex(r"\A[a-z]{1,8}(/|\\)[a-z-]{1,8}\Z")


def problems(name: str, content: dict[str, Any]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(json.dumps(content), encoding="utf-8")
        return list(safety_problems(Path(folder)))


@given(
    name=names,
    field=st.text("abcdefgh_", min_size=1, max_size=12) | st.sampled_from(sorted(EFFECTS)),
    value=json_values,
)
def test_an_unknown_field_is_refused(name: str, field: str, value: Any) -> None:
    expected = field not in ALLOWED_FIELDS[name]
    assert any(f"{name}: {field} is " in problem for problem in problems(name, {field: value})) == expected


@given(name=names, value=json_values, hub_name=hub_names, data=st.data())
def test_a_hub_name_is_refused_at_any_depth(name: str, value: Any, hub_name: str, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(ALLOWED_FIELDS[name] - FREE_TEXT)))
    hidden = data.draw(st.sampled_from([hub_name, [hub_name], {"a": [value, {"b": hub_name}]}, {hub_name: value}]))
    assert any("which is a path or a name on the Hub" in problem for problem in problems(name, {field: hidden}))


@given(name=st.sampled_from(["special_tokens_map.json", "processor_config.json", "anything.json"]))
def test_other_json_files_may_not_name_code(name: str) -> None:
    assert problems(name, {"anything": 1}) == []
    assert len(problems(name, {"auto_map": {"AutoProcessor": "evil.Processor"}})) == 1
