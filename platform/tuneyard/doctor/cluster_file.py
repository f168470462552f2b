"""Files for `ray up`, checked without a cluster: typos, and whatever would open it to the world."""

from __future__ import annotations

import copy
import difflib
import ipaddress
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tuneyard.core.errors import ConfigError

REQUIRED = {"aws": ["region"], "gcp": ["region", "availability_zone", "project_id"], "local": ["head_ip", "worker_ips"]}
OPTIONAL = {
    "aws": ["availability_zone", "cache_stopped_nodes", "key_pair", "security_group", "aws_credentials", "cloudwatch"],
    "gcp": ["cache_stopped_nodes", "gcp_credentials"],
    "local": ["external_head_ip"],
}
OF_ALL = ["use_internal_ips", "use_external_head_ip", "disable_node_updaters", "disable_launch_config_check"]
OF_ALL += ["foreground_node_launch", "worker_liveness_check"]
"""A provider's keys: what Ray 2.60's autoscaler/_private reads. Ray's own schema closes all of the file but these."""

AUTH_MODE = re.compile(r"\bRAY_AUTH_MODE=[\"']?(\w+)")
TOKEN = re.compile(r"\bRAY_AUTH_TOKEN=")
DASHBOARD_HOST = re.compile(r"--dashboard-host[=\s]\s*[\"']?([^\s\"';]+)")
SET_MARK = re.compile(r"# SET\b(?! marks)")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
WIDEST_PREFIX = 7
"""Of an address range that may be let in: 10.0.0.0/8 and fc00::/7 are the largest private ones."""
EXPOSING = (
    *(("type", "NodePort"), ("type", "LoadBalancer"), ("serviceType", "NodePort"), ("serviceType", "LoadBalancer")),
    *(("hostNetwork", True), ("enableIngress", True)),
)
"""Keys of Kubernetes with the values that open a port beyond its cluster."""


def validate_cluster_file(path: Path) -> list[str]:
    """What is wrong with a launcher file, each with its place and the fix; empty: nothing.

    Needs no network and no credentials. Raises ConfigError for a file that is not there or no YAML mapping.
    """
    documents = read_documents(path)
    if len(documents) != 1:
        raise ConfigError(f"{path}: holds {len(documents)} documents, expected one cluster.")
    data = documents[0]
    problems = [*_schema_problems_of_launcher(data), *exposed(data)]
    if problems:
        return problems
    from ray.autoscaler._private.util import prepare_config, validate_config

    # It would say on every run what it fills in.
    logging.getLogger(prepare_config.__module__).setLevel(logging.WARNING)
    try:
        # With Ray's defaults: its own start commands open the dashboard, for one.
        full = prepare_config(copy.deepcopy(data))
        validate_config(full)
    except (ValueError, RuntimeError, AssertionError) as e:
        return [f"(the whole file): Ray refuses it: {e}"]
    return [*_node_type_problems(full), *_start_problems(full)]


def read_documents(path: Path) -> list[dict[str, Any]]:
    """The mappings of a YAML file, of which it must have one."""
    try:
        documents = [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise ConfigError(f"{path}: cannot be read as YAML: {e}") from e
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ConfigError(f"{path}: expected a mapping of fields.")
    return documents


def lines_to_fill_in(path: Path) -> list[str]:
    """Numbers of the lines that a comment marks SET, as the shipped files do with what is each reader's own."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [str(number) for number, line in lines if SET_MARK.search(line)]


def value_at(node: Any, dotted: str) -> Any:
    """The value at a dotted path of mappings; None where there is none."""
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def schema_problems(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """What a JSON schema says of a document; an unknown key with those that are known."""
    from jsonschema import Draft7Validator

    for error in sorted(Draft7Validator(schema).iter_errors(document), key=lambda e: [str(part) for part in e.path]):
        place = ".".join(map(str, error.path))
        if error.validator != "additionalProperties":
            yield f"{place or '(the whole file)'}: {error.message[:300]}."
            continue
        known = sorted(error.schema.get("properties", ()))
        for key in sorted(set(error.instance) - set(known)):
            close = difflib.get_close_matches(key, known, n=1)
            hint = f", meant is {close[0]}?" if close else "."
            yield f"{place}.{key}".lstrip(".") + f": unknown key{hint} Known here: {', '.join(known)}."


def exposed(node: Any, place: str = "") -> Iterator[str]:
    """What lets in the world, or gives a token away, anywhere in a document."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            where = f"{place}.{key}".lstrip(".")
            if (key, value) in EXPOSING:
                yield f"{where}: {value} opens it beyond the cluster. Use ClusterIP, and kubectl port-forward."
            yield from exposed(value, where)
        if isinstance(node, dict) and node.get("name") == "RAY_AUTH_TOKEN" and "value" in node:
            yield f"{place}.value: a token in the file. Take it from a Secret: authOptions.secretName."
    elif isinstance(node, str) and TOKEN.search(node):
        yield f"{place}: a token in the file. Use file_mounts and RAY_AUTH_TOKEN_PATH."
    elif isinstance(node, str) and "/" in node:
        try:
            network = ipaddress.ip_network(node, strict=False)
        except ValueError:
            return
        if network.prefixlen < WIDEST_PREFIX:
            yield f"{place}: {node} lets in the world. Give your own address, like 203.0.113.7/32."


def _schema_problems_of_launcher(data: Mapping[str, Any]) -> Iterator[str]:
    """By Ray's schema, with the provider's keys closed too."""
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    fields = schema["properties"]
    kind = value_at(data, "provider.type")
    if kind in REQUIRED:
        keys = ["type", *REQUIRED[kind], *OPTIONAL[kind], *OF_ALL]
        properties = {key: fields["provider"]["properties"].get(key, {}) for key in keys}
        fields["provider"] = {"required": REQUIRED[kind], "properties": properties, "additionalProperties": False}
    else:
        yield f"provider.type: found {kind!r}. Known here: {', '.join(REQUIRED)}."
    # Of machines that one has, Ray makes the one node type itself, with the file's min_workers.
    fields["min_workers"] = fields["max_workers"]
    for key in ("available_node_types", "head_node_type") if kind == "local" else ("min_workers",):
        del fields[key]
    yield from schema_problems(data, schema)


def _node_type_problems(config: Mapping[str, Any]) -> Iterator[str]:
    for name, node in config["available_node_types"].items():
        place = f"available_node_types.{name}"
        low, high, most = node["min_workers"], node["max_workers"], config["max_workers"]
        if not low <= high <= most:
            yield (
                f"{place}.max_workers: found {high}, with min_workers {low} and {most} as the file's max_workers: it "
                "must lie between them."
            )
        if config["provider"]["type"] == "aws" and not node["node_config"].get("SecurityGroupIds"):
            yield (
                f"{place}.node_config.SecurityGroupIds: missing. Ray would use a security group that lets in the world "
                "by SSH. Name one that lets in your own address, and itself."
            )


def _start_problems(config: Mapping[str, Any]) -> Iterator[str]:
    docker = config.get("docker", {})
    for role in ("head", "worker"):
        options = " ".join([*docker.get("run_options", []), *docker.get(f"{role}_run_options", [])])
        place = f"{role}_start_ray_commands"
        commands = {f"{place}.{n}": command for n, command in enumerate(config[place]) if "ray start" in command}
        if not commands:
            yield f"{place}: no `ray start` among them, so nobody can tell whether it is safe. Put it there."
        for where, command in commands.items():
            # Set in front of another command, it would be that one's alone.
            parts = [p for p in re.split(r"[;&|\n]+", command) if "ray start" in p or p.strip().startswith("export ")]
            mode = (AUTH_MODE.findall(" ".join(parts)) or AUTH_MODE.findall(options) or ["unset"])[-1]
            if mode != "token":
                yield (
                    f"{where}: starts Ray with RAY_AUTH_MODE {mode}: who reaches it runs what they like. Add "
                    "--env=RAY_AUTH_MODE=token to docker.run_options, or export it in front of `ray start`."
                )
            for host in DASHBOARD_HOST.findall(command):
                if host not in LOOPBACK:
                    yield (
                        f"{where}: --dashboard-host {host} opens the dashboard to the network. Use 127.0.0.1, and "
                        "`ray dashboard FILE` to reach it."
                    )
