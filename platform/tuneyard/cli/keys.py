"""`tuneyard keys`: API keys, made, listed and revoked."""

from __future__ import annotations

import argparse
import datetime
import re

from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import ConfigError

_LIFE = re.compile(r"(\d+)([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
EPILOG = """\
Keys lie in $TUNEYARD_HOME/api_keys.json, hashed; a deployment sees changes at once. It asks for keys where it listens
on more than loopback, or with http.require_keys: true. Limits hold per replica.

examples:
  tuneyard keys create ci --models acme-support --expires 30d
  tuneyard keys create team --requests-per-minute 60 --tokens-per-minute 100000 --max-streams 8
  tuneyard keys revoke 1f2e3d4c
"""


def add_keys_command(commands: Commands) -> None:
    """Adds `keys` and what is below it."""
    keys = add_command(commands, "keys", "API keys", EPILOG)
    below = keys.add_subparsers(required=True, metavar="COMMAND")
    create = below.add_parser("create", help="make a key; it is shown once")
    create.add_argument("name", metavar="NAME", help="whose it is, for you")
    create.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="only these models; default: all")
    create.add_argument("--expires", metavar="TIME", help="12h, 30d or 8w from now; default: never")
    create.add_argument("--requests-per-minute", type=int, metavar="N")
    create.add_argument("--tokens-per-minute", type=int, metavar="N", help="of prompts and answers together")
    create.add_argument("--max-streams", type=int, metavar="N", help="requests at a time")
    create.set_defaults(action=_create)
    listed = below.add_parser("list", help="keys, without their secrets")
    listed.set_defaults(action=_list)
    revoke = below.add_parser("revoke", help="make a key invalid at once")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(action=_revoke)


def _create(arguments: argparse.Namespace) -> None:
    for name in ("requests_per_minute", "tokens_per_minute", "max_streams"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1.")
    key, secret = KeyStore().create(
        arguments.name,
        models=tuple(arguments.models),
        lives=_life(arguments.expires),
        requests_per_minute=arguments.requests_per_minute,
        tokens_per_minute=arguments.tokens_per_minute,
        max_streams=arguments.max_streams,
    )
    print(secret)
    print(f"{_line(key)}\nThis is the only time that the key is shown. Clients send it as: Authorization: Bearer …")


def _list(_: argparse.Namespace) -> None:
    store = KeyStore()
    for key in store.listed():
        print(_line(key))
    if not store.listed():
        print(f"no keys in {store.path}")


def _revoke(arguments: argparse.Namespace) -> None:
    key = KeyStore().revoke(arguments.id)
    print(f"revoked {key.id} ({key.name})")


def _line(key: ApiKey) -> str:
    now = datetime.datetime.now(datetime.UTC)
    life = f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "for ever"
    limits = [
        f"{value} {what}"
        for value, what in (
            (key.requests_per_minute, "requests/min"),
            (key.tokens_per_minute, "tokens/min"),
            (key.max_streams, "at a time"),
        )
        if value is not None
    ]
    parts = [
        key.id,
        key.name,
        ", ".join(key.models) or "all models",
        "EXPIRED" if key.is_expired(now) else life,
        ", ".join(limits) or "no limits",
    ]
    return "  ".join(parts)


def _life(text: str | None) -> datetime.timedelta | None:
    if text is None:
        return None
    match = _LIFE.fullmatch(text)
    if match is None:
        raise ConfigError(f"--expires {text}: write 12h, 30d or 8w.")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
