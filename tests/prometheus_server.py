"""A real Prometheus on the loopback interface, of Debian's package `prometheus`."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.server_process import ServerProcess
from tuneyard.core.ports import free_port

SCRAPE_INTERVAL_S = 0.5


class PrometheusServer(ServerProcess):
    """A server that scrapes `targets` (host:port) every SCRAPE_INTERVAL_S seconds.

    Skips the test if Prometheus is not installed, except in CI, where .ci/run installs it.
    """

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        program = shutil.which("prometheus")
        if program is None:
            assert "CI" not in os.environ, ".ci/run must install Debian's package prometheus"
            pytest.skip("needs Prometheus: apt-get install prometheus")
        self._program = program
        self._target_count = len(targets)
        (folder / "prometheus").mkdir()
        super().__init__(folder / "prometheus")
        port = free_port()
        self._address = f"127.0.0.1:{port}"
        self.url = f"http://{self._address}"
        interval = f"{SCRAPE_INTERVAL_S * 1000:.0f}ms"
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [{"job_name": "tuneyard", "static_configs": [{"targets": list(targets)}]}],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")

    def start(self) -> None:
        """Starts the server, without data; returns when it has scraped all targets."""
        options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={self._address}"]
        self.run([self._program, *options])

    def answers(self) -> bool:
        """Whether all targets were scraped. Prometheus begins with that five seconds after its start."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?query=sum(up)", timeout=1) as response:
                result = json.load(response)["data"]["result"]
        except OSError:
            return False
        return bool(result) and float(result[0]["value"][1]) == self._target_count
