"""Results: what each client can do with the API, as `make test-clients` found it, in results.json."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.client_list import ABILITIES, CLIENTS, ROUTE_PATHS, Ability, Client, Route

PATH = Path(__file__).with_name("results.json")
WORKS, FAILS, NOT_OFFERED = "works", "fails", "not offered"


class Results:
    """What was found in one run. A client that was not tried keeps what the file says."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, str]] = {}

    def record(self, client: Client, route: Route, ability: Ability, result: str) -> None:
        row = self._rows.setdefault((client.name, ROUTE_PATHS[route]), {"version": client.installed_version})
        row[ability] = result

    def write(self, path: Path = PATH) -> None:
        """Writes the file, with a row for each client and route of which everything was tried."""
        known = {(row["client"], row["route"]): row for row in read_rows(path)} if path.exists() else {}
        rows = []
        for client in CLIENTS:
            for route in client.routes:
                key = (client.name, ROUTE_PATHS[route])
                found = self._rows.get(key, {})
                if set(ABILITIES) <= found.keys():
                    cells = {ability: found[ability] for ability in ABILITIES}
                    row = {"client": client.name, "version": found["version"], "route": key[1], **cells}
                    rows.append(row | ({"storage": "needed"} if client.needs_storage else {}))
                elif key in known:
                    rows.append(known[key])
        path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def read_rows(path: Path = PATH) -> list[dict[str, str]]:
    """The rows of the file, in the order of the table."""
    rows: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return rows
