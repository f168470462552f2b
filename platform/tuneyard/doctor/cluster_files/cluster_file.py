"""Checks of files for `ray up` without a cluster: misspelled keys, exposure, what would stop its work."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneyard.core.errors import ConfigError
from tuneyard.core.wording import count_of
from tuneyard.doctor.cluster_files.document_checks import exposure_problems, schema_problems
from tuneyard.doctor.cluster_files.launch_checks import launch_problems
from tuneyard.doctor.cluster_files.planned_work import PlannedWork
from tuneyard.doctor.cluster_files.work_checks import launcher_node_types, work_problems
from tuneyard.doctor.cluster_files.yaml_documents import read_documents, value_at

REQUIRED = {"aws": ["region"], "gcp": ["region", "availability_zone", "project_id"], "local": ["head_ip", "worker_ips"]}
OPTIONAL = {
    "aws": ["availability_zone", "cache_stopped_nodes", "key_pair", "security_group", "aws_credentials", "cloudwatch"],
    "gcp": ["cache_stopped_nodes", "gcp_credentials"],
    "local": ["external_head_ip"],
}
ALL_PROVIDERS = ["use_internal_ips", "use_external_head_ip", "disable_node_updaters", "disable_launch_config_check"]
ALL_PROVIDERS += ["foreground_node_launch", "worker_liveness_check"]
"""Keys of `provider` that Ray 2.60's autoscaler/_private reads. Ray's own schema allows any key there."""

AUTH_MODE = re.compile(r"\bRAY_AUTH_MODE=[\"']?(\w+)")
DASHBOARD_HOST = re.compile(r"--dashboard-host[=\s]\s*[\"']?([^\s\"';]+)")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def validate_cluster_file(path: Path, work: Sequence[PlannedWork] = ()) -> list[str]:
    """Returns the problems of a launcher file, each with its place and its fix; empty if there is none.

    `work` is what the cluster must be able to hold. Needs neither a network nor credentials. Raises ConfigError for a
    file that is missing or not one YAML mapping, and for a duplicate key.
    """
    documents = read_documents(path)
    if len(documents) != 1:
        raise ConfigError(f"{path}: expected one cluster, found {count_of(len(documents), 'document')}.")
    data = documents[0]
    problems = [*_launcher_schema_problems(data), *exposure_problems(data)]
    if problems:
        return problems
    from ray.autoscaler._private.util import prepare_config, validate_config

    # At INFO it logs every value that it fills in.
    logging.getLogger(prepare_config.__module__).setLevel(logging.WARNING)
    try:
        # The rest is checked with Ray's defaults filled in: its default start commands open the dashboard, for example.
        completed = prepare_config(copy.deepcopy(data))
        validate_config(completed)
    except (ValueError, RuntimeError, AssertionError) as e:
        return [f"(the whole file): Ray rejects it: {e}"]
    except (TypeError, AttributeError, LookupError) as e:  # a value whose type Ray's schema leaves open
        return [f"(the whole file): Ray cannot read it, a value has a wrong type: {type(e).__name__}: {e}"]
    problems = [*_node_type_problems(completed), *_start_command_problems(completed), *launch_problems(completed)]
    if value_at(data, "provider.type") != "local":  # whose file does not say what its machines have
        problems += work_problems(launcher_node_types(completed), work)
    return problems


def _launcher_schema_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Yields violations of Ray's schema, which is made to reject unknown keys of the provider too."""
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    fields = schema["properties"]
    provider = value_at(data, "provider.type")
    if isinstance(provider, str) and provider in REQUIRED:
        keys = ["type", *REQUIRED[provider], *OPTIONAL[provider], *ALL_PROVIDERS]
        properties = {key: fields["provider"]["properties"].get(key, {}) for key in keys}
        fields["provider"] = {"required": REQUIRED[provider], "properties": properties, "additionalProperties": False}
    else:
        yield f"provider.type: found {provider!r}. Known here: {', '.join(REQUIRED)}."
    for docker in (fields["docker"], fields["available_node_types"]["patternProperties"][".*"]["properties"]["docker"]):
        for name in [name for name in docker["properties"] if name.endswith("run_options")]:
            docker["properties"][name]["items"] = {"type": "string"}
    fields["file_mounts"]["additionalProperties"] = {"type": "string"}
    for name in ("NetworkInterfaces", "disks"):  # what the checks below read of a provider's own fields
        node_config = fields["available_node_types"]["patternProperties"][".*"]["properties"]["node_config"]
        node_config.setdefault("properties", {})[name] = {"type": "array", "items": {"type": "object"}}
    # For existing machines Ray creates the only node type itself, from the file's min_workers.
    fields["min_workers"] = fields["max_workers"]
    for key in ("available_node_types", "head_node_type") if provider == "local" else ("min_workers",):
        del fields[key]
    yield from schema_problems(data, schema)


def _node_type_problems(config: Mapping[str, Any]) -> Iterator[str]:
    for name, node in config["available_node_types"].items():
        place = f"available_node_types.{name}"
        low, high, total = node["min_workers"], node["max_workers"], config["max_workers"]
        if not low <= high <= total:
            yield (
                f"{place}.max_workers: found {high}; it must be at least this type's min_workers, {low}, and at most "
                f"the file's max_workers, {total}."
            )
        interfaces = node["node_config"].get("NetworkInterfaces") or []
        has_groups = all(interface.get("Groups") for interface in interfaces) if interfaces else False
        if config["provider"]["type"] == "aws" and not (has_groups or node["node_config"].get("SecurityGroupIds")):
            yield (
                f"{place}.node_config.SecurityGroupIds: missing. Ray would use a security group that lets in SSH from "
                "the whole internet. Name a group that lets in your own address and the group itself."
            )


def _start_command_problems(config: Mapping[str, Any]) -> Iterator[str]:
    docker = config.get("docker", {})
    for role in ("head", "worker"):
        options = " ".join([*docker.get("run_options", []), *docker.get(f"{role}_run_options", [])])
        place = f"{role}_start_ray_commands"
        commands = {f"{place}.{n}": command for n, command in enumerate(config[place]) if "ray start" in command}
        if not commands:
            yield f"{place}: no command holds `ray start`, so its safety cannot be checked. Write it into the file."
        for where, command in commands.items():
            yield from _command_problems(where, command, options)


def _command_problems(where: str, command: str, container_options: str) -> Iterator[str]:
    # A variable in front of another command of the line does not reach `ray start`.
    effective = [c for c in re.split(r"[;&|\n]+", command) if "ray start" in c or c.strip().startswith("export ")]
    mode = (AUTH_MODE.findall(" ".join(effective)) or AUTH_MODE.findall(container_options) or ["unset"])[-1]
    if mode != "token":
        yield (
            f"{where}: starts Ray with RAY_AUTH_MODE {mode}: anyone who reaches it can run code. Add "
            "--env=RAY_AUTH_MODE=token to docker.run_options, or export it in front of `ray start`."
        )
    for host in DASHBOARD_HOST.findall(command):
        if host not in LOOPBACK:
            yield (
                f"{where}: --dashboard-host {host} opens the dashboard to the network. Use 127.0.0.1, and reach it "
                "with `ray dashboard FILE`."
            )
