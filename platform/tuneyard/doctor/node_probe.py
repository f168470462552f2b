"""Collects facts from every node of the connected Ray cluster by running tuneyard.doctor.local_node there."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneyard.cluster import auth_token
from tuneyard.doctor import local_host, local_node
from tuneyard.doctor.node_facts import HostFacts, Listener, NodeFacts, PathFacts

CLOCK_ROUND_TRIPS = 3


def probe_nodes(paths: Sequence[str] = (), *, timeout_s: float = 60.0) -> list[NodeFacts]:
    """Returns the facts of every node that Ray counts as alive, the head first. A node that does not answer within
    `timeout_s` has a `problem`.

    `paths` are files or folders; `$VAR` and `~` are expanded on each node. A folder has the same content when the node
    sees the marker file that the driver writes there during the probe; if the driver cannot write there, when names
    and sizes of its files are equal. A file has the same content when its size and its first and last MiB are equal.
    Needs a connected Ray.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: not _is_head(node))
    with _pickled_by_value(local_node, local_host, auth_token):
        gather = ray.remote(num_cpus=0, max_retries=0)(local_node.gather_facts)
        clock = ray.remote(num_cpus=0, max_retries=0)(local_node.wall_clock)
        context = ray.get_runtime_context()
        session = Path(ray._private.worker._global_node.get_session_dir_path()).name
        with _marked(paths) as (marker, expected):
            tasks = {}
            for node in alive:
                on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                head_marks = (session, context.gcs_address) if _is_head(node) else ()
                arguments = (expected, marker, head_marks, auth_token.token_file, local_host.host_facts)
                tasks[node["NodeID"]] = gather.options(scheduling_strategy=on_node).remote(*arguments)
            ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)
            facts = [_node_facts(node, tasks[node["NodeID"]], timeout_s) for node in alive]
        return [_with_clock_offset(fact, clock) if not fact.problem else fact for fact in facts]


def nodes_without(facts: Sequence[NodeFacts], path: str) -> list[str]:
    """Returns the names of the nodes that do not see the driver's content at the path, or that did not answer.

    `path` is one of probe_nodes' paths, unexpanded.
    """
    names = []
    for fact in facts:
        if fact.problem:
            names.append(f"{fact.name}, which did not answer")
        elif not any(seen.path == path and seen.same_content for seen in fact.paths):
            names.append(fact.name)
    return names


@contextlib.contextmanager
def _pickled_by_value(*modules: Any) -> Iterator[None]:
    """Ray sends functions of these modules as code. A node without Tuneyard can then run them, and report that it
    has no Tuneyard, instead of failing at the import.
    """
    import ray

    with contextlib.ExitStack() as registered:
        for module in modules:
            ray.cloudpickle.register_pickle_by_value(module)
            registered.callback(ray.cloudpickle.unregister_pickle_by_value, module)
        yield


@contextlib.contextmanager
def _marked(paths: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the marker file's name and path -> fingerprint. Writable folders hold the marker file meanwhile."""
    marker = f".tuneyard-seen-{uuid.uuid4().hex}"
    written: list[Path] = []
    try:
        for path in map(local_node.expand, paths):
            # Files, and folders that cannot be written, are compared by their content.
            with contextlib.suppress(OSError):
                (path / marker).write_text(uuid.uuid4().hex, encoding="utf-8")
                written.append(path / marker)
        yield marker, {path: local_node.fingerprint(local_node.expand(path), marker) for path in paths}
    finally:
        for file in written:
            file.unlink(missing_ok=True)


def _node_facts(node: Mapping[str, Any], task: Any, timeout_s: float) -> NodeFacts:
    """Returns the facts that the finished task gathered; an unfinished one is cancelled."""
    import ray

    known = NodeFacts(
        node_id=node["NodeID"],
        ip=node["NodeManagerAddress"],
        hostname=node["NodeManagerHostname"],
        is_head=_is_head(node),
        ray_gpus=node["Resources"].get("GPU", 0.0),
    )
    try:
        gathered = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        return replace(known, problem=f"no answer within {timeout_s:g} s")
    except ray.exceptions.RayError as e:
        cause = getattr(e, "cause", None) or e
        return replace(known, problem=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}")
    gathered["listeners"] = tuple(Listener(**listener) for listener in gathered["listeners"])
    gathered["paths"] = tuple(PathFacts(**path) for path in gathered["paths"])
    gathered["host"] = HostFacts(**gathered["host"])
    return replace(known, **gathered)


def _with_clock_offset(fact: NodeFacts, clock: Any) -> NodeFacts:
    """Adds the clock offset of the fastest of CLOCK_ROUND_TRIPS calls.

    The node read its clock at some moment of the call, so the offset is uncertain by half the call's duration.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    on_node = clock.options(scheduling_strategy=NodeAffinitySchedulingStrategy(fact.node_id, soft=False))
    for _ in range(CLOCK_ROUND_TRIPS):
        sent_at, started = time.time(), time.monotonic()
        try:
            node_time = ray.get(on_node.remote(), timeout=10)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
            continue  # The facts keep the offset of a slower call, or have none.
        half_s = (time.monotonic() - started) / 2
        if fact.clock_offset_s is None or half_s < fact.clock_uncertainty_s:
            fact = replace(fact, clock_offset_s=node_time - sent_at - half_s, clock_uncertainty_s=half_s)
    return fact


def _is_head(node: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]
