"""Coding agents: their configuration for a Tuneyard server, as docs/clients.md has it, and a run with one prompt."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.clients.client_list import CODEX, INSTALLED, JAVASCRIPT, OPENCODE, QWEN_CODE, Client

SECRET = "pumpernickel"
NOTE = "note.txt"
"""A file in the agent's folder that holds SECRET."""
SCHEMA = {
    "type": "object",
    "properties": {"sunny": {"type": "boolean"}, "wind": {"type": "integer"}},
    "required": ["sunny", "wind"],
    "additionalProperties": False,
}
TIMEOUT_S = 300

CODEX_CONFIG = """\
model = "tiny"
model_provider = "tuneyard"

[model_providers.tuneyard]
name = "Tuneyard"
base_url = "{base_url}"
env_key = "TUNEYARD_API_KEY"
wire_api = "responses"
"""
OPENCODE_CONFIG = """\
{
  "model": "tuneyard/tiny",
  "provider": {
    "tuneyard": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "Tuneyard",
      "options": {"baseURL": "{base_url}", "apiKey": "{env:TUNEYARD_API_KEY}"},
      "models": {"tiny": {"name": "tiny"}}
    }
  }
}
"""


@dataclass(frozen=True)
class AgentFolder:
    """A folder in which an agent works, with the server and the API key that it uses."""

    path: Path
    base_url: str
    api_key: str

    def __post_init__(self) -> None:
        (self.path / NOTE).write_text(f"The secret word is {SECRET}.\n", encoding="utf-8")
        (self.path / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")

    def run(self, program: str, *arguments: str, **environment: str) -> str:
        """The standard output of the program, which has no access to the person's own settings."""
        bin_folder = INSTALLED / JAVASCRIPT / "node_modules" / ".bin"
        path = f"{INSTALLED / 'node' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        home = {"PATH": path, "HOME": str(self.path), "TUNEYARD_API_KEY": self.api_key}
        done = subprocess.run(
            [str(bin_folder / program), *arguments],
            cwd=self.path,
            env=home | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def run_codex(folder: AgentFolder, prompt: str, *, structured: bool = False) -> str:
    """Codex CLI's answer. It may do what it wants in its folder: its sandbox needs rights that containers lack."""
    home = folder.path / ".codex"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CODEX_CONFIG.replace("{base_url}", folder.base_url), encoding="utf-8")
    options = ("--output-schema", "schema.json") if structured else ()
    free = ("--skip-git-repo-check", "--sandbox", "danger-full-access")
    return folder.run("codex", "exec", *free, *options, prompt, CODEX_HOME=str(home))


def run_opencode(folder: AgentFolder, prompt: str, *, structured: bool = False) -> str:
    """OpenCode's answer. It quotes an argument with spaces, so each word is one."""
    assert not structured
    config = OPENCODE_CONFIG.replace("{base_url}", folder.base_url)
    (folder.path / "opencode.json").write_text(config, encoding="utf-8")
    offline = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
    return folder.run("opencode", "run", *prompt.split(), **offline)


def run_qwen_code(folder: AgentFolder, prompt: str, *, structured: bool = False) -> str:
    """Qwen Code's answer."""
    options = ("--json-schema", "@schema.json") if structured else ()
    server = {"OPENAI_API_KEY": folder.api_key, "OPENAI_BASE_URL": folder.base_url, "OPENAI_MODEL": "tiny"}
    return folder.run("qwen", "--auth-type", "openai", "--yolo", *options, "-p", prompt, **server)


@dataclass(frozen=True)
class Agent:
    """A coding agent, and what a prompt must say to make it read a file."""

    client: Client
    run: Callable[..., str]
    read_note: str
    """`{path}` stands for the note's path."""
    structured: str | None
    """The prompt for an answer by SCHEMA; None: not offered."""


AGENTS = (
    Agent(OPENCODE, run_opencode, 'Call read with {"filePath": "{path}"}.', None),
    Agent(
        QWEN_CODE,
        run_qwen_code,
        'Call read_file with {"file_path": "{path}"}.',
        'Call structured_output with {"sunny": true, "wind": 3}.',
    ),
    Agent(CODEX, run_codex, 'Call exec_command with {"cmd": "cat {path}"}.', 'Fill in {"sunny": true, "wind": 3}.'),
)
