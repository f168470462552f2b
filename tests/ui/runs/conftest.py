"""The Runs page over the routes of a real registry."""

from __future__ import annotations

from tests.serve_apps.platform_app.runs.conftest import both, world

__all__ = ["both", "world"]
