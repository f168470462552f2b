"""What replicas hold that are always served, by Ray Serve's details."""

from __future__ import annotations

from typing import Any

from serve_apps.platform_app.fine_tuning.execution.ray_capacity import lasting_amounts


def deployment(resources: dict[str, float], nodes: list[str | None], **config: Any) -> dict[str, Any]:
    return {
        "required_resources": resources,
        "replicas": [{"node_id": node} for node in nodes],
        "target_num_replicas": len(nodes),
        "deployment_config": {"num_replicas": len(nodes)} | config,
    }


def test_replicas_above_an_autoscalers_minimum_do_not_count() -> None:
    details = {
        "applications": {
            "gateway": {
                "deployments": {
                    "Platform": deployment({"CPU": 0.5}, ["a", "b"]),
                    "Reconciler": deployment({"CPU": 0.1}, ["a"]),
                }
            },
            "acme": {"deployments": {"Model": deployment({"CPU": 1.0, "GPU": 1.0}, ["b"])}},
            "scaled": {
                "deployments": {
                    "Model": deployment({"CPU": 4.0}, ["b", "b", "a"], autoscaling_config={"min_replicas": 1})
                }
            },
            "idle": {"deployments": {"Model": deployment({"CPU": 8.0}, ["a"], autoscaling_config={"min_replicas": 0})}},
            "default": {
                "deployments": {"Model": deployment({"CPU": 3.0}, ["a", "a"], autoscaling_config={"max_replicas": 2})}
            },
            "starting": {"deployments": {"Model": deployment({"CPU": 2.0}, [None])}},
        }
    }
    assert lasting_amounts(details) == {
        "a": {"CPU": 3.6},
        "b": {"CPU": 5.5, "GPU": 1.0},
        "": {"CPU": 2.0},
    }


def test_a_cluster_without_applications_serves_nothing() -> None:
    assert lasting_amounts({"applications": {}}) == {}
