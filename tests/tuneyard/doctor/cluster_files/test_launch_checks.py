"""launch_checks: a launcher file whose nodes would be started in vain."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.tuneyard.doctor.cluster_files.changed_documents import (
    AWS,
    EFA,
    GCP,
    LAUNCHER_FILES,
    ROOT,
    Change,
    changed_copy,
    load,
    put,
)
from tuneyard.doctor.cluster_files.cluster_file import validate_cluster_file


def without(key: str, text: str) -> Change:
    """Removes the commands or options that hold the text."""

    def change(data: Any) -> None:
        section = data["docker"] if key == "run_options" else data
        section[key] = [entry for entry in section[key] if text not in entry]

    return change


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (without("initialization_commands", "mount"), "initialization_commands: no command mounts /mnt/tuneyard"),
        (without("run_options", "--volume=/mnt/tuneyard"), "docker.run_options: no --volume=…:/mnt/tuneyard"),
        (without("initialization_commands", "ghcr.io"), "initialization_commands: no command logs in to ghcr.io"),
    ],
)
def test_what_a_node_lacks_is_named(path: Path, change: Change, wanted: str, tmp_path: Path) -> None:
    found = validate_cluster_file(changed_copy(path, change, tmp_path))
    assert [problem for problem in found if problem.startswith(wanted)], found


@pytest.mark.parametrize("image", ["rayproject/ray:2.60.0", "ray:2.60.0"])
def test_images_of_docker_hub_need_no_login(image: str, tmp_path: Path) -> None:
    def change(data: Any) -> None:
        without("initialization_commands", "ghcr.io")(data)
        for part in (data["docker"], data["available_node_types"]["gpu_serve"]["docker"]):
            part |= {key: image for key in part if key.endswith("image")}

    assert validate_cluster_file(changed_copy(AWS, change, tmp_path)) == []


@pytest.mark.parametrize("kind", [None, "zones/us-central1-a/diskTypes/pd-standard"])
def test_a_disk_that_a3_does_not_take(kind: str | None, tmp_path: Path) -> None:
    place = "available_node_types.gpu_train.node_config.disks.0"
    found = validate_cluster_file(changed_copy(GCP, put(f"{place}.initializeParams.diskType", kind), tmp_path))
    assert [problem.startswith(f"{place}: a3-highgpu-8g takes no pd-standard disk") for problem in found] == [True]


def test_every_interface_of_an_efa_node_has_a_card_a_subnet_and_a_group() -> None:
    node = load(EFA)["available_node_types"]["gpu_train"]
    interfaces = node["node_config"]["NetworkInterfaces"]
    assert [one["NetworkCardIndex"] for one in interfaces] == list(range(32))
    assert [one["DeviceIndex"] for one in interfaces] == [0] + [1] * 31
    assert [one["InterfaceType"] for one in interfaces] == ["efa"] + ["efa-only"] * 31
    assert all(one["SubnetId"] and one["Groups"] for one in interfaces)
    # Ray refuses both at once.
    assert not {"SubnetId", "SubnetIds", "SecurityGroupIds"} & set(node["node_config"])
    assert "--device=/dev/infiniband" in node["docker"]["worker_run_options"]


def test_an_efa_interface_without_a_group_is_found(tmp_path: Path) -> None:
    place = "available_node_types.gpu_train.node_config"
    found = validate_cluster_file(changed_copy(EFA, put(f"{place}.NetworkInterfaces.3.Groups", []), tmp_path))
    assert any(problem.startswith(f"{place}.SecurityGroupIds: missing") for problem in found), found


def test_the_images_hold_what_the_first_launch_needs() -> None:
    train = (ROOT / "platform/images/train.Dockerfile").read_text(encoding="utf-8")
    serve = (ROOT / "platform/images/serve.Dockerfile").read_text(encoding="utf-8")
    for text in (train, serve):
        assert "\nENV PIP_CONSTRAINT=\n" in text
        assert "driver 580 or newer" in text
    assert '"transformer-engine[pytorch]==2.9.0"' in train
    assert "MAX_JOBS=" in train
    # Without build isolation, what the build needs is installed before it.
    assert train.index("setuptools wheel") < train.index("--no-build-isolation")
    assert {f"OMPI_MCA_{part}_tcp_if_include=lo" for part in ("btl", "oob")} <= set(serve.split())
    assert "numpy" not in [line[:5] for line in (ROOT / "constraints/serve.txt").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "is_good"),
    [
        ("mountpoint -q /mnt/tuneyard || sudo mount", "mountpoint -q /mnt/tuneyard2 || sudo mount", True),
        (":/ /mnt/tuneyard)", ":/ /mnt/tuneyard2)", True),
        ("/mnt/tuneyard", "/mnt/tuneyard2", False),
        ("/mnt/tuneyard", "/mnt", True),
    ],
)
def test_the_shared_folder_must_be_mounted_at_the_home_or_above_it(
    old: str, new: str, is_good: bool, tmp_path: Path
) -> None:
    def change(data: Any) -> None:
        commands = data["initialization_commands"]
        data["initialization_commands"] = [c.replace(old, new) if "nfsvers" in c else c for c in commands]

    found = validate_cluster_file(changed_copy(AWS, change, tmp_path))
    assert [problem.startswith("initialization_commands: no command mounts") for problem in found] == [True] * (
        not is_good
    )


def test_a_launcher_file_without_a_home_for_its_containers_is_found(tmp_path: Path) -> None:
    found = validate_cluster_file(changed_copy(AWS, without("run_options", "TUNEYARD_HOME"), tmp_path))
    assert [problem.startswith("docker.run_options: no --env=TUNEYARD_HOME=") for problem in found] == [True]


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("ghcr.io/your-org/tuneyard-train:0.1.0-ray2.59.0", "the images have different versions of Ray, 2.59.0 ("),
        ("ghcr.io/your-org/tuneyard-train:latest", "the image ghcr.io/your-org/tuneyard-train:latest has no fixed tag"),
        ("ghcr.io:443/your-org/tuneyard-train", "the image ghcr.io:443/your-org/tuneyard-train has no fixed tag"),
    ],
)
def test_images_that_do_not_fit_together_are_found(image: str, wanted: str, tmp_path: Path) -> None:
    (problem,) = validate_cluster_file(changed_copy(AWS, put("docker.worker_image", image), tmp_path))
    assert problem.startswith(f"docker: {wanted}")


@pytest.mark.parametrize("path", [AWS, EFA], ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("mounted", "disks", "wanted"),
    [
        (["/opt/dlami/nvme"], 8, ["mkdir -p /mnt/nvme", "mount --bind /opt/dlami/nvme /mnt/nvme"]),
        (["/opt/dlami/nvme", "/mnt/nvme"], 8, []),
        ([], 0, []),
        ([], 1, ["mkfs.xfs -q -f /dev/n1", "mkdir -p /mnt/nvme", "mount /dev/n1 /mnt/nvme"]),
        (
            [],
            2,
            [
                "mdadm --create /dev/md0 --level=0 --raid-devices=2 /dev/n1 /dev/n2",
                "mkfs.xfs -q -f /dev/md0",
                "mkdir -p /mnt/nvme",
                "mount /dev/md0 /mnt/nvme",
            ],
        ),
    ],
)
def test_the_nvme_disks_are_mounted_once(
    path: Path, mounted: list[str], disks: int, wanted: list[str], tmp_path: Path
) -> None:
    """The commands run in a shell with programs that note their arguments; what one mounts, the next one sees."""
    state, log = tmp_path / "mounted", tmp_path / "log"
    state.write_text("".join(f"{folder}\n" for folder in mounted), encoding="utf-8")
    log.touch()
    listed = "".join(f"/dev/n{n} Amazon EC2 NVMe Instance Storage\\n" for n in range(1, disks + 1))
    programs = {
        "mountpoint": f'grep -qx "$2" {state}',
        "lsblk": f"printf '/dev/root Amazon Elastic Block Store\\n{listed}'",
        "sudo": f'echo "$@" >> {log}; if [ "$1" = mount ]; then echo "${{@: -1}}" >> {state}; fi',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    commands = [c for c in load(path)["initialization_commands"] if "nvme" in c and "install -d" not in c]
    for command in commands:
        subprocess.run(["bash", "-c", command], check=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert log.read_text(encoding="utf-8").splitlines() == wanted
