"""The form parser gives the file's bytes in any cutting of the body, and refuses all that is no such form."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.files.multipart_form import MAX_FIELD_BYTES, MAX_FIELDS, MultipartForm
from tuneyard.core.errors import RequestError

CONTENT_TYPE = "multipart/form-data; boundary=cut"
FIELDS = ("purpose", "expires_after[seconds]")


def form_body(content: bytes, filename: str = "a.jsonl", **fields: str) -> tuple[str, bytes]:
    """Content-Type and body, as the OpenAI SDK for Python sends them."""
    request = httpx.Request("POST", "http://test", data=fields, files={"file": (filename, content)})
    return request.headers["Content-Type"], request.read()


def parse(content_type: str, body: bytes, cuts: list[int] | None = None) -> tuple[MultipartForm, bytes]:
    """The form and its file's bytes, from the body in pieces."""
    form, content, start = MultipartForm(content_type, "file", FIELDS), b"", 0
    for end in [*sorted(cut % (len(body) + 1) for cut in cuts or []), len(body)]:
        content += b"".join(form.feed(body[start:end]))
        start = end
    form.check_complete()
    return form, content


def part(disposition: str, content: str = "x", headers: str = "") -> str:
    return f"--cut\r\nContent-Disposition: {disposition}\r\n{headers}\r\n{content}\r\n"


FILE = part('form-data; name="file"; filename="a.jsonl"', '{"a": 1}')


@given(
    content=st.binary(max_size=300)
    | st.text("\r\n-cut", max_size=80).map(str.encode)
    | st.binary(max_size=9).map(lambda data: data * 4000),
    purpose=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    filename=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 10**6), max_size=12),
)
def test_any_file_arrives_whole_in_any_pieces(content: bytes, purpose: str, filename: str, cuts: list[int]) -> None:
    form, received = parse(*form_body(content, filename, purpose=purpose), cuts)
    assert received == content
    assert form.values == {"purpose": purpose}
    assert form.filename is not None


@given(body=st.binary(max_size=400), cuts=st.lists(st.integers(0, 500), max_size=4))
def test_any_bytes_are_a_form_or_an_error_for_the_client(body: bytes, cuts: list[int]) -> None:
    with pytest.raises(RequestError):
        parse(CONTENT_TYPE, body, cuts)


@given(end=st.integers(0, 10**6))
def test_a_body_that_is_cut_is_refused(end: int) -> None:
    content_type, body = form_body(b'{"a": 1}\n' * 20, purpose="batch")
    whole = len(body.removesuffix(b"\r\n"))
    with pytest.raises(RequestError):
        parse(content_type, body[: end % whole])


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("multipart/form-data", FILE + "--cut--", "no boundary"),
        (f"multipart/form-data; boundary={'b' * 1000}", FILE, "Boundary length"),
        (CONTENT_TYPE, "--cut--", "'file'"),
        (CONTENT_TYPE, "--other--", "not a valid multipart"),
        (CONTENT_TYPE, part('form-data; name="purpose"') + "--cut--", "'file'"),
        (CONTENT_TYPE, part('form-data; filename="x"') + "--cut--", "no name"),
        (CONTENT_TYPE, part('attachment; name="file"') + "--cut--", "no name"),
        (CONTENT_TYPE, "--cut\r\n\r\nx\r\n--cut--", "no name"),
        (CONTENT_TYPE, FILE + FILE + "--cut--", "'file' twice"),
        (CONTENT_TYPE, part('form-data; name="purpose"') * 2 + "--cut--", "'purpose' twice"),
        (CONTENT_TYPE, part('form-data; name="other"') + "--cut--", "Unknown parameter: 'other'"),
        (CONTENT_TYPE, part('form-data; name="purpose"', "x" * (MAX_FIELD_BYTES + 1)), "more than"),
        (CONTENT_TYPE, part('form-data; name="file"', headers="A: b\r\n" * 20), "not a valid multipart"),
        (CONTENT_TYPE, part('form-data; name="file"', headers=f"A: {'b' * 9000}\r\n"), "not a valid multipart"),
    ],
)
def test_a_wrong_form_is_named(content_type: str, body: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse(content_type, body.encode())


def test_a_field_that_is_not_text_is_refused() -> None:
    body = b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n\xff\r\n--cut--'
    with pytest.raises(RequestError, match="not UTF-8"):
        parse(CONTENT_TYPE, body)


def test_the_number_of_fields_is_limited() -> None:
    fields = [f"f{number}" for number in range(MAX_FIELDS + 1)]
    form = MultipartForm(CONTENT_TYPE, "file", fields)
    with pytest.raises(RequestError, match="Unknown parameter"):
        form.feed("".join(part(f'form-data; name="{name}"') for name in fields).encode())


def test_what_follows_the_end_is_skipped() -> None:
    form, content = parse(CONTENT_TYPE, (FILE + "--cut--\r\n" + "x" * 5000).encode(), [len(FILE) + 8, len(FILE) + 500])
    assert (content, form.filename) == (b'{"a": 1}', "a.jsonl")
