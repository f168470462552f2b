"""Every node of the connected Ray cluster, asked what it is and which files it sees (tuneyard.doctor.local_node)."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneyard.doctor import local_node
from tuneyard.doctor.node_facts import Listener, NodeFacts, PathFacts


def probe_nodes(paths: Sequence[str] = (), *, timeout_s: float = 60.0) -> list[NodeFacts]:
    """The facts of every node that Ray holds for alive, the head's first; a node that does not answer has a `problem`.

    Needs a connected Ray. `paths` are files or folders; `$VAR` and `~` expand on each node. A folder counts as seen
    where the marker file is seen that the driver puts there meanwhile (a folder it cannot write in: where names and
    sizes of its files are the same), a file where its size and its first and last MiB are the same.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: not _is_head(node))
    # By value: a node without Tuneyard shall say so, not fail at the import.
    ray.cloudpickle.register_pickle_by_value(local_node)
    try:
        gather = ray.remote(num_cpus=0, max_retries=0)(local_node.gather_facts)
        clock = ray.remote(num_cpus=0, max_retries=0)(local_node.wall_clock)
        context = ray.get_runtime_context()
        session = Path(ray._private.worker._global_node.get_session_dir_path()).name
        with _marked(paths) as (marker, expected):
            tasks = {}
            for node in alive:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                arguments = (expected, marker, session, context.gcs_address, _is_head(node))
                tasks[node["NodeID"]] = gather.options(scheduling_strategy=there).remote(*arguments)
            ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)
            facts = [_answer(node, tasks[node["NodeID"]], timeout_s) for node in alive]
        return [_with_clock(fact, clock) if not fact.problem else fact for fact in facts]
    finally:
        ray.cloudpickle.unregister_pickle_by_value(local_node)


def unseen_by(facts: Sequence[NodeFacts], path: str) -> list[str]:
    """The nodes, by name, that do not see what the driver sees at the path, and those that did not answer.

    `path` is one that probe_nodes was given, as it was given.
    """
    unseen = []
    for fact in facts:
        if fact.problem:
            unseen.append(f"{fact.name}, which did not answer")
        elif not any(seen.path == path and seen.same_content for seen in fact.paths):
            unseen.append(fact.name)
    return unseen


@contextlib.contextmanager
def _marked(paths: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The marker's name, and what each path holds, while every folder that can be written in has a marker file."""
    marker = f".tuneyard-seen-{uuid.uuid4().hex}"
    written: list[Path] = []
    try:
        for path in map(local_node.expand, paths):
            # A file takes no marker, nor does a folder that is not writable here: they are compared by what they hold.
            with contextlib.suppress(OSError):
                (path / marker).write_text(uuid.uuid4().hex, encoding="utf-8")
                written.append(path / marker)
        yield marker, {path: local_node.fingerprint(local_node.expand(path), marker) for path in paths}
    finally:
        for file in written:
            file.unlink(missing_ok=True)


def _answer(node: Mapping[str, Any], task: Any, timeout_s: float) -> NodeFacts:
    import ray

    asked = NodeFacts(
        node_id=node["NodeID"],
        ip=node["NodeManagerAddress"],
        hostname=node["NodeManagerHostname"],
        is_head=_is_head(node),
        ray_gpus=node["Resources"].get("GPU", 0.0),
    )
    try:
        told = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        return replace(asked, problem=f"no answer within {timeout_s:g} s")
    except ray.exceptions.RayError as e:
        cause = getattr(e, "cause", None) or e
        return replace(asked, problem=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}")
    told["listeners"] = tuple(Listener(**listener) for listener in told["listeners"])
    told["paths"] = tuple(PathFacts(**path) for path in told["paths"])
    return replace(asked, **told)


def _with_clock(fact: NodeFacts, clock: Any) -> NodeFacts:
    """The offset from the fastest of three round trips: the node's clock was read somewhere within it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = clock.options(scheduling_strategy=NodeAffinitySchedulingStrategy(fact.node_id, soft=False))
    for _ in range(3):
        sent_at, started = time.time(), time.monotonic()
        try:
            read = ray.get(there.remote(), timeout=10)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
            continue  # The facts stay as they are: without an offset, or with that of a slower round trip.
        half_s = (time.monotonic() - started) / 2
        if fact.clock_offset_s is None or half_s < fact.clock_uncertainty_s:
            fact = replace(fact, clock_offset_s=read - sent_at - half_s, clock_uncertainty_s=half_s)
    return fact


def _is_head(node: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]
