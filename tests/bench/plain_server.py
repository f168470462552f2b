"""A program that serves a scripted engine over the API with plain uvicorn, without Ray, and prints its URL.

python -m tests.bench.plain_server CHECKPOINT TEXT INTERVAL_S
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings


def main() -> None:
    """Serves until it is killed."""
    checkpoint, text, interval_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    engine = ScriptedEngine([encode_spelled_out(checkpoint, text)], token_interval_s=interval_s)
    served = ServedApi(engine, HarmonyCodec.from_checkpoint(checkpoint, CodecSettings()))
    print(served.root, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
