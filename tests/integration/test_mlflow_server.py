"""The registry on a real MLflow server, which accepts fewer values than MLflow's SQLite store."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.integration.processes import free_port, running
from tuneyard.checkpoints.references import locate_checkpoint
from tuneyard.checkpoints.registry import ModelRegistry

pytestmark = pytest.mark.integration


def test_folders_and_uris_are_registered_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    command = ("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = (
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/m.db",
        "--default-artifact-root",
        str(tmp_path / "artifacts"),
    )
    with running(tmp_path, tmp_path / "home", *command, *stores) as server:

        def is_answering() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        server.wait_for(is_answering, "answer of MLflow")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        registry = ModelRegistry()
        run = registry.start_run("support", "r", {"epochs": 1}, None)
        registry.log_points(run, [(1, {"loss": 2.0})])
        for number, location in enumerate(
            (str(tmp_path / "a folder" / "1"), "s3://bucket/models/support/2?scheme=http"), 1
        ):
            registry.register("support", location, run, {"run_name": "r"})
            assert locate_checkpoint("support@newest") == (location, f"support/{number}")
        registry.end_run(run, succeeded=True)
