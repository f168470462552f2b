"""OpenAI's published examples: requests are accepted, or refused by name; answers have the published fields and types.

`examples/` has the examples of the API reference, in its form and with values of our own, in an order in which they can
be called. An answer must have each field of the published one, with a value of its type; it must be of the SDK's type
by strict rules; and it must have no other field but those in OURS. A published null is compared with nothing.

Fields of an example: `call`, `json` or `form` and `file` (the request); `status`, `type` (the SDK's), `answer`; or
`refused`. `save` names values for later examples; `until` and `after` are what the reconciler must have done before.
`beyond_the_type`: fields with published values that are not in the SDK's own type, such as the status `paused`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openai import types as top_types
from openai.types import evals, fine_tuning, uploads
from openai.types.evals import runs
from openai.types.fine_tuning import alpha, jobs

from serve_apps.generation.served_model import ServedModel
from tests.serve_apps.platform_app.evals.conftest import judge, write
from tests.serve_apps.platform_app.evals.eval_server import ReplyingEngine
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import base_options
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tests.serve_apps.platform_app.published.published_server import PublishedServer
from tests.serve_apps.platform_app.served_models import ServedModels
from tuneyard.api.api_keys import KeyStore
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.storage.sql.location import SqlLocation

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.json"))
TYPE_MODULES = (top_types, fine_tuning, jobs, alpha, uploads, evals, runs)
OURS = {"FileObject.sha256"}
"""Fields that OpenAI has not, as SDK type and field."""

Json = Mapping[str, Any]


@pytest.fixture
async def server(tmp_path: Path, tiny_oss: Path) -> AsyncIterator[PublishedServer]:
    codec, cluster = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings()), ClusterInProcess()
    models = [
        ServedModel(ReplyingEngine(tiny_oss, reply), codec, name, "0123456789abcdef")
        for name, reply in {"writer": write, "judge": judge}.items()
    ]
    options = {"cluster": cluster.services, "directory": ServedModels(models), "max_active_jobs_per_key": 9}
    keys = KeyStore(tmp_path / "api_keys.json")
    location = SqlLocation(file=tmp_path / "platform.db")
    with open_platform(location, tmp_path, keys=keys, **options, **base_options(tmp_path, checkpoints=3)) as platform:
        yield PublishedServer(platform, cluster)
        for part in platform.parts:
            await part.close()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_published_examples(server: PublishedServer, path: Path) -> None:
    examples = json.loads(path.read_text(encoding="utf-8"))
    for example in examples:
        answer = await server.answer(example)
        name, content = f"{path.stem}, {example['name']}", answer.json()
        if "refused" in example:
            error = {"status": answer.status_code} | {key: content["error"][key] for key in ("code", "param")}
            assert error == example["refused"], f"{name}: {content}"
            continue
        assert answer.status_code == example.get("status", 200), f"{name}: {content}"
        check_like(content, example["answer"], name)
        is_page = example["answer"].get("object") == "list"
        items = content["data"] if is_page else [content]
        assert items, f"{name}: the page is empty"
        of_type = [one["answer"] for one in examples if one.get("type") == example["type"]]
        for item in items:
            check_type(item, example, set(all_names(of_type)), name)


def check_like(answer: Any, published: Any, path: str) -> None:
    """Fails if the answer lacks a field of the published one, or has a value of another type."""
    if published is None:
        return
    if isinstance(published, Mapping):
        assert isinstance(answer, Mapping), f"{path} is {answer!r}"
        assert published.keys() <= answer.keys(), f"{path} lacks {published.keys() - answer.keys()}"
        for name, value in published.items():
            check_like(answer[name], value, f"{path}.{name}")
    elif isinstance(published, list):
        assert isinstance(answer, list), f"{path} is {answer!r}"
        for value, one in zip(answer, itertools.cycle(published), strict=False):
            check_like(value, one, path)
    else:
        number = (int, float) if isinstance(published, float) else type(published)
        assert isinstance(answer, number), f"{path} is {answer!r}"


def check_type(answer: Json, example: Json, published: set[str], name: str) -> None:
    """Fails if the answer is not of the SDK's type, lacks a field of it, or has one that is in no published answer."""
    (kind,) = (getattr(module, example["type"]) for module in TYPE_MODULES if hasattr(module, example["type"]))
    fields = {field.alias or own for own, field in kind.model_fields.items()}
    assert fields <= answer.keys(), f"{name} lacks {fields - answer.keys()}"
    beyond = example.get("beyond_the_type", [])
    try:
        parsed = kind.model_validate(answer, strict=True)
    except pydantic.ValidationError as e:
        wrong = [error for error in e.errors() if ".".join(map(str, error["loc"])) not in beyond]
        assert not wrong, f"{name}: {wrong}"
        parsed = kind.construct(**answer)
    unknown = {field for field in fields_beyond(parsed) if field.partition(".")[2] not in published}
    assert unknown <= OURS, f"{name}: {unknown - OURS}"


def fields_beyond(value: Any) -> Iterator[str]:
    """The fields that the SDK's types do not have, as `Type.field`."""
    if isinstance(value, openai.BaseModel):
        for name in value.model_extra or ():
            yield f"{type(value).__name__}.{name}"
        for name in type(value).model_fields:
            yield from fields_beyond(getattr(value, name, None))
    elif isinstance(value, list):
        for one in value:
            yield from fields_beyond(one)


def all_names(value: Any) -> Iterator[str]:
    """The names of all fields in a JSON value."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield name
            yield from all_names(one)
    elif isinstance(value, list):
        for one in value:
            yield from all_names(one)
