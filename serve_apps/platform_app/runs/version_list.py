"""Registered versions with their lineage, and what serves them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tuneyard.api.wire.platform_api.runs import Lineage, ServedBy, Version
from tuneyard.checkpoints.registry import METRIC_TAG, ModelVersion


def describe_version(
    version: ModelVersion, aliases: Mapping[str, int], served: Mapping[str, Sequence[ServedBy]]
) -> Version:
    """The version for clients. `aliases` are its model's; `served` is by versions' names."""
    name = f"{version.name}/{version.version}"
    tags = version.tags
    return Version(
        id=name,
        model=version.name,
        version=version.version,
        kind="adapter" if tags.get("kind") == "adapter" else "model",
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.version)),
        created_at=int(version.created_at),
        checkpoint=version.checkpoint,
        lineage=Lineage(
            run=version.run_id,
            run_name=tags.get("run_name"),
            base=tags.get("base_name"),
            base_digest=tags.get("base_digest"),
            dataset_fingerprint=tags.get("dataset_fingerprint"),
            codec_fingerprint=tags.get("codec_fingerprint"),
            weights_digest=tags.get("weights_digest"),
            git_commit=tags.get("git_commit") if tags.get("git_commit") != "none" else None,
        ),
        metrics=_metrics(tags),
        served_by=tuple(served.get(name, ())),
    )


def _metrics(tags: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for tag, text in sorted(tags.items()):
        if not tag.startswith(METRIC_TAG):
            continue
        try:
            value = float(text)
        except ValueError:
            continue  # a tag that someone else wrote
        if math.isfinite(value):
            found[tag.removeprefix(METRIC_TAG)] = value
    return found
