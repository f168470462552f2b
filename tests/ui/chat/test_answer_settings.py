from __future__ import annotations

import pytest

from ui.chat.answer_settings import SettingError, TypedSettings, read_settings


def test_cleared_fields_send_nothing() -> None:
    settings = read_settings(TypedSettings(None, None, 0, "", None, None, " ", ""))
    assert settings == (None, None, None, None, None, (), None, ())


def test_filled_fields() -> None:
    settings = read_settings(
        TypedSettings(0.5, 0.9, 100, "high", 7, "END\n###\n", '{"type": "object"}', '[{"name": "f"}]')
    )
    assert settings.max_tokens == 100
    assert (settings.seed, settings.stop) == (7, ("END", "###"))
    assert settings.json_schema == {"type": "object"}
    assert settings.tools == ({"type": "function", "function": {"name": "f"}},)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (TypedSettings(max_tokens=-5), "Max tokens is -5; it must be a whole number from 1"),
        (TypedSettings(seed=1.5), "Seed is 1.5"),
        (TypedSettings(temperature=3), "Temperature is 3; it must be from 0 to 2"),
        (TypedSettings(stop="a\nb\nc\nd\ne"), "at most 4"),
        (TypedSettings(json_schema="{"), "JSON schema is not JSON: .* line 1"),
        (TypedSettings(json_schema="[]"), "must be an object"),
        (TypedSettings(tools='[{"type": "function"}]'), "entry 1 has no function name"),
        (TypedSettings(tools="{"), "Tools is not JSON"),
    ],
)
def test_what_cannot_be_sent_is_explained(typed: TypedSettings, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        read_settings(typed)
