"""The clients that are tried, each with its package, its environment and the route that it uses."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Ability = Literal["chat", "stream", "tools", "structured"]
ABILITIES: tuple[Ability, ...] = ("chat", "stream", "tools", "structured")
Route = Literal["chat", "responses"]
ROUTE_PATHS: dict[Route, str] = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}

FOLDER = Path(__file__).parent
JAVASCRIPT = "js"
"""The environment of npm's packages; the others are Python environments."""
INSTALLED = FOLDER.parents[1] / ".clients"
"""Where `make test-clients` installs the environments, each in a folder of its name."""


@dataclass(frozen=True)
class Client:
    """A client, as one row of the guide's table for each of its routes."""

    name: str
    package: str
    """Its name at PyPI or npm."""
    environment: str
    """The folder in INSTALLED: JAVASCRIPT, or the name of a file of requirements in environments/."""
    script: str = ""
    """The file in python_scripts/ or js_scripts/; "" for a coding agent."""
    routes: tuple[Route, ...] = ("chat", "responses")
    provider: str = ""
    """The variable PROVIDER of its script."""
    needs_storage: bool = False
    """Whether it refers to stored items, unless it is told otherwise."""

    @property
    def pinned_version(self) -> str:
        """The version that `make test-clients` installs."""
        if self.environment == JAVASCRIPT:
            package = json.loads((FOLDER / "js_scripts" / "package.json").read_text(encoding="utf-8"))
            return str(package["dependencies"][self.package])
        pins = (FOLDER / "environments" / f"{self.environment}.txt").read_text(encoding="utf-8")
        found = re.search(rf"^{re.escape(self.package)}==(\S+)$", pins, re.MULTILINE)
        assert found is not None, f"{self.package} is not pinned in environments/{self.environment}.txt"
        return found[1]

    @property
    def installed_version(self) -> str:
        """The version in the environment."""
        if self.environment == JAVASCRIPT:
            path = INSTALLED / JAVASCRIPT / "node_modules" / self.package / "package.json"
            return str(json.loads(path.read_text(encoding="utf-8"))["version"])
        packages = INSTALLED / self.environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        (found,) = metadata.distributions(name=self.package, path=[str(packages)])
        return found.version

    def command(self) -> list[str]:
        """The command that runs its script."""
        if self.environment == JAVASCRIPT:
            return [str(INSTALLED / "node" / "bin" / "node"), str(INSTALLED / JAVASCRIPT / self.script)]
        python = INSTALLED / self.environment / "bin" / "python"
        return [str(python), str(FOLDER / "python_scripts" / self.script)]


def _ai_sdk(package: str, provider: str, *, note: str = "", **more: Any) -> Client:
    return Client(
        f"AI SDK, `@ai-sdk/{package}`{note}", f"@ai-sdk/{package}", JAVASCRIPT, "ai_sdk.mjs", provider=provider, **more
    )


LIBRARIES = (
    Client("openai-python", "openai", "openai3", "openai_python.py"),
    Client("openai-node", "openai", JAVASCRIPT, "openai_node.mjs"),
    _ai_sdk("openai", "openai", routes=("chat",)),
    _ai_sdk("openai", "openai", routes=("responses",), needs_storage=True),
    _ai_sdk("openai", "openai-stateless", routes=("responses",), note=", `store: false`"),
    _ai_sdk("openai-compatible", "openai-compatible", routes=("chat",)),
    Client("LangChain", "langchain-openai", "openai3", "langchain_python.py"),
    Client("LangChain.js", "@langchain/openai", JAVASCRIPT, "langchain_js.mjs"),
    Client("LiteLLM", "litellm", "openai2", "litellm_python.py"),
    Client("LlamaIndex, `OpenAILike`", "llama-index-llms-openai-like", "openai2", "llamaindex_python.py", ("chat",)),
    Client(
        "LlamaIndex, `OpenAIResponses`", "llama-index-llms-openai", "openai2", "llamaindex_python.py", ("responses",)
    ),
    Client("pydantic-ai", "pydantic-ai-slim", "openai3", "pydantic_ai_python.py"),
    Client("instructor", "instructor", "openai2", "instructor_python.py"),
    Client("OpenAI Agents SDK, Python", "openai-agents", "agents", "openai_agents_python.py"),
    Client("OpenAI Agents SDK, JavaScript", "@openai/agents", JAVASCRIPT, "openai_agents_js.mjs"),
)
OPENCODE = Client("OpenCode", "opencode-ai", JAVASCRIPT, routes=("chat",))
QWEN_CODE = Client("Qwen Code", "@qwen-code/qwen-code", JAVASCRIPT, routes=("chat",))
CODEX = Client("Codex CLI", "@openai/codex", JAVASCRIPT, routes=("responses",))
AGENTS = (OPENCODE, QWEN_CODE, CODEX)
CLIENTS = LIBRARIES + AGENTS
