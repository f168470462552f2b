"""`tuneyard keys`: creates, changes, lists and revokes API keys."""

from __future__ import annotations

import argparse
import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.cli.since_option import add_since_options
from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import ConfigError

if TYPE_CHECKING:
    from tuneyard.api.api_keys import ApiKey

_LIFETIME = re.compile(r"(\d+)([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
LIMITS = {
    "requests_per_minute": ("requests/min", "limit of requests"),
    "tokens_per_minute": ("tokens/min", "limit of prompt and answer tokens together"),
    "max_streams": ("at a time", "limit of answers that are made at the same time"),
    "requests_per_month": ("requests/month", "budget of requests"),
    "tokens_per_month": ("tokens/month", "budget of prompt and answer tokens together"),
}
"""A key's limits and budgets, by field: the unit in lists, and the option's help."""

EPILOG = """\
Keys are stored in $TUNEYARD_HOME/api_keys.json, hashed. A running deployment sees changes at once. It requires keys
when it listens beyond loopback, or with http.require_keys: true.

examples:
  tuneyard keys create ci --models acme-support --expires 30d
  tuneyard keys create team --requests-per-minute 60 --tokens-per-month 20000000
  tuneyard keys usage --days 7
  tuneyard keys list
  tuneyard keys revoke 1f2e3d4c
"""
CREATE_EPILOG = """\
The key is printed once and cannot be shown again. Budgets hold for all replicas together, and renew at the beginning
of each month in UTC. Limits hold per replica; with http.keys.rate_limits_store, those per minute hold for all replicas
together.

examples:
  tuneyard keys create ci --models acme-support --expires 30d
  tuneyard keys create team --requests-per-minute 60 --tokens-per-minute 100000 --max-streams 8
  tuneyard keys create trial --tokens-per-month 1000000
"""
UPDATE_EPILOG = """\
Running deployments see the change at once. `tuneyard keys list` shows the ids.

examples:
  tuneyard keys update 1f2e3d4c --tokens-per-month 40000000
  tuneyard keys update 1f2e3d4c --requests-per-minute none
"""
USAGE_EPILOG = """\
Days and months are those of UTC. A replica writes what it counted every http.keys.usage_interval_s seconds.

examples:
  tuneyard keys usage
  tuneyard keys usage --key team --days 30 --json
  tuneyard keys usage --since 2026-01-01 --model acme-support --config my.yaml
"""
REVOKE_EPILOG = """\
`tuneyard keys list` shows the ids. What the key used stays in `tuneyard keys usage`.

example:
  tuneyard keys revoke 1f2e3d4c
"""


def add_keys_command(commands: Commands) -> None:
    """Adds `keys` and its subcommands."""
    keys = add_command(commands, "keys", "create, change, list and revoke API keys; show their usage", EPILOG)
    subcommands = keys.add_subparsers(required=True, metavar="COMMAND")
    create = add_command(subcommands, "create", "create an API key and print it once", CREATE_EPILOG)
    create.add_argument("name", metavar="NAME", help="a name for your own use, such as the key's owner")
    create.add_argument(
        "--models", nargs="+", default=[], metavar="MODEL", help="ids of the models that the key may use (default: all)"
    )
    create.add_argument("--expires", metavar="TIME", help="12h, 30d or 8w from now (default: never)")
    _add_limits(create, " (default: none)")
    create.set_defaults(action=_create)
    update = add_command(subcommands, "update", "change the limits and budgets of a key", UPDATE_EPILOG)
    update.add_argument("id", metavar="ID", help="the key's id")
    _add_limits(update, "; none removes it")
    update.set_defaults(action=_update)
    list_ = add_command(subcommands, "list", "list all keys with their limits, without their secrets")
    list_.set_defaults(action=_list)
    usage = add_command(subcommands, "usage", "show what keys used, by day and model", USAGE_EPILOG)
    usage.add_argument("--key", metavar="KEY", help="id or name of one key (default: all)")
    usage.add_argument("--model", metavar="MODEL", help="one model (default: all)")
    add_since_options(usage, "the month's begin")
    usage.add_argument(
        "--config", type=Path, metavar="CONFIG", help="the deployment's config, if it has a section `database`"
    )
    usage.add_argument("--json", action="store_true", help="print JSON")
    usage.set_defaults(action=_usage)
    revoke = add_command(subcommands, "revoke", "make a key invalid at once", REVOKE_EPILOG)
    revoke.add_argument("id", metavar="ID", help="the key's id")
    revoke.set_defaults(action=_revoke)


def _add_limits(parser: argparse.ArgumentParser, note: str) -> None:
    for name, (_, description) in LIMITS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, metavar="N", default=argparse.SUPPRESS, help=f"{description}{note}")


def _given_limits(arguments: argparse.Namespace) -> dict[str, int | None]:
    """The limits that were given; None for `none`."""
    limits: dict[str, int | None] = {}
    for name, text in vars(arguments).items():
        if name in LIMITS:
            if text != "none" and not (text.isascii() and text.isdigit() and int(text) > 0):
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} {text}: must be a whole number that is at least 1, or none.")
            limits[name] = None if text == "none" else int(text)
    return limits


def _create(arguments: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    lifetime = _parse_lifetime(arguments.expires)
    limits = _given_limits(arguments)
    key, secret = KeyStore().create(arguments.name, models=tuple(arguments.models), lifetime=lifetime, **limits)
    print(secret)
    print(f"{_describe(key)}\nThe key cannot be shown again. Clients send it as: Authorization: Bearer …")


def _update(arguments: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    changes = _given_limits(arguments)
    if not changes:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in LIMITS)
        raise ConfigError(f"Nothing to change. Give at least one of {options}.")
    print(_describe(KeyStore().update(arguments.id, changes)))


def _list(_: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    store = KeyStore()
    keys = store.list_keys()
    for key in keys:
        print(_describe(key))
    if not keys:
        print(f"no keys in {store.path}")


def _usage(arguments: argparse.Namespace) -> None:
    from tuneyard.cli.keys.usage import print_usage

    print_usage(arguments)


def _revoke(arguments: argparse.Namespace) -> None:
    from tuneyard.api.api_keys import KeyStore

    key = KeyStore().revoke(arguments.id)
    print(f"revoked {key.id} ({key.name})")


def _describe(key: ApiKey) -> str:
    """Returns one line: id, name, models, expiry, limits."""
    now = datetime.datetime.now(datetime.UTC)
    expiry = f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "never expires"
    limits = [f"{getattr(key, name)} {unit}" for name, (unit, _) in LIMITS.items() if getattr(key, name) is not None]
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
