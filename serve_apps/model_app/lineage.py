"""HTTP headers that lead from an answer to its model version, weights, run and dataset."""

from __future__ import annotations

from tuneyard.checkpoints.manifest import CheckpointManifest


def lineage_headers(manifest: CheckpointManifest, version: str) -> dict[str, str]:
    """The headers of a model; a fact that the manifest lacks has no header. `version` is `name/version`."""
    headers = {
        "X-Tuneyard-Model-Version": version,
        "X-Tuneyard-Weights": manifest.digest[:16],
        "X-Tuneyard-Run": manifest.run_id,
        "X-Tuneyard-Dataset": manifest.dataset.fingerprint[:16] if manifest.dataset else None,
    }
    return {name: value for name, value in headers.items() if value}
