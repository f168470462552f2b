"""The shipped cluster files, and copies of them with one change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tuneyard.doctor.cluster_files.yaml_documents import read_documents

ROOT = Path(__file__).resolve().parents[4]
AWS = ROOT / "cluster.yaml"
GCP = ROOT / "platform/clusters/gcp.yaml"
ON_PREM = ROOT / "platform/clusters/on_prem.yaml"
EFA = ROOT / "platform/clusters/aws_efa.yaml"
LAUNCHER_FILES = (AWS, EFA, GCP, ON_PREM)
KUBERAY = ROOT / "platform/kuberay"
MANIFESTS = tuple(KUBERAY / f"{kind}.yaml" for kind in ("raycluster", "rayjob", "rayservice"))
OTHER_MANIFESTS = tuple(sorted(set(KUBERAY.glob("*.yaml")) - set(MANIFESTS)))

Change = Callable[[Any], object]


def load(path: Path) -> Any:
    """The first document, with nothing shared between places as aliases would."""
    return json.loads(json.dumps(read_documents(path)[0]))


def changed_copy(path: Path, change: Change, folder: Path) -> Path:
    """A copy of the file's first document with the change applied."""
    data = load(path)
    change(data)
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(data), encoding="utf-8")
    return copy


def put(dotted: str, value: Any) -> Change:
    def change(data: Any) -> None:
        *way, last = (int(key) if key.isdigit() else key for key in dotted.split("."))
        for key in way:
            data = data[key]
        data[last] = value

    return change


def misspelled(key: str) -> str:
    """With two letters swapped, or one more where that changes nothing."""
    middle = len(key) // 2
    swapped = key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    return swapped if swapped != key else key + "x"


def all_misspellings(
    path: Path, known: Callable[[Any], Iterator[tuple[str, dict[str, Any]]]]
) -> Iterator[tuple[str, Any]]:
    """The document with one key misspelled, for each key, and where it is."""
    for number, (place, section) in enumerate(known(load(path))):
        for key in section:
            data = load(path)
            _, found = list(known(data))[number]
            found[misspelled(key)] = found.pop(key)
            yield f"{place}.{misspelled(key)}".lstrip("."), data
