"""The layout keeps its promises: the README's tree is true, files stay small, imports stay light."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
HEAVY = ("torch", "ray")
TREE = re.compile(r"<!-- tree -->\s*```[a-z]*\n(?P<tree>.*?)\n```", re.DOTALL)

COMMANDS = (
    "jobs.build_base_model",
    "jobs.evaluate",
    "jobs.export_openai",
    "jobs.finetune",
    "jobs.generate",
    "jobs.import_checkpoint",
    "jobs.quantize",
    "serve_apps.deploy",
    "tuneyard.demo",
    "ui.__main__",
)
"""What people start with `python -m`: importing it must not take seconds."""


@pytest.fixture(scope="module")
def project_files() -> list[str]:
    """Every file that is or could be committed, relative to the root."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, or git is not installed: what is tracked cannot be told")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()})


def read_tree(readme: str) -> list[str]:
    """The paths of the tree after `<!-- tree -->`: a name, two spaces, a note; folders end with a slash."""
    found = TREE.search(readme)
    assert found, "README.md has no fenced block after <!-- tree -->"
    paths: list[str] = []
    folders: list[tuple[int, str]] = []
    for line in found["tree"].split("\n"):
        name = re.split(r"\s{2,}", line.strip())[0]
        if not name:
            continue
        indent = len(line) - len(line.lstrip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        path = (folders[-1][1] if folders else "") + name
        if name.endswith("/"):
            folders.append((indent, path))
        else:
            paths.append(path)
    return paths


def is_left_out(path: str) -> bool:
    """Packages' empty marker files under tests/ are the only files that the tree does not name."""
    return path.startswith("tests/") and path.endswith("/__init__.py")


def test_the_readmes_tree_lists_exactly_the_files(project_files: list[str]) -> None:
    listed = read_tree((ROOT / "README.md").read_text(encoding="utf-8"))
    expected = {path for path in project_files if not is_left_out(path)}
    problems = [f"missing in the tree: {path}" for path in sorted(expected - set(listed))]
    problems += [f"stale in the tree, no such file: {path}" for path in sorted(set(listed) - expected)]
    problems += [f"twice in the tree: {path}" for path in sorted({p for p in listed if listed.count(p) > 1})]
    assert not problems, "README.md:\n  " + "\n  ".join(problems)


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), "it would shadow Python's own `platform` module"


def test_files_stay_small(project_files: list[str]) -> None:
    lengths = {p: len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in project_files if p.endswith(".py")}
    over = [f"{path}: {length} lines" for path, length in lengths.items() if length > MAX_LINES]
    assert not over, f"over {MAX_LINES} lines, split by idea:\n  " + "\n  ".join(over)


def test_nothing_is_named_like_a_standard_module(project_files: list[str]) -> None:
    modules = {path: Path(path).stem for path in project_files if path.endswith(".py")}
    packages = {path: Path(path).parent.name for path in modules if path.endswith("/__init__.py")}
    names = modules | packages
    taken = [f"{path}: {name}" for path, name in names.items() if name in sys.stdlib_module_names]
    assert not taken, "named like a module of Python's own:\n  " + "\n  ".join(taken)


def heavy_after_importing(modules: list[str]) -> str:
    """Which of HEAVY a fresh interpreter has loaded after importing the modules, as printed."""
    code = f"import sys\nimport {', '.join(modules)}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    path = [str(ROOT / "platform"), str(ROOT)]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_importing_the_library_loads_neither_torch_nor_ray() -> None:
    library = [f"tuneyard.{path.stem}" for path in sorted((ROOT / "platform/tuneyard").glob("[!_]*.py"))]
    assert "tuneyard.command" in library
    assert "tuneyard.config" in library
    assert heavy_after_importing(["tuneyard", *library]) == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses_its_arguments_before_torch_and_ray(command: str) -> None:
    assert heavy_after_importing([command]) == "[]"


# Fails on purpose until every figure is measured and filled in: a placeholder must never be released.
@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md"])
def test_no_figure_is_left_to_be_filled_in(document: str) -> None:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    left = [f"{document}:{number}: {m}" for number, line in enumerate(lines, 1) for m in re.findall(r"FIG_\w+", line)]
    assert not left, "measure and fill in:\n  " + "\n  ".join(left)
