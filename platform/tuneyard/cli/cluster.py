"""`tuneyard cluster`: starts and joins Ray clusters that require a token; checks running clusters and cluster files."""

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

from tuneyard.cluster.auth_token import ensure_token, has_token, token_source, use_token_if_present
from tuneyard.cluster.job_client import add_address_option, job_client, job_server, submit_job
from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import ClusterError, ConfigError, PortInUseError
from tuneyard.core.ports import check_port_free, free_port
from tuneyard.core.wording import count_of

AGENT_PORT = 52365
"""Ray's default port of a node's agent."""

EPILOG = """\
examples:
  tuneyard cluster start                      start a head on this machine; Ctrl-C stops it
  tuneyard cluster join 10.0.0.1:6379         on each other machine, with the head's token in ~/.ray/auth_token
  tuneyard cluster doctor                     check ports, versions, storage, GPUs and clocks of a running cluster
  tuneyard cluster validate cluster.yaml platform/kuberay/rayjob.yaml
"""
START_EPILOG = """\
The cluster requires a token, which is created in ~/.ray/auth_token if there is none. The dashboard listens on loopback.
The head runs in the foreground until Ctrl-C. Options after -- are passed to `ray start`.

examples:
  tuneyard cluster start
  tuneyard cluster start --this-machine-only
  tuneyard cluster start -- --num-cpus 4 --resources '{"train": 1}'
"""
JOIN_EPILOG = """\
Needs the head's token: on the head, `ray get-auth-token` prints it; put it into ~/.ray/auth_token (chmod 600), or set
RAY_AUTH_TOKEN. The worker runs in the foreground until Ctrl-C. Options after -- are passed to `ray start`.

examples:
  tuneyard cluster join 10.0.0.1:6379
  tuneyard cluster join 10.0.0.1:6379 -- --resources '{"serve": 1}'
"""
DOCTOR_EPILOG = """\
Runs as a job on the cluster. Reports each problem with its place and its fix. Exit code 1 when there is an error.

examples:
  tuneyard cluster doctor
  tuneyard cluster doctor --address http://head:8265 --path /mnt/tuneyard --path s3://bucket/tuneyard
"""
VALIDATE_EPILOG = """\
Needs no cluster and no credentials. Reports misspelled and duplicate keys, settings that let others in, and what would
stop nodes, pods or work: no mounted folder, no registry login, pods that can be evicted, work beyond the autoscaler's
maxima, a memory limit below what an export takes. Exit code 1 when there is a problem.

examples:
  tuneyard cluster validate cluster.yaml
  tuneyard cluster validate cluster.yaml --config jobs/configs/gpt_oss_120b_full.yaml
  tuneyard cluster validate platform/kuberay/*.yaml --crds kuberay/ray-operator/config/crd/bases
"""


def add_cluster_command(commands: Commands) -> None:
    """Adds `cluster` and its subcommands."""
    cluster = add_command(commands, "cluster", "start, join and check Ray clusters", EPILOG)
    subcommands = cluster.add_subparsers(required=True, metavar="COMMAND")
    start = add_command(subcommands, "start", "start the head of a cluster on this machine", START_EPILOG)
    start.add_argument("--port", type=int, default=6379, help="port that other machines join at (default: %(default)s)")
    start.add_argument(
        "--dashboard-port", type=int, default=8265, help="port of the dashboard on loopback (default: %(default)s)"
    )
    start.add_argument(
        "--this-machine-only", action="store_true", help="bind every port to loopback, so that no machine can join"
    )
    start.set_defaults(action=_start)
    join = add_command(subcommands, "join", "add this machine to a cluster as a worker", JOIN_EPILOG)
    join.add_argument("head", metavar="HOST:PORT", help="address that `tuneyard cluster start` printed on the head")
    join.set_defaults(action=_join)
    for parser in (start, join):
        parser.add_argument("ray_options", nargs="*", metavar="-- RAY_OPTION", help="options for `ray start`, after --")
    doctor = add_command(subcommands, "doctor", "check a running cluster", DOCTOR_EPILOG)
    doctor.add_argument(
        "--path",
        dest="paths",
        action="append",
        default=[],
        help="path or URI that all nodes should share; repeatable (default: TUNEYARD_STORAGE, else TUNEYARD_HOME)",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON (default: a table)")
    add_address_option(doctor)
    doctor.set_defaults(action=_doctor)
    validate = add_command(subcommands, "validate", "check files for `ray up` and KubeRay", VALIDATE_EPILOG)
    validate.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a launcher file or a KubeRay manifest")
    validate.add_argument(
        "--crds",
        type=Path,
        metavar="FOLDER",
        help="KubeRay's ray-operator/config/crd/bases, to check manifests against its schemas (default: not checked)",
    )
    validate.add_argument(
        "--config",
        dest="configs",
        type=Path,
        action="append",
        default=[],
        metavar="CONFIG",
        help="a finetuning or deployment config that the cluster must be able to hold; repeatable (default: what a "
        "RayJob or a RayService names)",
    )
    validate.set_defaults(action=_validate)


def _start(arguments: argparse.Namespace) -> NoReturn:
    check_port_free("0.0.0.0", arguments.port, f"--port {arguments.port + 1}")
    check_port_free("127.0.0.1", arguments.dashboard_port, f"--dashboard-port {arguments.dashboard_port + 1}")
    ensure_token()
    if arguments.this_machine_only:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    host, dashboard = socket.gethostname(), f"127.0.0.1:{arguments.dashboard_port}"
    tunnel = f"ssh -L {arguments.dashboard_port}:{dashboard} {host}"
    print(f"[cluster] dashboard and job server: http://{dashboard}; from another machine, first run: {tunnel}")
    print(f"[cluster] other machines join with: tuneyard cluster join {host}:{arguments.port}")
    print("[cluster] they need this machine's token, which `ray get-auth-token` prints")
    print("[cluster] Ctrl-C stops the head; stop the workers first", flush=True)
    options = ["--head", f"--port={arguments.port}", "--dashboard-host=127.0.0.1"]
    _exec_ray_start([*options, f"--dashboard-port={arguments.dashboard_port}", *arguments.ray_options])


def _join(arguments: argparse.Namespace) -> NoReturn:
    if not re.fullmatch(r"[^:/]+:\d+", arguments.head):
        raise ConfigError(f"{arguments.head}: expected the head's HOST:PORT, like 10.0.0.1:6379")
    host, _, port = arguments.head.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as e:
        raise ClusterError(
            f"No head answers at {arguments.head} ({e.strerror or e}). Start it first with tuneyard cluster start, "
            "which prints the address to join."
        ) from e
    use_token_if_present()
    if os.environ.get("RAY_AUTH_MODE") != "token" or not has_token():
        raise ClusterError(
            f"This machine has no token of the cluster (found: {token_source()}). On the head, `ray get-auth-token` "
            "prints it: put it into ~/.ray/auth_token (chmod 600), or set RAY_AUTH_TOKEN."
        )
    _exec_ray_start([f"--address={arguments.head}", *arguments.ray_options])


def _exec_ray_start(options: list[str]) -> NoReturn:
    """Replaces this process with `ray start --block`, so that Ctrl-C stops the node.

    The proxies of its Ray Serve limit request headers. HAProxy leaves answers the default of answer_timeout_s.
    """
    from tuneyard.api.header_limits import proxy_environment
    from tuneyard.cluster.haproxy import HARD_STOP_VARIABLE, required_hard_stop_s
    from tuneyard.cluster.serve_streams import set_stream_environment
    from tuneyard.configs.limits.header_limits import HeaderLimits
    from tuneyard.configs.replicas import ReplicaConfig

    for name, value in proxy_environment(HeaderLimits()).items():
        os.environ.setdefault(name, value)
    set_stream_environment(os.environ)
    os.environ.setdefault(HARD_STOP_VARIABLE, str(required_hard_stop_s([ReplicaConfig().answer_timeout_s])))
    beside_python = Path(sys.executable).with_name("ray")
    executable = str(beside_python) if beside_python.is_file() else shutil.which("ray")
    if executable is None:
        raise ClusterError("The command `ray` is not installed beside this Python: pip install 'ray[default]'")
    if not any(option.startswith("--dashboard-agent-listen-port") for option in options):
        try:
            check_port_free("0.0.0.0", AGENT_PORT, "")
        except PortInUseError:
            # Another node on this machine has the port. An agent without its port accepts no jobs.
            options = [f"--dashboard-agent-listen-port={free_port()}", *options]
    os.execv(executable, ["ray", "start", "--block", "--disable-usage-stats", *options])


def _doctor(arguments: argparse.Namespace) -> int:
    from tuneyard.cluster.job_environment import job_environment
    from tuneyard.cluster.job_logs import follow
    from tuneyard.storage.location import default_storage

    server = job_server(arguments.address)
    command = ["python", "-m", "tuneyard.doctor.cluster_doctor", *(["--json"] if arguments.json else [])]
    for path in arguments.paths or [default_storage()]:
        command += ["--path", path]
    with job_client(arguments.address) as client:
        job = submit_job(client, shlex.join(command), job_environment(server), {"examines": server})
        if not arguments.json:
            return follow(client, job)
        while not (status := client.get_job_status(job)).is_terminal():
            time.sleep(0.5)
        # Ray prints lines of its own before the JSON object.
        print("{" + client.get_job_logs(job).partition("\n{")[2], end="")
        return 0 if status == "SUCCEEDED" else 1


def _validate(arguments: argparse.Namespace) -> int:
    from tuneyard.doctor.cluster_files.cluster_file import validate_cluster_file
    from tuneyard.doctor.cluster_files.kuberay_file import load_crds, validate_kuberay_file
    from tuneyard.doctor.cluster_files.planned_work import load_work
    from tuneyard.doctor.cluster_files.yaml_documents import lines_to_fill_in, read_documents

    crds = load_crds(arguments.crds) if arguments.crds is not None else None
    work = [load_work(config) for config in arguments.configs]
    has_problems = False
    for file in arguments.files:
        is_kubernetes = any("apiVersion" in document for document in read_documents(file))
        if not is_kubernetes and arguments.crds is not None and len(arguments.files) == 1:
            raise ConfigError(f"{file}: a launcher file; --crds applies to KubeRay manifests only.")
        problems = validate_kuberay_file(file, crds, work) if is_kubernetes else validate_cluster_file(file, work)
        has_problems |= bool(problems)
        print(f"{file}: {count_of(len(problems), 'problem') if problems else 'OK'}")
        for problem in problems:
            print(f"  {problem}")
        if marked := lines_to_fill_in(file):
            lines = f"line{'s' if len(marked) > 1 else ''} {', '.join(marked)}"
            print(f"  marked SET, for you to fill in: {lines}")
    return int(has_problems)
