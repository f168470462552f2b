"""The settings for streams: known to the installed Ray Serve, in the serve image, and weaker than the user's own."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tuneyard.cluster.serve_streams import STREAM_ENVIRONMENT, set_stream_environment


def test_a_variable_of_the_user_stays() -> None:
    name = next(iter(STREAM_ENVIRONMENT))
    environment = {name: "1"}
    set_stream_environment(environment)
    assert environment == STREAM_ENVIRONMENT | {name: "1"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
def test_ray_serve_reads_each_variable() -> None:
    from ray.serve._private import constants

    source = inspect.getsource(constants)
    assert [name for name in STREAM_ENVIRONMENT if f'"{name}"' not in source] == []


def test_the_serve_image_has_them() -> None:
    image = Path("platform/images/serve.Dockerfile").read_text(encoding="utf-8")
    assert [name for name, value in STREAM_ENVIRONMENT.items() if f"{name}={value}" not in image] == []
