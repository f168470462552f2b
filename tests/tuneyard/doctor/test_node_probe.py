"""What a node tells of itself, and which nodes do not see what the driver sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tuneyard.doctor.local_node import component_of, expand, fingerprint, is_loopback
from tuneyard.doctor.node_facts import NodeFacts, PathFacts
from tuneyard.doctor.node_probe import unseen_by

HEAD = NodeFacts("aaaaaa1", "10.0.0.1", "head", is_head=True, ray_gpus=0.0)
SEEN = PathFacts("$STORE", "/store", exists=True, writable=True, same_content=True)


def test_a_path_is_seen_only_where_it_holds_the_same() -> None:
    facts = [
        replace(HEAD, paths=(SEEN,)),
        replace(HEAD, ip="10.0.0.2", paths=(replace(SEEN, same_content=False),)),
        replace(HEAD, ip="10.0.0.3", problem="no answer within 60 s"),
        replace(HEAD, ip="10.0.0.4", paths=(replace(SEEN, path="/another"),)),
    ]
    unseen = unseen_by(facts, "$STORE")
    assert [name.split(" ")[0] for name in unseen] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert unseen[1].endswith("did not answer")
    assert unseen_by(facts[:1], "$STORE") == []


def test_a_fingerprint_is_of_what_is_there(tmp_path: Path) -> None:
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


def test_paths_expand_where_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_command_line_tells_whose_it_is(command: list[str], component: str) -> None:
    assert component_of(command) == component


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0")))
