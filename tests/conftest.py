"""Fixtures of all tests: a temporary TUNEYARD_HOME, one torch thread, and one tiny model per session."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.object_store import ObjectStore
    from tests.postgresql_server import PostgresqlServer
    from tuneyard.storage.sql.location import SqlLocation

# Without a deadline: tests run on shared machines, where any test can be slow.
settings.register_profile("tuneyard", deadline=None)
settings.load_profile("tuneyard")

# Set before torch is imported: the machines that run tests have few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class LoggersByName(dict[str, Any]):
    """All loggers. pytest 9.2 reads them at each test without logging's lock, while a thread of the product may import
    a package that adds its own: "dictionary changed size during iteration"."""

    def values(self) -> Any:
        return list(super().values())


logging.Logger.manager.loggerDict = LoggersByName(logging.Logger.manager.loggerDict)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The garbage collector never visits what is there before the first test: modules and tests live to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        # By default a seventh of the time went into its visits.
        gc.set_threshold(10_000, 10, 10)


@pytest.fixture(autouse=True)
def own_products() -> Iterator[None]:
    """What a training in a test's process has set for the products of matrices does not reach the next test."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_float32_matmul_precision("highest")


@pytest.fixture(scope="session", autouse=True)
def tuneyard_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TUNEYARD_HOME and TUNEYARD_CACHE in a temporary folder, so that no test reads or changes a person's own."""
    home = tmp_path_factory.mktemp("tuneyard_home")
    with pytest.MonkeyPatch.context() as patch:
        # Benchmarks on a GPU read the models in the person's own home.
        patch.setenv("TUNEYARD_OUTER_HOME", os.environ.get("TUNEYARD_HOME", ""))
        patch.setenv("TUNEYARD_HOME", str(home))
        patch.setenv("TUNEYARD_CACHE", str(home / "cache"))
        yield home


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store with the bucket `s3://bucket`; this process' environment reaches it."""
    from tests.object_store import ObjectStore

    with ObjectStore(tmp_path_factory.mktemp("store")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    """A PostgreSQL server. Do not stop it: it is for all tests of the session."""
    from tests.postgresql_server import PostgresqlServer

    with PostgresqlServer(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_location(request: pytest.FixtureRequest, tmp_path: Path) -> SqlLocation:
    """A new SQL database of each kind."""
    from tuneyard.storage.sql.location import SqlLocation

    if request.param == "sqlite":
        return SqlLocation(file=tmp_path / "db")
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return SqlLocation(url=server.create_database(), password_file=server.password_file)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty node cache for checkpoints from the store. The process releases its copies at the end."""
    from tuneyard.checkpoints import node_cache

    monkeypatch.setenv("TUNEYARD_CACHE", str(tmp_path / "cache"))
    yield
    for folder in list(node_cache._in_use):
        node_cache.release(folder)


@pytest.fixture(scope="session")
def tiny_oss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint tiny-oss-random. Do not change it; `tiny_oss_copy` is a copy to change."""
    import torch

    from jobs.bases.tiny_oss import build_tiny_oss

    torch.set_num_threads(1)
    target = tmp_path_factory.mktemp("models") / "tiny-oss-random"
    build_tiny_oss(target)
    return target


@pytest.fixture(scope="session", params=["20b", "120b"])
def published_base(request: pytest.FixtureRequest, tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small model in the published form of each size (tests.mxfp4_base.PublishedBase). Do not change it."""
    from tokenizers import Tokenizer

    from tests.mxfp4_base import build_published_base

    tokenizer = Tokenizer.from_file(str(tiny_oss / "tokenizer.json"))
    return build_published_base(request.param, tokenizer, tmp_path_factory.mktemp(f"published-{request.param}"))


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TUNEYARD_HOME with an empty registry, which takes seconds to make. Do not change it, copy it."""
    from tuneyard.checkpoints.registry import ModelRegistry

    home = tmp_path_factory.mktemp("empty_home")
    ModelRegistry(home)
    return home


@pytest.fixture
def tiny_oss_copy(tiny_oss: Path, tmp_path: Path) -> Path:
    """A copy of tiny-oss-random that the test may change."""
    return Path(shutil.copytree(tiny_oss, tmp_path / "tiny-oss-copy"))
