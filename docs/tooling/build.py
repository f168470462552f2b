"""Builds the documentation site: generated pages, Zensical, plain Markdown, link check.

python -m docs.tooling.build            builds into site/; fails on a broken link
python -m docs.tooling.build --serve    then serves it, and builds a page again when it changes
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from docs.tooling.navigation import CONFIG_NAME
from docs.tooling.plain_pages import write_plain_pages
from docs.tooling.reference import write_reference
from docs.tooling.site_check import check_site

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_ADDRESS = "127.0.0.1:8008"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def build_site(root: Path) -> list[str]:
    """Builds `root`/site from `root`/docs; returns the problems found, one a line."""
    site = root / "site"
    shutil.rmtree(site, ignore_errors=True)
    write_reference(root / "docs" / "reference")
    warnings = run_zensical(root)
    if not site.is_dir():
        return warnings
    write_plain_pages(root, site)
    return warnings + check_site(site)


def run_zensical(root: Path) -> list[str]:
    """Runs Zensical in its strict mode; returns what it prints when it fails."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", CONFIG_NAME]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return []
    # Its traceback says nothing that the warnings before it do not.
    output = ANSI.sub("", run.stdout + run.stderr).split("Traceback (most recent call last)")[0]
    return [output.strip() or ANSI.sub("", run.stderr).strip()]


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 when the site has problems."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.tooling.build",
        description="Build the documentation site into site/ and check every link.",
    )
    parser.add_argument("--serve", action="store_true", help="serve the site until Ctrl-C, with live reload")
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help="where --serve listens (default: %(default)s)")
    arguments = parser.parse_args(argv)
    problems = build_site(ROOT)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(
        f"site/: {'1 problem' if len(problems) == 1 else f'{len(problems)} problems' if problems else 'OK'}", flush=True
    )
    if arguments.serve:
        return serve_site(ROOT, arguments.address)
    return 1 if problems else 0


def serve_site(root: Path, address: str) -> int:
    """Serves the site until Ctrl-C. Reference, llms.txt and plain Markdown stay as they were at the start."""
    site = root / "site"
    # Zensical empties the folder before it builds, so the plain pages are written again after that.
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "serve", "--config-file", CONFIG_NAME, "--dev-addr", address]
    with subprocess.Popen(command, cwd=root) as server:
        try:
            while server.poll() is None and not (site / "search.json").exists():
                time.sleep(0.1)
            if server.poll() is None:
                write_plain_pages(root, site)
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return 0


if __name__ == "__main__":
    sys.exit(main())
