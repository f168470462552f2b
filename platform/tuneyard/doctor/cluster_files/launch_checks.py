"""Checks of a launcher file's commands and disks: what would stop a node after it was started and paid for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.doctor.cluster_files.yaml_documents import value_at

LOGIN = re.compile(r"docker login|configure-docker|docker-credential|\.docker/config\.json")
HOME = re.compile(r"--env=[\"']?TUNEYARD_HOME=([^\s\"']+)")
RAY_VERSION = re.compile(r"\bray-?(\d+\.\d+\.\d+)")
NO_STANDARD_DISKS = re.compile(r"^(a3|a4|g4|c3|c4|n4|h3)")
"""Google's machine series that take no pd-standard disk."""


def launch_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields the problems of a file that Ray's prepare_config has completed."""
    yield from _mount_problems(config)
    yield from _login_problems(config)
    yield from _image_problems(config)
    yield from _disk_problems(config)


def _commands(config: Mapping[str, Any]) -> list[str]:
    nodes = config["available_node_types"].values()
    return [
        *config.get("initialization_commands", []),
        *(c for n in nodes for c in n.get("initialization_commands", [])),
    ]


def _mount_problems(config: Mapping[str, Any]) -> Iterator[str]:
    homes = HOME.findall(" ".join(value_at(config, "docker.run_options") or []))
    if value_at(config, "docker.run_options") is not None and not homes:
        yield (
            "docker.run_options: no --env=TUNEYARD_HOME=…. The containers would keep bases, runs and models in "
            "themselves, where other nodes do not see them. Add --env=TUNEYARD_HOME=/mnt/tuneyard, a folder that all "
            "nodes mount."
        )
    for home in homes[-1:]:
        # `mount … /mnt/tuneyard`, or `mountpoint /mnt/tuneyard` where the machines have mounted it already.
        if not any(_mounts(command, home) for command in _commands(config)):
            yield (
                f"initialization_commands: no command mounts {home}, the TUNEYARD_HOME of the containers, or checks "
                "with mountpoint that it is mounted. Each node would have a folder of its own there, and a run would "
                "fail on its GPU node. Mount the shared folder (EFS, FSx, Filestore, NFS)."
            )
        if not any(_is_within(home, folder) for option in _volumes(config) for folder in option.split(":")[1:2]):
            yield (
                f"docker.run_options: no --volume=…:{home}. The containers would keep TUNEYARD_HOME in themselves and "
                f"lose it. Add --volume={home}:{home}."
            )


def _mounts(command: str, home: str) -> bool:
    """Whether a shell command mounts `home` or a folder above it, or checks that it is mounted."""
    parts = re.split(r"[\s;&|()\"']+", command)
    return "mount" in {part.removesuffix("point") for part in parts} and any(_is_within(home, part) for part in parts)


def _is_within(path: str, folder: str) -> bool:
    return folder.startswith("/") and f"{path}/".startswith(f"{folder.rstrip('/')}/") and folder != "/"


def _volumes(config: Mapping[str, Any]) -> list[str]:
    return [option for option in value_at(config, "docker.run_options") or [] if option.startswith("--volume=")]


def _images(config: Mapping[str, Any]) -> set[str]:
    docker = [config.get("docker", {}), *(n.get("docker", {}) for n in config["available_node_types"].values())]
    return {image for part in docker for key, image in part.items() if key.endswith("image") and image}


def _image_problems(config: Mapping[str, Any]) -> Iterator[str]:
    versions: dict[str, str] = {}
    for image in sorted(_images(config)):
        tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if "@" not in image and tag in ("", "latest"):
            yield f"docker: the image {image} has no fixed tag, so nodes may get different ones. Give it one."
        if version := RAY_VERSION.search(tag):
            versions.setdefault(version[1], image)
    if len(versions) > 1:
        found = " and ".join(f"{version} ({image})" for version, image in sorted(versions.items()))
        yield f"docker: the images have different versions of Ray, {found}, so nodes cannot join. Give them the same."


def _login_problems(config: Mapping[str, Any]) -> Iterator[str]:
    images = _images(config)
    # Without a registry's host, an image is one of Docker Hub's.
    hosts = sorted({image.partition("/")[0] for image in images if re.match(r"[^/]*[.:][^/]*/", image)})
    if hosts and not any(LOGIN.search(command) for command in _commands(config)):
        yield (
            f"initialization_commands: no command logs in to {', '.join(hosts)}. Private images cannot be pulled then. "
            "Add docker login with a password from your cloud's store of secrets; for public images, a check of "
            "~/.docker/config.json is enough."
        )


def _disk_problems(config: Mapping[str, Any]) -> Iterator[str]:
    if value_at(config, "provider.type") != "gcp":
        return
    for name, node in config["available_node_types"].items():
        machine = str(value_at(node, "node_config.machineType") or "").rpartition("/")[2]
        for number, disk in enumerate(value_at(node, "node_config.disks") or []):
            kind = str(value_at(disk, "initializeParams.diskType") or "pd-standard").rpartition("/")[2]
            if NO_STANDARD_DISKS.match(machine) and kind == "pd-standard":
                yield (
                    f"available_node_types.{name}.node_config.disks.{number}: {machine} takes no pd-standard disk, "
                    "which is the default. Set initializeParams.diskType: zones/ZONE/diskTypes/pd-ssd."
                )
