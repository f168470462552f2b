"""The facts that a node gathers, and which nodes do not see what the driver sees."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tuneyard.cluster import auth_token
from tuneyard.doctor import local_host, local_node
from tuneyard.doctor.local_node import component_of, expand, fingerprint, is_loopback
from tuneyard.doctor.node_facts import NodeFacts, PathFacts
from tuneyard.doctor.node_probe import nodes_without

HEAD = NodeFacts("aaaaaa1", "10.0.0.1", "head", is_head=True, ray_gpus=0.0)
SEEN = PathFacts("$STORE", "/store", exists=True, writable=True, same_content=True)


def test_a_path_is_seen_only_where_it_holds_the_same() -> None:
    facts = [
        replace(HEAD, paths=(SEEN,)),
        replace(HEAD, ip="10.0.0.2", paths=(replace(SEEN, same_content=False),)),
        replace(HEAD, ip="10.0.0.3", problem="no answer within 60 s"),
        replace(HEAD, ip="10.0.0.4", paths=(replace(SEEN, path="/another"),)),
    ]
    unseen = nodes_without(facts, "$STORE")
    assert [name.split(" ")[0] for name in unseen] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert unseen[1].endswith("did not answer")
    assert nodes_without(facts[:1], "$STORE") == []


def test_a_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    for name, content in (("one", b"weights"), ("two", b"weights"), ("three", b"Weights")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
    one, two, three = (fingerprint(tmp_path / name / "file", "m") for name in ("one", "two", "three"))
    assert one == two != three
    assert fingerprint(tmp_path / "nothing", "m") == ""
    folder = fingerprint(tmp_path / "one", "m")
    assert folder == fingerprint(tmp_path / "two", "m")
    (tmp_path / "one" / "m").write_text("marked")
    assert fingerprint(tmp_path / "one", "m") == "marked"


def test_the_end_of_a_large_file_counts(tmp_path: Path) -> None:
    prints = set()
    for end in (b"a", b"b"):
        (tmp_path / "large").write_bytes(bytes(3 << 20) + end)
        prints.add(fingerprint(tmp_path / "large", "m"))
    assert len(prints) == 2


def test_paths_expand_with_the_nodes_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", "/mnt/store")
    monkeypatch.setenv("HOME", "/home/someone")
    assert expand("$STORE/models") == Path("/mnt/store/models")
    assert expand("~/models") == Path("/home/someone/models")


@pytest.mark.parametrize(
    ("command", "component"),
    [
        (["/r/core/src/ray/raylet/raylet", "--x", "--y", "--agent=/r/dashboard/agent.py /gcs/gcs_server"], "raylet"),
        (["/r/core/src/ray/gcs/gcs_server", "--log_dir=/tmp/ray"], "gcs_server"),
        (["python", "/r/dashboard/dashboard.py", "--host=127.0.0.1"], "dashboard"),
        (["python", "-u", "/r/autoscaler/_private/monitor.py"], "autoscaler"),
        (["ray::DashboardAgent", "", ""], "metrics agent"),
        (["ray::ProxyActor", ""], "serve proxy"),
        (["ray::IDLE", ""], "worker"),
        ([], "worker"),
    ],
)
def test_a_command_line_identifies_its_component(command: list[str], component: str) -> None:
    assert component_of(command) == component


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0")))


def test_a_node_without_tuneyard_can_run_the_probe(tmp_path: Path) -> None:
    from ray import cloudpickle

    from tuneyard.doctor.node_probe import _pickled_by_value

    with _pickled_by_value(local_node, local_host, auth_token):
        pickled = cloudpickle.dumps(
            (local_node.gather_facts, local_node.wall_clock, auth_token.token_file, local_host.host_facts)
        )
    (tmp_path / "functions").write_bytes(pickled)
    # A None in sys.modules makes the import fail, as on a node where the package is not installed.
    code = f"""
import os, pickle, sys
sys.modules["tuneyard"] = None
from ray import cloudpickle
gather_facts, wall_clock, token_file, host_facts = cloudpickle.loads(open({str(tmp_path / "functions")!r}, "rb").read())
os.environ |= {{"RAY_RAYLET_PID": str(os.getpid()), "RAY_AUTH_TOKEN_PATH": "~/token", "HOME": {str(tmp_path)!r}}}
facts = gather_facts({{"/": ""}}, "marker", (), token_file, host_facts)
assert facts["token_file"] == {str(tmp_path / "token")!r}, facts
assert facts["versions"]["ray"], facts
assert facts["host"]["shared_memory_bytes"] > 0, facts
assert "lo" in facts["host"]["interfaces"], facts
assert wall_clock() > 0
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
