"""`python -m tuneyard.doctor.cluster_doctor`: what is wrong with the Ray cluster that this runs on.

It runs as a job's entrypoint, or on the head by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tuneyard.cluster.connection import connect_ray
from tuneyard.core.command import run_command
from tuneyard.core.errors import StorageError
from tuneyard.core.home import tuneyard_home
from tuneyard.doctor.cluster_checks import SEVERITIES, Finding, Reach, diagnose
from tuneyard.doctor.node_probe import probe_nodes
from tuneyard.storage.folder import StorageFolder, is_uri

ASKED = "/api/jobs/"
"""What runs code on an open cluster; asked with GET it lists jobs."""
WIDTH = 116


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 when there is an error among the findings."""
    parser = argparse.ArgumentParser(
        prog="python -m tuneyard.doctor.cluster_doctor", description="Checks a Ray cluster."
    )
    parser.add_argument("--json", action="store_true", help="for programs: findings, facts of the nodes, the dashboard")
    parser.add_argument(
        "--path",
        dest="paths",
        action="append",
        default=[],
        metavar="P",
        help="a file or folder that all nodes should see; $VAR and ~ expand on each node; repeatable",
    )
    parser.add_argument("--timeout-s", type=float, default=60.0, help="for the nodes to answer; default: %(default)s")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _examine(arguments))


def reach_dashboard(*, timeout_s: float = 10.0) -> Reach:
    """The connected cluster's dashboard, asked without a token, and with this process' token if it has one."""
    import ray
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    dashboard = ray._private.worker.get_dashboard_url()
    if not dashboard:
        return Reach()
    headers = get_auth_headers_if_auth_enabled({})
    return Reach(
        dashboard=dashboard,
        status_without_token=_status(dashboard, {}, timeout_s),
        status_with_token=_status(dashboard, headers, timeout_s) if headers else None,
    )


def findings_table(findings: Sequence[Finding]) -> str:
    """The findings for people: severity and what in columns; where and the fix below."""
    lines = []
    for finding in findings:
        if finding.severity == "ok":
            lines.append(f"ok       {finding.what} ({finding.where})")
            continue
        rows = (f"{finding.severity:<9}", finding.what), ("  where  ", finding.where), ("  fix    ", finding.fix)
        for head, text in rows:
            lines += textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * 9, break_on_hyphens=False)
    errors, warnings, right = (sum(f.severity == severity for f in findings) for severity in SEVERITIES)
    return "\n".join([*lines, f"errors: {errors}, warnings: {warnings}, ok: {right}"])


def _examine(arguments: argparse.Namespace) -> int:
    connect_ray("auto")
    for path in arguments.paths:
        if path == str(tuneyard_home()):
            # As every run does.
            Path(path).mkdir(parents=True, exist_ok=True)
    facts = probe_nodes([path for path in arguments.paths if not is_uri(path)], timeout_s=arguments.timeout_s)
    reach = reach_dashboard()
    findings = diagnose(facts, reach, [_object_store(path) for path in arguments.paths if is_uri(path)])
    if arguments.json:
        answer = {
            "findings": [asdict(finding) for finding in findings],
            "nodes": [asdict(fact) for fact in facts],
            "dashboard": asdict(reach),
        }
        print(json.dumps(answer, indent=2))
    else:
        print(findings_table(findings))
    return int(any(finding.severity == "error" for finding in findings))


def _object_store(location: str) -> Finding:
    """Asked from here only: nodes differ in it when their credentials do."""
    marker = f".tuneyard-seen-{uuid.uuid4().hex}"
    try:
        folder = StorageFolder.open(location)
        folder.write(marker, b"seen")
        found = folder.read(marker)
        folder.filesystem.delete_file(f"{folder.path}/{marker}")
    except (StorageError, OSError) as e:
        fix = "Give the nodes' role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the right to read and write there."
        return Finding("error", f"{location} cannot be written and read: {e}", "this node", fix)
    what = f"{location} is written and read" if found == b"seen" else f"{location} gives back something else"
    return Finding("ok" if found == b"seen" else "error", what, "this node")


def _status(dashboard: str, headers: dict[str, str], timeout_s: float) -> int | None:
    import httpx

    try:
        # Not through a proxy: what is asked is who answers in the cluster's own network.
        return httpx.get(f"http://{dashboard}{ASKED}", headers=headers, timeout=timeout_s, trust_env=False).status_code
    except httpx.HTTPError:
        return None


if __name__ == "__main__":
    sys.exit(main())
