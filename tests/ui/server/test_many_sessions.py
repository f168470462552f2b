"""The page over HTTP as browsers use it, without a browser: many sessions at once, and the first visitor."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import httpx
import pytest

from tests.ui.gradio_session import GradioSession
from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import ScriptedEndpoint, serve_in_thread

SESSIONS = 20
IMPORT_TIME = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def echo() -> Iterator[ScriptedEndpoint]:
    """An endpoint of two models that repeat the question word by word."""
    endpoint = ScriptedEndpoint(models=["one", "two"], delay_s=0.01)
    with serve_in_thread(endpoint.build_app()) as root_url:
        endpoint.base_url = f"{root_url}/v1"
        yield endpoint


@dataclass(frozen=True)
class LoggedPage:
    """A running page, and the log of its imports."""

    url: str
    import_log: Path
    imports_before_visits: int

    def imports(self) -> list[tuple[str, str]]:
        """Microseconds and name of every module that was imported so far."""
        return IMPORT_TIME.findall(self.import_log.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(echo: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedPage]:
    """A page of that endpoint."""
    path = tmp_path_factory.mktemp("page") / "imports.txt"
    with path.open("w", encoding="utf-8") as log:
        server = PageServer(("--base-url", echo.base_url), python_options=("-X", "importtime"), stderr=log)
        server.start()
        yield LoggedPage(server.url, path, len(IMPORT_TIME.findall(path.read_text(encoding="utf-8"))))
        server.stop()


@pytest.mark.parametrize("path", ["/", "/compare"])
async def test_twenty_sessions_stream_at_once_and_each_gets_its_own_whole_answer(
    path: str, echo: ScriptedEndpoint, page: LoggedPage
) -> None:
    questions = [" ".join(f"tab{n}word{i}" for i in range(150)) + " echo" for n in range(SESSIONS)]
    async with httpx.AsyncClient(base_url=page.url, timeout=60) as http:
        tabs = [await GradioSession.open(http, path) for _ in questions]
        await asyncio.gather(*(tab.ask(question) for tab, question in zip(tabs, questions, strict=True)))
    for tab, question in zip(tabs, questions, strict=True):
        assert answers_of(tab) == [question] * (1 if path == "/" else 2)
        assert tab.value("question") == ""
    assert echo.most_streams >= SESSIONS, "the answers did not stream at once"


def answers_of(tab: GradioSession) -> list[str]:
    """The texts of the answers that a tab shows."""
    if "Ask all of them" in json.dumps(tab.props("question")):
        texts = re.findall(r'<span class="cmp-source" hidden>(.*?)</span>', tab.value("compare-board"), re.DOTALL)
        return [unescape(text) for text in texts]
    return [
        content["text"]
        for message in tab.value("chat")
        if message["role"] == "assistant"
        for content in message["content"]
        if content["type"] == "text"
    ]


async def test_no_visitor_waits_for_imports(page: LoggedPage) -> None:
    """What is imported on the event loop after the page answers makes the first visitors wait: 1.4 to 8 s once."""
    async with httpx.AsyncClient(base_url=page.url, timeout=60) as http:
        for path in ("/", "/compare"):
            tab = await GradioSession.open(http, path)
            await tab.ask("hello")
            assert "hello" in json.dumps(answers_of(tab))
    assert page.imports_before_visits > 1000, "the log has no imports"
    late = {name: int(microseconds) / 1e6 for microseconds, name in page.imports()[page.imports_before_visits :]}
    assert sum(late.values()) < 0.1, sorted(late.items(), key=lambda entry: -entry[1])[:20]
