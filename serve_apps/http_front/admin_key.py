"""Routes for administrators only: whether a request has their key."""

from __future__ import annotations

import secrets

from fastapi import Request

from serve_apps.http_front.admission import authorization_header
from tuneyard.core.errors import AdminKeyError


def has_admin_key(request: Request, admin_key: str | None) -> bool:
    """Whether the request carries the administrators' key; never, if there is none."""
    secret = authorization_header(request).removeprefix("Bearer ")
    return admin_key is not None and secrets.compare_digest(secret.encode(), admin_key.encode())


def check_admin_key(request: Request, admin_key: str | None) -> None:
    """Raises AdminKeyError unless the request carries the administrators' key."""
    if not has_admin_key(request, admin_key):
        raise AdminKeyError(
            f"{request.url.path} is for administrators only. Send their key as 'Authorization: Bearer …'. It is the "
            "deployment's TUNEYARD_ADMIN_KEY, or else the content of $TUNEYARD_HOME/admin_key.",
            code="admin_key_required",
        )
