"""Refuses connections to other machines for a while, whichever library makes them."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import sys
from collections.abc import Iterator
from typing import Any

_refused: list[list[str]] = []
"""The hosts refused so far, for each guard that is on."""


@contextlib.contextmanager
def refuse_connections() -> Iterator[list[str]]:
    """The names of the hosts that were refused, which grows while the guard is on; this machine is none of them.

    A refused connection raises ConnectionRefusedError where it is made, and a library may hide that, as NLTK's
    downloader does.
    """
    _install_hook()
    hosts: list[str] = []
    _refused.append(hosts)
    try:
        yield hosts
    finally:
        _refused.pop()  # guards end in the reverse order


@functools.cache
def _install_hook() -> None:
    """Python cannot remove an audit hook, so one serves all guards."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook, called before each look-up and connection: docs.python.org/3/library/audit_events.html."""
    if not _refused or event not in ("socket.getaddrinfo", "socket.connect"):
        return
    address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    if event == "socket.connect":
        if not isinstance(address, tuple):  # the path of a Unix socket
            return
        address = address[0]
    name = address.decode(errors="replace") if isinstance(address, bytes) else str(address or "")
    if _is_local(name):
        return
    for hosts in _refused:
        if name not in hosts:
            hosts.append(name)
    raise ConnectionRefusedError(f"Connections to {name} are not allowed here.")


def _is_local(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return name in ("", "localhost")
