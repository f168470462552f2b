"""The page's own style sheet, program and icon, each one file, named by its content so that browsers keep it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response

ROOT = Path(__file__).parents[1]
SCRIPTS = (
    "theme/browser/page.js",
    "theme/browser/connection.js",
    "chat/browser/store.js",
    "chat/browser/book_list.js",
    "chat/browser/book.js",
    "chat/browser/messages.js",
    "chat/browser/composer.js",
    "compare/browser/compare.js",
)
"""In the order in which they run."""
STYLES = (
    "theme/browser/tokens.css",
    "theme/browser/page.css",
    "theme/browser/composer.css",
    "theme/browser/icons.css",
    "chat/browser/book.css",
    "chat/browser/messages.css",
    "chat/browser/settings.css",
    "compare/browser/compare.css",
    "runs/browser/runs.css",
)
ICON = "theme/browser/favicon.svg"
FOREVER = "public, max-age=31536000, immutable"


class PageAssets:
    """Files by their paths below /page/, and the HTML that loads them."""

    def __init__(self) -> None:
        parts: Mapping[str, tuple[Sequence[str], str]] = {
            "page.js": (SCRIPTS, "text/javascript"),
            "page.css": (STYLES, "text/css"),
            "icon.svg": ((ICON,), "image/svg+xml"),
        }
        self._files: dict[str, tuple[bytes, str]] = {}
        self._paths: dict[str, str] = {}
        for name, (sources, media_type) in parts.items():
            content = b"\n".join((ROOT / source).read_bytes() for source in sources)
            self._paths[name] = f"{hashlib.sha256(content).hexdigest()[:12]}-{name}"
            self._files[self._paths[name]] = content, media_type

    @property
    def head(self) -> str:
        """HTML for the head of a page: colours, icon, style sheet, program."""
        return (
            '<meta name="color-scheme" content="light dark">'
            '<meta name="theme-color" content="#f7faf9" media="(prefers-color-scheme: light)">'
            '<meta name="theme-color" content="#0f1615" media="(prefers-color-scheme: dark)">'
            f'<link rel="icon" type="image/svg+xml" href="page/{self._paths["icon.svg"]}">'
            f'<link rel="stylesheet" href="page/{self._paths["page.css"]}">'
            f'<script defer src="page/{self._paths["page.js"]}"></script>'
        )

    def add_routes(self, app: FastAPI) -> None:
        """Serves the files, and the icon where browsers look for it unasked."""

        @app.get("/page/{name}")
        async def serve(name: str) -> Response:
            if name not in self._files:
                return Response(status_code=404)
            content, media_type = self._files[name]
            return Response(content, media_type=media_type, headers={"Cache-Control": FOREVER})

        @app.get("/favicon.ico")
        async def icon() -> Response:
            content, media_type = self._files[self._paths["icon.svg"]]
            return Response(content, media_type=media_type)
