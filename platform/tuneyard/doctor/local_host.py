"""Gathers what GPUs and process groups need of the machine it runs on. Ray sends this module as code, as local_node.

It must import nothing but the standard library and what Ray itself installs (psutil).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
SHARED_MEMORY = Path("/dev/shm")
DRIVER_VERSION = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b")


def host_facts(kernel_module: Path = KERNEL_MODULE) -> dict[str, Any]:
    """Returns the facts of this node, with the fields of HostFacts as keys."""
    import psutil

    return {
        "driver_version": _driver_version(kernel_module),
        "shared_memory_bytes": shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else 0,
        "name_addresses": tuple(_name_addresses()),
        "interfaces": {
            name: tuple(one.address for one in addresses if one.family == socket.AF_INET)
            for name, addresses in psutil.net_if_addrs().items()
        },
        "nccl_interface": os.environ.get("NCCL_SOCKET_IFNAME", ""),
        "gloo_interface": os.environ.get("GLOO_SOCKET_IFNAME", ""),
    }


def _driver_version(kernel_module: Path) -> str | None:
    """Returns the version of NVIDIA's kernel module; None without one. Containers see the host's."""
    if kernel_module.is_file():
        text = kernel_module.read_text(encoding="utf-8", errors="replace")
    elif shutil.which("nvidia-smi") is not None:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            return None
    else:
        return None
    found = DRIVER_VERSION.search(text)
    return found[1] if found else None


def _name_addresses() -> list[str]:
    """Returns the IPv4 addresses that this machine's own name resolves to; empty if it does not resolve."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[4][0]) for address in found})
