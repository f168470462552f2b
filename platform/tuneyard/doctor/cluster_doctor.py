"""`python -m tuneyard.doctor.cluster_doctor`: checks the Ray cluster that this process runs on.

`tuneyard cluster doctor` submits it as a job; it can also be run by hand on the head.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tuneyard.cluster.connection import connect_ray
from tuneyard.cluster.haproxy import running_hard_stop_s
from tuneyard.core.command import run_command
from tuneyard.core.errors import StorageError
from tuneyard.core.home import tuneyard_home
from tuneyard.doctor.access_checks import check_access
from tuneyard.doctor.dashboard_probe import DashboardProbe, probe_dashboard
from tuneyard.doctor.findings import Finding, findings_table, merge_findings
from tuneyard.doctor.host_checks import check_hosts
from tuneyard.doctor.node_checks import check_answers, check_nodes
from tuneyard.doctor.node_facts import NodeFacts
from tuneyard.doctor.node_probe import probe_nodes

EPILOG = """\
Exit code 1 when there is an error among the findings.

examples:
  python -m tuneyard.doctor.cluster_doctor
  python -m tuneyard.doctor.cluster_doctor --path /mnt/tuneyard --path s3://bucket/tuneyard
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns 1 when there is an error among the findings, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tuneyard.doctor.cluster_doctor",
        description="Checks the Ray cluster on this machine and reports each problem with its place and its fix.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON: the findings, the facts of every node, the dashboard's answers"
    )
    parser.add_argument(
        "--path",
        dest="paths",
        action="append",
        default=[],
        metavar="P",
        help="a file or folder that all nodes should share, or a URI; $VAR and ~ expand on each node; repeatable",
    )
    parser.add_argument(
        "--timeout-s", type=float, default=60.0, metavar="S", help="seconds for the nodes to answer (default: 60)"
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _examine(arguments))


def diagnose(facts: Sequence[NodeFacts], probe: DashboardProbe, more_findings: Sequence[Finding] = ()) -> list[Finding]:
    """Returns every finding about the cluster, errors first; checks that passed are findings with severity ok.

    `more_findings`, about storage and Ray Serve, are added as they are.
    """
    answered = [fact for fact in facts if not fact.problem]
    findings = [*check_answers(facts), *check_access(answered, probe), *check_nodes(answered), *check_hosts(answered)]
    return merge_findings([*findings, *more_findings])


def _examine(arguments: argparse.Namespace) -> int:
    from tuneyard.doctor.serve_checks import check_hard_stop
    from tuneyard.storage.location import is_uri

    connect_ray("auto")
    for path in arguments.paths:
        if path == str(tuneyard_home()):
            # Every run creates this folder, so its absence is no finding.
            Path(path).mkdir(parents=True, exist_ok=True)
    facts = probe_nodes([path for path in arguments.paths if not is_uri(path)], timeout_s=arguments.timeout_s)
    probe = probe_dashboard()
    stores = [check_object_store(path) for path in arguments.paths if is_uri(path)]
    findings = diagnose(facts, probe, [*stores, *check_hard_stop(running_hard_stop_s())])
    if arguments.json:
        report = {
            "findings": [asdict(finding) for finding in findings],
            "nodes": [asdict(fact) for fact in facts],
            "dashboard": asdict(probe),
        }
        print(json.dumps(report, indent=2))
    else:
        print(findings_table(findings))
    return int(any(finding.severity == "error" for finding in findings))


def check_object_store(location: str) -> Finding:
    """Writes and reads an object from this node. Other nodes may still lack the credentials."""
    from tuneyard.storage.folder import StorageFolder

    marker = f".tuneyard-seen-{uuid.uuid4().hex}"
    try:
        folder = StorageFolder.open(location)
        folder.write(marker, b"seen")
        content = folder.read(marker)
        folder.filesystem.delete_file(f"{folder.path}/{marker}")
    except (StorageError, OSError) as e:
        fix = "Give the nodes' role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the right to read and write there."
        return Finding("error", f"{location} cannot be written and read: {e}", "this node", fix)
    if content != b"seen":
        fix = "Check that no other program writes there, and that the store is consistent."
        return Finding("error", f"{location} returns other content than was written", "this node", fix)
    return Finding("ok", f"{location} can be written and read", "this node")


if __name__ == "__main__":
    sys.exit(main())
