"""The whole application for the published examples: a base that trains in this process, and the models `writer` and
`judge`. Examples are HTTP calls, made one after the other; what one answers, later ones may name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import Work, chat_rows
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest

DEADLINE_S = 20.0
STEP_S = 0.01


class PublishedServer:
    """Answers examples with the key of one owner. `saved` are values of earlier answers, by name."""

    def __init__(self, platform: PlatformUnderTest, cluster: ClusterInProcess) -> None:
        self._http = platform.http(platform.create_key("reader of the reference"))
        self._work = Work(platform, cluster)
        self._cluster = cluster
        self.saved: dict[str, str] = {}

    async def answer(self, example: Mapping[str, Any]) -> httpx.Response:
        """The answer to an example's call, after what it waits for."""
        if "after" in example:
            await self._wait(example["after"]["call"], example["after"]["has"], is_trained=False)
        if "until" in example:
            await self._wait(example["call"], example["until"], is_trained=True)
        method, path = self._filled(example["call"]).split(" ")
        content: dict[str, Any] = {}
        if "json" in example:
            content["json"] = json.loads(self._filled(json.dumps(example["json"])))
        if "file" in example:
            file = example["file"]
            rows = "".join(json.dumps(row) + "\n" for row in file.get("rows", ())).encode()
            content["files"] = {file["field"]: (file["filename"], rows or chat_rows(file["chats"]))}
            content["data"] = example["form"]
        answer = await self._http.request(method, path, **content)
        for name, field in example.get("save", {}).items():
            self.saved[name] = answer.json()[field]
        return answer

    async def _wait(self, call: str, values: Mapping[str, Any], *, is_trained: bool) -> None:
        """Steps the reconciler until the call answers these values; runs of jobs go on if `is_trained`."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = (await self._http.get(self._filled(call).split(" ")[1])).json()
            if all(found.get(name) == value for name, value in values.items()):
                return
            assert time.monotonic() < deadline, f"{call} still answers {found}"
            await self._work.step()
            for run_id in self._cluster.live_runs():
                if is_trained:
                    self._cluster.finish(run_id)
                else:
                    self._cluster.train(run_id)
            await asyncio.sleep(STEP_S)

    def _filled(self, text: str) -> str:
        """The text with saved values in the place of `{name}`."""
        for name, value in self.saved.items():
            text = text.replace("{" + name + "}", value)
        return text
