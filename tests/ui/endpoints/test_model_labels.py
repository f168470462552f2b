from __future__ import annotations

import pytest

from ui.endpoints.model_labels import model_choices, problem_sentences
from ui.endpoints.served_models import ModelListing, ServedModel


@pytest.mark.parametrize(
    ("urls", "labels"),
    [
        (["http://a:1/v1"], ["smol"]),
        (["http://a:1/v1", "http://b:1/v1"], ["smol (a:1)", "smol (b:1)"]),
        (["http://a:1/v1", "http://a:1/base/v1"], ["smol (a:1)", "smol (a:1/base)"]),
        (["http://a:1/v1", "https://a:1/v1"], ["smol (http://a:1/v1)", "smol (https://a:1/v1)"]),
    ],
)
def test_no_two_models_look_the_same(urls: list[str], labels: list[str]) -> None:
    listing = ModelListing(tuple(ServedModel("smol", url) for url in urls), ())
    assert [label for label, _ in model_choices(listing)] == labels
    assert [value for _, value in model_choices(listing)] == [f"{url} smol" for url in urls]


def test_problems_are_sentences() -> None:
    assert "serves no model" in problem_sentences(ModelListing((), ()))[0]
    assert problem_sentences(ModelListing((), ("Nothing answers.",))) == ("Nothing answers.",)
