"""What one node knows about itself. Runs on the node, pickled by value: it needs Ray there, but no Tuneyard."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import platform
import shutil
import subprocess
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "tuneyard", "torch", "transformers", "numpy")
COMPONENTS = (
    ("/raylet/raylet", "raylet"),
    ("/gcs/gcs_server", "gcs_server"),
    ("/dashboard/dashboard.py", "dashboard"),
    ("/dashboard/agent.py", "metrics agent"),
    ("ray::DashboardAgent", "metrics agent"),
    ("/runtime_env/agent/", "runtime env agent"),
    ("ray::RuntimeEnvAgent", "runtime env agent"),
    ("/monitor.py", "autoscaler"),
    ("ray.util.client.server", "client server"),
    ("ProxyActor", "serve proxy"),
    ("haproxy", "serve proxy"),
)
"""What a command line of Ray 2.60 begins with, and whose it is; all others are workers and what they started."""
FINGERPRINT_BYTES = 1 << 20


def gather_facts(paths: dict[str, str], marker: str, session: str, gcs_address: str, is_head: bool) -> dict[str, Any]:
    """The facts of the node that this runs on, as NodeFacts and its parts name them.

    `paths` holds what `fingerprint` found of each for the driver.
    """
    token = token_file()
    has_token = os.access(token, os.F_OK)
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "driver_gpus": _driver_gpus(),
        "pci_gpus": _pci_gpus(),
        "listeners": _listeners((session, gcs_address) if is_head else ()),
        "paths": [_path_facts(path, expected, marker) for path, expected in paths.items()],
        "token_file": str(token),
        "token_mode": token.stat().st_mode & 0o777 if has_token else None,
        "token_is_exposed": has_token and _others_reach(token),
    }


def wall_clock() -> float:
    """Seconds since 1970, as this node has it."""
    return time.time()


def expand(path: str) -> Path:
    """The path with this process' variables and home."""
    return Path(os.path.expandvars(path)).expanduser()


def fingerprint(path: Path, marker: str) -> str:
    """What tells whether two machines see the same file or folder; empty when it is not there.

    Of a folder: the marker file's content, or without one the names and sizes in it. Of a file: a hash of its size and
    of its first and last MiB.
    """
    try:
        if path.is_dir():
            if (path / marker).is_file():
                return (path / marker).read_text(encoding="utf-8")
            files = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".tuneyard-")]
            entries = sorted(f"{p.name} {p.stat().st_size}" for p in files)
            return hashlib.sha256("\n".join(entries).encode()).hexdigest()
        with path.open("rb") as file:
            size = path.stat().st_size
            hashed = hashlib.sha256(f"{size} ".encode() + file.read(FINGERPRINT_BYTES))
            file.seek(max(0, size - FINGERPRINT_BYTES))
            hashed.update(file.read(FINGERPRINT_BYTES))
            return hashed.hexdigest()
    except OSError:
        return ""


def token_file() -> Path:
    """Where Ray's token lies, if it lies in a file."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def component_of(command: list[str]) -> str:
    """Which of Ray's processes has this command line."""
    # Only its beginning: the raylet's holds the command lines of all that it starts.
    start = " ".join(command[:3])
    return next((name for part, name in COMPONENTS if part in start), "worker")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens there."""
    return ipaddress.ip_address(address.removeprefix("::ffff:").split("%")[0]).is_loopback


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver_gpus() -> int:
    """Not PyTorch's count: Ray hides the GPUs from a task that asked for none."""
    if shutil.which("nvidia-smi") is None:
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def _pci_gpus() -> int:
    """NVIDIA's display controllers (PCI class 03), with a driver or without one."""
    found = 0
    for vendor in Path("/sys/bus/pci/devices").glob("*/vendor"):
        with contextlib.suppress(OSError):
            kind = vendor.with_name("class").read_text()
            found += vendor.read_text().strip() == "0x10de" and kind.startswith("0x03")
    return found


def _listeners(marks_of_the_head: tuple[str, ...]) -> list[dict[str, Any]]:
    """Ports beyond loopback of this worker's raylet and all below it; on the head also of what carries its marks."""
    import psutil

    # Not its parent's: what a runtime environment starts a worker with may stand between.
    raylet = psutil.Process(int(os.environ["RAY_RAYLET_PID"]))
    processes = [raylet, *raylet.children(recursive=True)]
    for process in psutil.process_iter() if marks_of_the_head else ():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if any(mark in part for mark in marks_of_the_head for part in command):
                processes += [process] if component_of(command) not in ("raylet", "worker") else []
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            component = component_of(process.cmdline())
            for socket in process.net_connections("tcp"):
                if socket.status == psutil.CONN_LISTEN and not is_loopback(socket.laddr.ip):
                    key = (socket.laddr.ip, socket.laddr.port)
                    # A child may hold its parent's socket: the parent comes first.
                    found.setdefault(key, {"component": component, "address": key[0], "port": key[1]})
    return list(found.values())


def _path_facts(path: str, expected: str, marker: str) -> dict[str, Any]:
    here = expand(path)
    return {
        "path": path,
        "expanded": str(here),
        # Unlike Path.exists, no error where a folder above may not be entered.
        "exists": os.access(here, os.F_OK),
        "writable": _is_writable(here),
        "same_content": bool(expected) and fingerprint(here, marker) == expected,
    }


def _is_writable(path: Path) -> bool:
    """Tried out for a folder: on network file systems its mode does not tell."""
    trial = path / f".tuneyard-writable-{uuid.uuid4().hex}"
    try:
        if not path.is_dir():
            return os.access(path, os.W_OK)
        trial.touch()
        trial.unlink()
    except OSError:
        return False
    return True


def _others_reach(path: Path) -> bool:
    """Whether the group or others may read the file, all folders above it considered."""
    allowed = path.stat().st_mode & 0o044
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        allowed &= (0o040 if mode & 0o010 else 0) | (0o004 if mode & 0o001 else 0)
    return allowed != 0
