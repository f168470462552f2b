"""Rules of the layout: READMEs list their room's files, files and rooms are small, imports are light."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
MAX_FILES = 14
HEAVY = ("torch", "ray")


@pytest.fixture(scope="module")
def project_files() -> list[str]:
    """Paths of all files that git tracks or does not ignore, relative to the root."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, or git is not installed")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()})


def rooms(project_files: list[str]) -> list[str]:
    """Folders of the product that hold Python files."""
    product = ("platform/tuneyard/", "jobs/", "serve_apps/", "ui/")
    return sorted({str(Path(p).parent) for p in project_files if p.startswith(product) and p.endswith(".py")})


def listed_in(readme: str) -> list[str]:
    """The names in the first column of a README's tables: `| `name` | what it holds |`."""
    return re.findall(r"^\| `([^`]+)` \|", readme, re.MULTILINE)


def test_each_rooms_readme_lists_its_files(project_files: list[str]) -> None:
    problems: list[str] = []
    for room in rooms(project_files):
        below = [Path(p).relative_to(room) for p in project_files if p.startswith(f"{room}/")]
        expected = {path.name if len(path.parts) == 1 else f"{path.parts[0]}/" for path in below}
        expected -= {"README.md", "__init__.py"}
        readme = ROOT / room / "README.md"
        listed = listed_in(readme.read_text(encoding="utf-8")) if readme.exists() else []
        problems += [f"{room}/README.md has no row for {name}" for name in sorted(expected - set(listed))]
        problems += [f"{room}/README.md lists {name}, which does not exist" for name in sorted(set(listed) - expected)]
        problems += [
            f"{room}/README.md lists {name} twice" for name in sorted({n for n in listed if listed.count(n) > 1})
        ]
    assert not problems, "\n  ".join(["READMEs and folders differ:", *problems])


def test_rooms_stay_small(project_files: list[str]) -> None:
    code = [str(Path(p).parent) for p in project_files if p.endswith(".py")]
    too_large = [f"{room}: {code.count(room)} files" for room in rooms(project_files) if code.count(room) > MAX_FILES]
    assert not too_large, f"rooms with more than {MAX_FILES} Python files; split them:\n  " + "\n  ".join(too_large)


def test_platform_is_not_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), (
        "platform/__init__.py would shadow Python's module `platform`"
    )


def test_files_stay_small(project_files: list[str]) -> None:
    lengths = {p: len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in project_files if p.endswith(".py")}
    too_long = [f"{path}: {length} lines" for path, length in lengths.items() if length > MAX_LINES]
    assert not too_long, f"files with more than {MAX_LINES} lines; split them:\n  " + "\n  ".join(too_long)


def test_no_module_is_named_like_a_standard_module(project_files: list[str]) -> None:
    modules = {path: Path(path).stem for path in project_files if path.endswith(".py")}
    packages = {path: Path(path).parent.name for path in modules if path.endswith("/__init__.py")}
    names = modules | packages
    clashes = [f"{path}: {name}" for path, name in names.items() if name in sys.stdlib_module_names]
    assert not clashes, "named like a module of the standard library:\n  " + "\n  ".join(clashes)


def heavy_after_importing(modules: list[str]) -> str:
    """The modules of HEAVY that a new interpreter has loaded after importing `modules`, as the text of a list."""
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
    folder = ROOT / "platform"
    paths = sorted((folder / "tuneyard").rglob("[!_]*.py"))
    library = [".".join(path.relative_to(folder).with_suffix("").parts) for path in paths]
    assert "tuneyard.core.command" in library
    assert "tuneyard.checkpoints.layout.gpt_oss" in library
    assert heavy_after_importing(["tuneyard", *library]) == "[]"


# Fails while a placeholder FIG_… stands for a figure that is not measured yet.
@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md"])
def test_no_figure_is_missing(document: str) -> None:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    missing = [
        f"{document}:{number}: {m}" for number, line in enumerate(lines, 1) for m in re.findall(r"FIG_\w+", line)
    ]
    assert not missing, "measure and fill in:\n  " + "\n  ".join(missing)
