"""Gathers the facts of the node that it runs on. Ray sends this module as code, so a node needs no Tuneyard to run it.

It must import nothing but the standard library and what Ray itself installs (psutil).
"""

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
from collections.abc import Callable
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
"""Marks in the command lines of Ray 2.60's processes, with the component. All other processes are workers."""
FINGERPRINT_BYTES = 1 << 20
"""Bytes at each end of a file that its fingerprint covers."""


def gather_facts(
    paths: dict[str, str],
    marker: str,
    head_marks: tuple[str, ...],
    find_token_file: Callable[[], Path],
    gather_host: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Returns the facts of this node, with the fields of NodeFacts, Listener, PathFacts and HostFacts as keys.

    `paths` maps each path to the driver's fingerprint of it. `head_marks` are texts in the command lines of the head's
    own processes, which no raylet started; empty on other nodes. `find_token_file` returns where Ray's token file is,
    `gather_host` the facts of the machine.
    """
    token = find_token_file()
    has_token = os.access(token, os.F_OK)
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "driver_gpus": _driver_gpus(),
        "pci_gpus": _pci_gpus(),
        "listeners": _listeners(head_marks),
        "paths": [_path_facts(path, expected, marker) for path, expected in paths.items()],
        "token_file": str(token),
        "token_mode": token.stat().st_mode & 0o777 if has_token else None,
        "token_is_exposed": has_token and _others_reach(token),
        "host": gather_host(),
    }


def wall_clock() -> float:
    """Returns this node's clock in seconds since 1970."""
    return time.time()


def expand(path: str) -> Path:
    """Returns the path with this node's variables and `~` expanded."""
    return Path(os.path.expandvars(path)).expanduser()


def fingerprint(path: Path, marker: str) -> str:
    """Returns a text that is equal on two machines that see the same file or folder; empty if it does not exist.

    For a folder, the marker file's content, or without one a hash of the names and sizes of its files. For a file, a
    hash of its size and of its first and last FINGERPRINT_BYTES.
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


def component_of(command: list[str]) -> str:
    """Returns the component of Ray whose process has this command line."""
    # Only the beginning counts: the raylet's command line contains those of the processes that it starts.
    start = " ".join(command[:3])
    return next((name for part, name in COMPONENTS if part in start), "worker")


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a port on the address."""
    return ipaddress.ip_address(address.removeprefix("::ffff:").split("%")[0]).is_loopback


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver_gpus() -> int:
    """Returns the number of GPUs that the NVIDIA driver lists.

    PyTorch's count would be 0: Ray hides the GPUs from a task that requests none.
    """
    if shutil.which("nvidia-smi") is None:
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def _pci_gpus() -> int:
    """Returns the number of NVIDIA's display controllers (PCI class 03), with or without a driver."""
    count = 0
    for vendor in Path("/sys/bus/pci/devices").glob("*/vendor"):
        with contextlib.suppress(OSError):
            kind = vendor.with_name("class").read_text()
            count += vendor.read_text().strip() == "0x10de" and kind.startswith("0x03")
    return count


def _listeners(head_marks: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the ports beyond loopback of this node's raylet, its descendants, and the processes with a head mark."""
    import psutil

    # Not psutil's parent(): a runtime environment may start a worker through another process.
    raylet = psutil.Process(int(os.environ["RAY_RAYLET_PID"]))
    processes = [raylet, *raylet.children(recursive=True)]
    for process in psutil.process_iter() if head_marks else ():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if any(mark in part for mark in head_marks for part in command):
                processes += [process] if component_of(command) not in ("raylet", "worker") else []
    listeners: dict[tuple[str, int], dict[str, Any]] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            component = component_of(process.cmdline())
            for socket in process.net_connections("tcp"):
                if socket.status == psutil.CONN_LISTEN and not is_loopback(socket.laddr.ip):
                    key = (socket.laddr.ip, socket.laddr.port)
                    # A child may inherit its parent's socket. The parent comes first and is reported.
                    listeners.setdefault(key, {"component": component, "address": key[0], "port": key[1]})
    return list(listeners.values())


def _path_facts(path: str, expected: str, marker: str) -> dict[str, Any]:
    expanded = expand(path)
    return {
        "path": path,
        "expanded": str(expanded),
        # Unlike Path.exists, os.access raises no error when a parent folder may not be entered.
        "exists": os.access(expanded, os.F_OK),
        "writable": is_writable(expanded),
        "same_content": bool(expected) and fingerprint(expanded, marker) == expected,
    }


def is_writable(path: Path) -> bool:
    """Whether this process can write there. For a folder it tries: on network file systems the mode does not tell."""
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
    """Whether the group or others can read the file, considering the modes of all folders above it."""
    allowed = path.stat().st_mode & 0o044
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        allowed &= (0o040 if mode & 0o010 else 0) | (0o004 if mode & 0o001 else 0)
    return allowed != 0
