"""`hf download` in the guide, manifests and messages: in a form that all versions of huggingface_hub read alike."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r'hf download ([^\s`-]\S* .*?--local-dir [^\s`,"]+)')


def download_commands() -> list[tuple[str, list[str]]]:
    files = [*ROOT.glob("docs/*.md"), *ROOT.glob("README.md")]
    files += [path for folder in ("platform", "serve_apps", "jobs") for path in ROOT.glob(f"{folder}/**/*.*")]
    texts = [(path, path.read_text(encoding="utf-8")) for path in files if path.suffix in (".md", ".py", ".yaml")]
    return [
        (str(path.relative_to(ROOT)), shlex.split(arguments))
        for path, text in texts
        for arguments in COMMAND.findall(text)
    ]


def test_each_option_of_hf_download_has_one_value() -> None:
    """From huggingface_hub 1.0 a second value of --exclude is the name of a file, the only one that is downloaded.

    Before 1.0 a second --exclude replaces the first. So each command has one pattern.
    """
    commands = download_commands()
    assert len({file for file, _ in commands}) >= 5
    for file, (_model, *options) in commands:
        assert len(options) % 2 == 0, file
        assert all(name.startswith("--") for name in options[::2]), file
        patterns = [value for name, value in zip(options[::2], options[1::2], strict=True) if name == "--exclude"]
        if patterns:
            (pattern,) = patterns
            assert fnmatch("original/model.safetensors", pattern), file
            assert fnmatch("metal/model.bin", pattern), file
            assert not fnmatch("model-00000-of-00002.safetensors", pattern), file
