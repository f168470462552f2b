"""Makes the first proxy of a Ray Serve too slow to start, as on a machine that is busy for a while."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tuneyard.api.header_limits import install_in_uvicorn

MARK = "TUNEYARD_TEST_SLOW_PROXY"


def slow_proxy_environment(mark: Path) -> dict[str, str]:
    """For a process that starts a private Ray. `mark` does not exist yet."""
    return {
        MARK: str(mark),
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:{start_slowly_once.__name__}",
        # So that the test need not wait as long as Serve does before it kills the proxy.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "0.7",
    }


def start_slowly_once() -> list[Any]:
    """Called by Ray Serve in a proxy, in place of install_in_uvicorn, before it listens."""
    try:
        Path(os.environ[MARK]).touch(exist_ok=False)
    except FileExistsError:
        return install_in_uvicorn()
    time.sleep(60)
    return install_in_uvicorn()
