"""Which URIs hold a secret."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.path_fields import SECRET_PARAMETERS, holds_secret

WORDS = st.text(min_size=1, max_size=20).map(lambda text: quote(text, safe=""))


@given(WORDS, WORDS, st.sampled_from(["postgresql", "redis", "s3", "https"]))
def test_a_password_in_the_authority_is_found(user: str, password: str, scheme: str) -> None:
    assert holds_secret(f"{scheme}://{user}:{password}@host:1/path")
    assert not holds_secret(f"{scheme}://{user}@host:1/path")


@given(st.sampled_from(SECRET_PARAMETERS), WORDS, WORDS, st.booleans())
def test_a_secret_parameter_is_found_however_it_is_written(name: str, value: str, other: str, is_escaped: bool) -> None:
    written = "".join(f"%{ord(letter):02x}" for letter in name) if is_escaped else name
    assert holds_secret(f"postgresql://host/db?sslmode={other}&{written}={value}")
    assert not holds_secret(f"postgresql://host/db?sslmode={value}")


@pytest.mark.parametrize("text", ["postgresql://[u:secret@h/db", "redis://[?password=secret"])
def test_what_is_no_url_is_taken_for_one_with_a_secret(text: str) -> None:
    assert holds_secret(text)
    assert not holds_secret("[plain text")


@pytest.mark.parametrize(
    "uri",
    [
        "abfss://account.dfs.core.windows.net/c?tenant_id=t&client_id=i&client_secret=x",  # pyarrow.fs
        "rediss://host:6379/0?ssl_keyfile=k&ssl_password=x",  # redis-py
    ],
)
def test_the_secrets_that_other_libraries_take_in_a_uri_are_found(uri: str) -> None:
    assert holds_secret(uri)
