"""`tuneyard cluster`: machines into a Ray cluster that asks for a token; what is wrong with one; its files checked."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from tuneyard.cluster.auth_token import ensure_token, token_source, use_token_if_there
from tuneyard.cluster.job_client import follow, job_client, job_server, submit_job, with_address
from tuneyard.cluster.job_submission import job_environment
from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import ClusterError, ConfigError, PortInUseError
from tuneyard.core.ports import check_port_free, free_port
from tuneyard.doctor.cluster_file import lines_to_fill_in, read_documents, validate_cluster_file
from tuneyard.doctor.kuberay_file import load_crds, validate_kuberay_file
from tuneyard.storage.folder import default_storage

AGENT_PORT = 52365
"""Where Ray's agent on a node listens by default."""

EPILOG = """\
examples:
  tuneyard cluster start                      a head on this machine; Ctrl-C ends it
  tuneyard cluster join 10.0.0.1:6379         on each other machine, with the head's token in ~/.ray/auth_token
  tuneyard cluster doctor                     open ports, versions that differ, storage that is not shared, missing GPUs
  tuneyard cluster validate cluster.yaml platform/kuberay/rayjob.yaml

What follows -- goes to `ray start`: tuneyard cluster start -- --num-cpus 4 --resources '{"train": 1}'
"""


def add_cluster_command(commands: Commands) -> None:
    """Adds `cluster` and what is below it."""
    cluster = add_command(commands, "cluster", "start, examine and check Ray clusters", EPILOG)
    below = cluster.add_subparsers(required=True, metavar="COMMAND")
    start = below.add_parser("start", help="a head on this machine: token needed, dashboard on loopback; until Ctrl-C")
    start.add_argument("--port", type=int, default=6379, help="where other machines join; default: %(default)s")
    start.add_argument("--dashboard-port", type=int, default=8265, help="default: %(default)s, on loopback")
    start.add_argument("--this-machine-only", action="store_true", help="every port on loopback: nobody can join")
    start.set_defaults(action=_start)
    join = below.add_parser("join", help="this machine as a worker, until Ctrl-C")
    join.add_argument("head", metavar="HOST:PORT")
    join.set_defaults(action=_join)
    for parser in (start, join):
        parser.add_argument("ray", nargs="*", metavar="-- RAY_OPTION", help="for `ray start`, after --")
    doctor = below.add_parser("doctor", help="what is wrong with a running cluster, and the fix for each")
    doctor.add_argument(
        "--path", dest="paths", action="append", default=[], help="that all nodes should see; default: where results go"
    )
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    doctor.set_defaults(action=_doctor)
    with_address(doctor)
    validate = below.add_parser("validate", help="launcher and KubeRay files: typos, and what is open to the world")
    validate.add_argument("files", type=Path, nargs="+", metavar="FILE")
    validate.add_argument("--crds", type=Path, metavar="FOLDER", help="KubeRay's ray-operator/config/crd/bases")
    validate.set_defaults(action=_validate)


def _start(arguments: argparse.Namespace) -> NoReturn:
    check_port_free("0.0.0.0", arguments.port, f"--port {arguments.port + 1}")
    check_port_free("127.0.0.1", arguments.dashboard_port, f"--dashboard-port {arguments.dashboard_port + 1}")
    ensure_token()
    if arguments.this_machine_only:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    host, at = socket.gethostname(), f"127.0.0.1:{arguments.dashboard_port}"
    tunnel = f"ssh -L {arguments.dashboard_port}:{at} {host}"
    print(f"[cluster] jobs and dashboard at http://{at}; on another machine too, after {tunnel}", flush=True)
    print(f"[cluster] others join with: tuneyard cluster join {host}:{arguments.port}", flush=True)
    print(
        "[cluster] and need this machine's token: `ray get-auth-token` shows it. End workers first, then this.",
        flush=True,
    )
    options = ["--head", f"--port={arguments.port}", "--dashboard-host=127.0.0.1"]
    _ray_start([*options, f"--dashboard-port={arguments.dashboard_port}", *arguments.ray])


def _join(arguments: argparse.Namespace) -> NoReturn:
    if not re.fullmatch(r"[^:/]+:\d+", arguments.head):
        raise ConfigError(f"{arguments.head}: expected the head's HOST:PORT, like 10.0.0.1:6379")
    host, _, port = arguments.head.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as e:
        raise ClusterError(
            f"No head answers at {arguments.head} ({e.strerror or e}). Start it first: tuneyard cluster start; it says "
            "where others join."
        ) from e
    use_token_if_there()
    file = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_MODE") != "token" or (file is not None and not Path(file).expanduser().is_file()):
        raise ClusterError(
            f"This machine has no token (found: {token_source()}): put what `ray get-auth-token` prints on the head "
            "into ~/.ray/auth_token (chmod 600), or set RAY_AUTH_TOKEN."
        )
    _ray_start([f"--address={arguments.head}", *arguments.ray])


def _ray_start(options: list[str]) -> NoReturn:
    """Becomes `ray start`, in the foreground: what it starts ends with it."""
    ray = Path(sys.executable).with_name("ray")
    found = str(ray) if ray.is_file() else shutil.which("ray")
    if found is None:
        raise ClusterError("There is no command `ray` beside this Python: pip install 'ray[default]'")
    if not any(option.startswith("--dashboard-agent-listen-port") for option in options):
        try:
            check_port_free("0.0.0.0", AGENT_PORT, "")
        except PortInUseError:
            # By another node on this machine; and an agent without a port takes no jobs.
            options = [f"--dashboard-agent-listen-port={free_port()}", *options]
    os.execv(found, ["ray", "start", "--block", "--disable-usage-stats", *options])


def _doctor(arguments: argparse.Namespace) -> int:
    server = job_server(arguments.address)
    paths = arguments.paths or [default_storage()]
    command = ["python", "-m", "tuneyard.doctor.cluster_doctor", *(["--json"] if arguments.json else [])]
    for path in paths:
        command += ["--path", path]
    with job_client(arguments.address) as client:
        job = submit_job(client, shlex.join(command), job_environment(server), {"examines": server})
        if not arguments.json:
            return follow(client, job)
        while not (status := client.get_job_status(job)).is_terminal():
            time.sleep(0.5)
        # What Ray prints before it is for people.
        print("{" + client.get_job_logs(job).partition("\n{")[2], end="")
        return 0 if status == "SUCCEEDED" else 1


def _validate(arguments: argparse.Namespace) -> int:
    crds = load_crds(arguments.crds) if arguments.crds is not None else None
    wrong = 0
    for file in arguments.files:
        is_kubernetes = any("apiVersion" in document for document in read_documents(file))
        if not is_kubernetes and arguments.crds is not None and len(arguments.files) == 1:
            raise ConfigError(f"{file}: a launcher file, to which --crds has nothing to say.")
        problems = validate_kuberay_file(file, crds) if is_kubernetes else validate_cluster_file(file)
        wrong += bool(problems)
        print(f"{file}: {'right' if not problems else f'{len(problems)} to mend'}")
        for problem in problems:
            print(f"  {problem}")
        if marked := lines_to_fill_in(file):
            print(f"  still marked SET, for you to fill in: line{'s' if len(marked) > 1 else ''} {', '.join(marked)}")
    return 1 if wrong else 0
