from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.ui.scripted_endpoint import serve_in_thread
from tuneyard.core.errors import ConfigError, PortInUseError
from ui.endpoints.chat_client import ChatClient
from ui.server.listening import describe, open_socket
from ui.server.page_server import PageOptions, build_page_app

ROOT = Path(__file__).parents[3]


def start_ui(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ui", "--base-url", "http://127.0.0.1:9/v1", *options]
    environ = os.environ | {"PYTHONPATH": "platform:."}
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def test_the_page_loads_nothing_from_other_hosts() -> None:
    # Async, because gradio leaks event loops when it is built outside a running one.
    options = PageOptions(title="Acme support", examples=["Where is my order?"])
    with serve_in_thread(build_page_app(ChatClient(["http://127.0.0.1:9/v1"]), options)) as root_url:
        response = await asyncio.to_thread(httpx.get, root_url)
        theme = await asyncio.to_thread(httpx.get, f"{root_url}/theme.css")
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "Acme support" in response.text
    assert "Where is my order?" in response.text
    loaded = r"""(?:<script[^>]*\ssrc|<link[^>]*\shref|url\()=?["'(]?(https?:[^"')\s]+)"""
    assert re.findall(loaded, response.text + theme.text) == []


def test_a_port_in_use_is_an_error_that_names_the_option() -> None:
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is taken.*--port"):
            open_socket("127.0.0.1", port)
        ui = start_ui("--port", str(port))
        _, errors = ui.communicate(timeout=60)
    assert ui.returncode == 1
    assert errors.startswith(f"python -m ui: port {port}")
    assert "Traceback" not in errors


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 7860), ("127.0.0.1", 70000)])
def test_an_impossible_address_is_explained(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match="--port"):
        open_socket(host, port)


def test_the_server_ends_cleanly_while_a_tab_is_open() -> None:
    """SIGTERM stands for Ctrl-C too: both raise KeyboardInterrupt."""
    with start_ui("--port", "0") as ui:
        assert ui.stdout is not None
        address = re.search(r"http://\S+", ui.stdout.readline())
        assert address
        with httpx.stream("GET", f"{address.group()}/gradio_api/heartbeat/a-tab", timeout=60) as open_tab:
            assert open_tab.status_code == 200
            ui.send_signal(signal.SIGTERM)
            _, errors = ui.communicate(timeout=30)
    assert (ui.returncode, errors) == (0, "")


def test_the_address_line_warns_if_other_machines_can_reach_the_page() -> None:
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert describe("127.0.0.1", listener) == f"Chat page: http://127.0.0.1:{port}  (Ctrl-C ends it)"
        assert "each person signs in with an API key" in describe("0.0.0.0", listener)
