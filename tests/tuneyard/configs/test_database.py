"""DatabaseConfig: URLs without passwords, and where the database is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tuneyard.configs.database import DatabaseConfig


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:secret@db/tuneyard", "holds a password"),
        ("postgresql://u@db/tuneyard?password=secret", "holds a password"),
        ("postgresql://u@db/tuneyard?sslmode=verify-full&sslpassword=secret", "service file"),
        ("postgresql://u@db/tuneyard?%73slpassword=secret", "holds a password"),
        ("postgresql://u@db/tuneyard?oauth_client_secret=secret", "holds a password"),
        ("postgresql://u@db", "names no database"),
        ("mysql://u@db/tuneyard", "pattern"),
    ],
)
def test_a_wrong_url_is_refused_and_a_password_not_repeated(url: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        DatabaseConfig(url=url)
    assert "secret" not in error.value.errors(include_input=False)[0]["msg"]


def test_names_for_operators_and_for_clients() -> None:
    config = DatabaseConfig(url="postgresql://u@db.internal:5433/tuneyard?sslmode=require", password_file=Path("/p"))
    assert config.location.name == "the PostgreSQL database 'tuneyard' at db.internal:5433"
    assert config.location.public_name == "the PostgreSQL database 'tuneyard'"
