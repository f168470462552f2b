"""Reads lists in pages. Each object is on one page, whatever is created and deleted while the pages are read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Row, Select

from serve_apps.platform_app.store.object_ids import is_id
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.core.errors import RequestError


def read_page(
    connection: Connection, query: Select[Any], ids: Column[str], prefix: str, page: PageQuery
) -> tuple[list[Row[Any]], bool]:
    """The rows of `query` on the page, and whether more follow. `ids` is the column of the ids, which begin so.

    `query` has the conditions of owner and filters, and no order. The object that `page.after` names may have been
    deleted: its id says where it was. Raises RequestError if it is no such id.
    """
    if page.after is not None:
        if not is_id(page.after, prefix):
            raise RequestError(
                f"Invalid value for 'after': {page.after!r} is not the id of an object of this list. Send the last_id "
                "of the page before.",
                param="after",
                code="invalid_value",
            )
        query = query.where(ids > page.after if page.order == "asc" else ids < page.after)
    ordered = query.order_by(ids.asc() if page.order == "asc" else ids.desc()).limit(page.limit + 1)
    rows = list(connection.execute(ordered))
    return rows[: page.limit], len(rows) > page.limit
