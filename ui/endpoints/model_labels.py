"""How models are named in lists, so that no two look the same."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from ui.endpoints.served_models import ModelListing, ServedModel


def model_choices(listing: ModelListing) -> list[tuple[str, str]]:
    """Labels and values of a dropdown. A label names the endpoint if several endpoints serve the same model id."""
    return [(label_of(model, listing.models), model.key) for model in listing.models]


def label_of(model: ServedModel, among: Sequence[ServedModel]) -> str:
    """The model id, with as much of its base URL as tells it from the others of the same id."""
    urls = [other.base_url for other in among if other.model_id == model.model_id]
    if len(urls) < 2:
        return model.model_id
    return f"{model.model_id} ({_shortest_name(model.base_url, urls)})"


def _shortest_name(base_url: str, urls: Sequence[str]) -> str:
    """The first of host, host and path, and the whole URL that differs for all URLs. `/v1` at the end says nothing."""
    for name_of in (_host, _host_and_path):
        if len({name_of(url) for url in urls}) == len(set(urls)):
            return name_of(base_url)
    return base_url


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _host_and_path(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc + parts.path.removesuffix("/v1")


def problem_sentences(listing: ModelListing) -> tuple[str, ...]:
    """The endpoints' problems as sentences for people; empty if there are none."""
    if listing.models or listing.problems:
        return listing.problems
    return ("The endpoint answers, but serves no model. Deploy one, then refresh the list.",)
