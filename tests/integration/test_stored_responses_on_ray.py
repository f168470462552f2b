"""Stored responses in PostgreSQL on real Ray: shared by replicas, and what happens when the database is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.harmony_text import encode_spelled_out
from tests.integration.processes import free_port, running
from tests.postgresql_server import PostgresqlServer
from tests.serve_apps.api_client import ANSWER

pytestmark = pytest.mark.integration


def test_replicas_share_responses_and_survive_the_database(tiny_oss: Path, tmp_path: Path) -> None:
    port = free_port()
    with PostgresqlServer(tmp_path) as server:
        model = {
            "model_id": "tiny",
            "checkpoint": str(tiny_oss),
            "engine": {"engine": "scripted", "script": [encode_spelled_out(tiny_oss, ANSWER)]},
            "replicas": {"num_replicas": 2, "num_cpus": 0.3},
        }
        config: dict[str, Any] = {
            "http": {"port": port},
            "responses": {"store": True},
            "database": {"url": server.create_database(), "password_file": str(server.password_file)},
            "models": [model],
        }
        path = tmp_path / "serve.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        arguments = ("-m", "serve_apps.deploy", "--config", str(path), "--address", "local")
        with running(tmp_path, tmp_path / "home", *arguments) as command:
            command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
            root = f"http://127.0.0.1:{port}"
            client = openai.OpenAI(base_url=f"{root}/v1", api_key="none", max_retries=0)
            first = client.responses.create(model="tiny", input="hi")
            again = client.responses.create(model="tiny", input="and?", previous_response_id=first.id)
            # Serve picks a replica at random: with ten requests each of two is asked, but for one time in 500.
            for _ in range(10):
                assert client.responses.retrieve(again.id).output_text == "Héllo \U0001f389!"
                assert len(list(client.responses.input_items.list(again.id))) > 2
            server.stop()
            with pytest.raises(openai.InternalServerError, match="PostgreSQL database") as error:
                client.responses.create(model="tiny", input="hi")
            assert (error.value.status_code, error.value.code) == (503, "store_unavailable")
            assert client.responses.create(model="tiny", input="hi", store=False).status == "completed"
            assert httpx.get(f"{root}/healthz").status_code == 200
            server.start()
            for _ in range(10):
                assert client.responses.retrieve(again.id).id == again.id
