"""Throughput of uploads to the fine-tuning API against the raw disk, and latency of its lists with many jobs.

The API runs on a private Ray, behind Serve's proxy, as users run it; the client is on the same machine. The raw disk is
written in the same folder in blocks of one mebibyte, and synced, as an uploaded file is. The jobs are in the store, and
no reconciler works on them.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.bases import TINY, base
from tests.bench.platform_process import served_platform
from tests.integration.platform_server import PlatformServer, platform_server
from tests.process_memory import own_bytes

MIB = 2**20
SIZE_MIB, ROUNDS = 256, 3
PART_MIB = 32
JOBS, LISTINGS = 200, 400


def run() -> dict[str, Any]:
    """Medians of MiB/s, their ratio to the raw disk, memory, and the latency of lists in milliseconds."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        source = folder / "source.jsonl"
        write_rows(source)
        with platform_server(folder / "served", base(TINY)) as server:
            uploads = measure_uploads(server, source)
        lists = measure_lists(folder / "lists")
    return {"file_mib": SIZE_MIB, "rounds": ROUNDS, **uploads, "jobs": JOBS, **lists}


def write_rows(path: Path) -> None:
    """SIZE_MIB of JSONL whose rows differ."""
    row = '{"custom_id": "%08d", "body": {"text": "' + "x" * 960 + '"}}\n'
    with path.open("w", encoding="ascii") as file:
        number = 0
        while file.tell() < SIZE_MIB * MIB:
            file.write("".join(row % n for n in range(number, number + 1024)))
            number += 1024


def measure_uploads(server: PlatformServer, source: Path) -> dict[str, Any]:
    """Rounds of: the raw disk, one upload, one upload in parts, a download; and the most memory meanwhile."""
    rates: dict[str, list[float]] = {"disk": [], "file": [], "parts": [], "content": []}
    size = source.stat().st_size / MIB
    replica, proxy = (server.command.descendants(name)[0] for name in ("ServeReplica:gateway:Platform", "ProxyActor"))
    with server.client(server.create_key("bench"), timeout=600) as client, highest_memory(replica, proxy) as memory:
        for _ in range(ROUNDS):
            rates["disk"].append(size / write_raw(source, server.home / "platform" / "raw"))
            started = time.monotonic()
            with source.open("rb") as file:
                created = client.files.create(file=file, purpose="batch")
            rates["file"].append(size / (time.monotonic() - started))
            started = time.monotonic()
            done = client.uploads.upload_file_chunked(
                file=source, mime_type="text/jsonl", purpose="batch", part_size=PART_MIB * MIB
            )
            rates["parts"].append(size / (time.monotonic() - started))
            started = time.monotonic()
            with client.files.with_streaming_response.content(created.id) as answer:
                received = sum(len(block) for block in answer.iter_bytes())
            assert received == created.bytes
            rates["content"].append(size / (time.monotonic() - started))
            assert done.file is not None
            for file_id in (created.id, done.file.id):
                client.files.delete(file_id)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "mib_per_s": medians,
        "ratio_file": medians["file"] / medians["disk"],
        "ratio_parts": medians["parts"] / medians["disk"],
        "replica_grown_mib": memory[replica.pid],
        "proxy_grown_mib": memory[proxy.pid],
    }


def write_raw(source: Path, target: Path) -> float:
    """Seconds to copy a file block by block and sync it."""
    started = time.monotonic()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(MIB):
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())
    seconds = time.monotonic() - started
    target.unlink()
    return seconds


@contextlib.contextmanager
def highest_memory(*processes: psutil.Process) -> Iterator[dict[int, float]]:
    """How much the memory of each process has grown at most, in MiB, by its id; memory shared with others left out.

    Ray's processes map its object store, whose pages are shared.
    """
    first = {process.pid: own_bytes(process) for process in processes}
    grown = dict.fromkeys(first, 0.0)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for process in processes:
                now = (own_bytes(process) - first[process.pid]) / MIB
                grown[process.pid] = max(grown[process.pid], now)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        stop.set()
        thread.join()


def measure_lists(folder: Path) -> dict[str, Any]:
    """Latency of a page of jobs, and of all files, with JOBS jobs in the store; and how memory grew over LISTINGS."""
    with served_platform(folder, JOBS) as (process, root), httpx.Client(base_url=root, timeout=60) as client:
        for path in ("/v1/fine_tuning/jobs", "/v1/files"):
            assert client.get(path).status_code == 200
        first = process.memory_info().rss
        times: dict[str, list[float]] = {}
        for _ in range(LISTINGS):
            for name, path in (
                ("jobs_page", "/v1/fine_tuning/jobs?limit=20"),
                ("jobs_100", "/v1/fine_tuning/jobs?limit=100"),
                ("files", "/v1/files"),
            ):
                started = time.monotonic()
                answer = client.get(path)
                times.setdefault(name, []).append((time.monotonic() - started) * 1000)
                assert answer.status_code == 200
        assert len(answer.json()["data"]) == JOBS
        grown = (process.memory_info().rss - first) / MIB
    return {
        "list_p95_ms": {name: statistics.quantiles(values, n=20)[-1] for name, values in times.items()},
        "list_median_ms": {name: statistics.median(values) for name, values in times.items()},
        "lists_grown_mib": grown,
    }
