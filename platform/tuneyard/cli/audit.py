"""`tuneyard audit`: prints what administrators did."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tuneyard.cli.since_option import add_since_options, first_day
from tuneyard.core.command import Commands, add_command

EPILOG = """\
The log is $TUNEYARD_HOME/audit.jsonl: one line per action, which is only ever appended. It holds no prompt, no answer
and no key. Actions: key.create, key.update, key.revoke, alias.move, deployment.submit, deployment.start,
deployment.stop, checkpoint.adopt, checkpoint.copy, prompt.render.

examples:
  tuneyard audit
  tuneyard audit --days 7 --action key
  tuneyard audit --since 2026-01-01 --json
"""


def add_audit_command(commands: Commands) -> None:
    """Adds `audit`."""
    audit = add_command(commands, "audit", "show what administrators did: keys, aliases, deployments", EPILOG)
    add_since_options(audit, "the log's begin")
    audit.add_argument(
        "--action", dest="kind", metavar="ACTION", help="one action, or all of a kind, such as key (default: all)"
    )
    audit.add_argument("--json", action="store_true", help="print the log's lines as they are")
    audit.set_defaults(action=_audit)


def _audit(arguments: argparse.Namespace) -> None:
    from tuneyard.storage.audit_log import AuditLog

    log = AuditLog()
    since = first_day(arguments, datetime.datetime.now(datetime.UTC).date())
    wanted = arguments.kind
    count = 0
    for event in log.events():
        is_wanted = wanted is None or event.action == wanted or event.action.startswith(f"{wanted}.")
        if not is_wanted or (since is not None and event.time < since.isoformat()):
            continue
        count += 1
        if arguments.json:
            print(json.dumps(asdict(event), ensure_ascii=False))
            continue
        change = f"  {event.before or '-'} -> {event.after or '-'}" if event.before or event.after else ""
        details = "".join(f"  {name}={_text(value)}" for name, value in event.details.items())
        print(f"{event.time[:19]}Z  {event.actor}@{event.host}  {event.action}  {event.target}{change}{details}")
    if not count and not arguments.json:
        print(f"no such actions in {log.path}")


def _text(value: Any) -> str:
    """A detail as text: fields as `name=value`, lists with commas."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(item)}" for name, item in value.items())
    return str(value)
