"""`tuneyard keys`: creates, lists and revokes API keys."""

from __future__ import annotations

import argparse
import datetime
import re
from typing import TYPE_CHECKING

from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import ConfigError

if TYPE_CHECKING:
    from tuneyard.api.api_keys import ApiKey

_LIFETIME = re.compile(r"(\d+)([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
EPILOG = """\
Keys are stored in $TUNEYARD_HOME/api_keys.json, hashed. A running deployment sees changes at once. It requires keys
when it listens beyond loopback, or with http.require_keys: true.

examples:
  tuneyard keys create ci --models acme-support --expires 30d
  tuneyard keys create team --requests-per-minute 60 --tokens-per-minute 100000 --max-streams 8
  tuneyard keys list
  tuneyard keys revoke 1f2e3d4c
"""
CREATE_EPILOG = """\
The key is printed once and cannot be shown again. Limits hold per replica; without one there is no limit.

examples:
  tuneyard keys create ci --models acme-support --expires 30d
  tuneyard keys create team --requests-per-minute 60 --tokens-per-minute 100000 --max-streams 8
"""
REVOKE_EPILOG = """\
`tuneyard keys list` shows the ids.

example:
  tuneyard keys revoke 1f2e3d4c
"""


def add_keys_command(commands: Commands) -> None:
    """Adds `keys` and its subcommands."""
    keys = add_command(commands, "keys", "create, list and revoke API keys", EPILOG)
    subcommands = keys.add_subparsers(required=True, metavar="COMMAND")
    create = add_command(subcommands, "create", "create an API key and print it once", CREATE_EPILOG)
    create.add_argument("name", metavar="NAME", help="a name for your own use, such as the key's owner")
    create.add_argument(
        "--models", nargs="+", default=[], metavar="MODEL", help="ids of the models that the key may use (default: all)"
    )
    create.add_argument("--expires", metavar="TIME", help="12h, 30d or 8w from now (default: never)")
    create.add_argument("--requests-per-minute", type=int, metavar="N", help="limit of requests (default: none)")
    create.add_argument(
        "--tokens-per-minute", type=int, metavar="N", help="limit of prompt and answer tokens together (default: none)"
    )
    create.add_argument(
        "--max-streams", type=int, metavar="N", help="limit of requests that run at the same time (default: none)"
    )
    create.set_defaults(action=_create)
    list_ = add_command(subcommands, "list", "list all keys with their limits, without their secrets")
    list_.set_defaults(action=_list)
    revoke = add_command(subcommands, "revoke", "make a key invalid at once", REVOKE_EPILOG)
    revoke.add_argument("id", metavar="ID", help="the key's id")
    revoke.set_defaults(action=_revoke)


def _create(arguments: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    for name in ("requests_per_minute", "tokens_per_minute", "max_streams"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1.")
    key, secret = KeyStore().create(
        arguments.name,
        models=tuple(arguments.models),
        lifetime=_parse_lifetime(arguments.expires),
        requests_per_minute=arguments.requests_per_minute,
        tokens_per_minute=arguments.tokens_per_minute,
        max_streams=arguments.max_streams,
    )
    print(secret)
    print(f"{_describe(key)}\nThe key cannot be shown again. Clients send it as: Authorization: Bearer …")


def _list(_: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    store = KeyStore()
    keys = store.list_keys()
    for key in keys:
        print(_describe(key))
    if not keys:
        print(f"no keys in {store.path}")


def _revoke(arguments: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    key = KeyStore().revoke(arguments.id)
    print(f"revoked {key.id} ({key.name})")


def _describe(key: ApiKey) -> str:
    """Returns one line: id, name, models, expiry, limits."""
    now = datetime.datetime.now(datetime.UTC)
    expiry = f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "never expires"
    limits = [
        f"{value} {unit}"
        for value, unit in (
            (key.requests_per_minute, "requests/min"),
            (key.tokens_per_minute, "tokens/min"),
            (key.max_streams, "at a time"),
        )
        if value is not None
    ]
    columns = [
        key.id,
        key.name,
        ", ".join(key.models) or "all models",
        "EXPIRED" if key.is_expired(now) else expiry,
        ", ".join(limits) or "no limits",
    ]
    return "  ".join(columns)


def _parse_lifetime(text: str | None) -> datetime.timedelta | None:
    if text is None:
        return None
    match = _LIFETIME.fullmatch(text)
    if match is None:
        raise ConfigError(f"--expires {text}: write 12h, 30d or 8w.")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
