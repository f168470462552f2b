"""Runs benchmarks by name, prints each result as JSON, and writes it to a file in `$TUNEYARD_HOME/bench`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time

from tests.bench import (
    accuracy,
    agreement,
    api_lag,
    batches,
    batching,
    cluster,
    conversations,
    data,
    engine,
    engines,
    help_time,
    hostile,
    job_start,
    page,
    peer_serving,
    request_costs,
    serve_throughput,
    storage,
    train_throughput,
    uploads,
)
from tuneyard.core.home import tuneyard_home

BENCHMARKS = {
    "train": train_throughput.run,
    "serve": serve_throughput.run,
    "accuracy": accuracy.run,
    "agreement": agreement.run,
    "data": data.run,
    "conversations": conversations.run,
    "batching": batching.run,
    "engine": engine.run,
    "engines": engines.run,
    "api": api_lag.run,
    "batches": batches.run,
    "uploads": uploads.run,
    "jobs": job_start.run,
    "hostile": hostile.run,
    "costs": request_costs.run,
    "peer": peer_serving.run,
    "storage": storage.run,
    "cluster": cluster.run,
    "help": help_time.run,
    "page": page.run,
}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {sorted(unknown)[0]!r}; choose from {', '.join(BENCHMARKS)}")
    folder = tuneyard_home() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        result = {"benchmark": name, "machine": platform.processor() or platform.machine(), **BENCHMARKS[name]()}
        print(json.dumps(result, indent=1), flush=True)
        (folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
