"""StoredResponses: reads, deletes and cancels stored responses, and gives requests their history."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from serve_apps.api.responses.lease_keeper import LeaseKeeper
from serve_apps.api.responses.store import ResponseStore, StoredItem, StoredResponse
from serve_apps.api.responses.stored_items import parse_items
from serve_apps.http_front.body_limits import check_item_count, check_total_characters, text_length
from tuneyard.api.wire.responses.answer import DeletedResponse, ItemList
from tuneyard.api.wire.responses.items import InputItem, ItemReference
from tuneyard.api.wire.responses.queries import ItemPage
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError, ResponseNotFoundError, StoreUnavailableError


class StoredResponses:
    """What a deployment has stored; without a `store`, every use is refused with the setting to change.

    `owner` is the digest of the request's API key, "" where none is needed.
    """

    def __init__(self, store: ResponseStore | None) -> None:
        self._store = store
        self._leases = LeaseKeeper(store) if store is not None else None

    def keeps(self, request: ResponsesRequest) -> bool:
        """Whether the response to the request is stored. Raises RequestError if it must be and cannot."""
        if request.store and self._store is None:
            raise _no_storage("store: true", "store")
        return self._store is not None and request.store is not False

    @property
    def store(self) -> ResponseStore:
        """The store. Raises RequestError if there is none."""
        if self._store is None:
            raise _no_storage("A stored response", None)
        return self._store

    @property
    def leases(self) -> LeaseKeeper:
        """Keeps the leases of this process. Raises RequestError if there is no store."""
        if self._leases is None:
            raise _no_storage("A stored response", None)
        return self._leases

    async def prepare(self) -> None:
        """Connects to the store and deletes what is too old. A store that does not answer now is used later."""
        if self._store is not None:
            with contextlib.suppress(StoreUnavailableError):  # the log has the reason
                await self._store.database.run(self._store.delete_expired)

    def close(self) -> None:
        """Closes the store's connections."""
        if self._store is not None:
            self._store.close()

    async def history_of(self, owner: str, request: ResponsesRequest) -> list[StoredItem]:
        """The items before the request's input: input and output of its previous response.

        Raises RequestError, 404 for an unknown response.
        """
        if (previous := request.previous_response_id) is None:
            return []
        if self._store is None:
            raise _no_storage("previous_response_id", "previous_response_id")
        found = await self._find(owner, previous, "previous_response_id")
        if not found.is_final:
            raise RequestError(
                f"The response {previous!r} is still being answered. Continue it when it has ended.",
                param="previous_response_id",
            )
        return await self._store.database.run(self._store.items_of, owner, previous, with_output=True)

    async def resolve_references(self, owner: str, items: Sequence[InputItem], limits: HttpLimits) -> list[InputItem]:
        """The items, with each reference replaced by the stored item, which is read once for all its references.

        Raises RequestError, 404 for an unknown item, and as soon as the items that are referred to exceed the limits.
        """
        resolved: list[InputItem] = []
        known: dict[str, tuple[InputItem, int]] = {}
        characters = 0
        for index, item in enumerate(items):
            if not isinstance(item, ItemReference):
                resolved.append(item)
                continue
            if self._store is None:
                raise _no_storage("An item_reference", f"input.{index}")
            if item.id not in known:
                found = await self._store.database.run(self._store.find_item, owner, item.id)
                if found is None:
                    raise ResponseNotFoundError(
                        f"No item with the id {item.id!r} is stored.", param=f"input.{index}.id"
                    )
                known[item.id] = (parse_items([found])[0], text_length(found.content))
            stored, length = known[item.id]
            characters += length
            resolved.append(stored)
            check_total_characters(characters, limits)
            check_item_count("input", len(resolved), limits)
        return resolved

    async def retrieve(self, owner: str, response_id: str) -> dict[str, Any]:
        """The response as it was answered. Raises ResponseNotFoundError."""
        return (await self._find(owner, response_id)).content

    async def delete(self, owner: str, response_id: str) -> DeletedResponse:
        """Deletes the response. Raises ResponseNotFoundError."""
        if not await self.store.database.run(self.store.delete, owner, response_id):
            raise _not_found(response_id, None)
        return DeletedResponse(id=response_id)

    async def cancel(self, owner: str, response_id: str) -> dict[str, Any]:
        """Ends the answering of the response, on whichever replica; a response that has ended stays as it is.

        Raises ResponseNotFoundError.
        """
        found = await self._find(owner, response_id)
        if found.is_final:
            return found.content
        await self.store.database.run(self.store.cancel, owner, response_id)
        return found.content | {"status": "cancelled"}

    async def list_input(self, owner: str, response_id: str, page: ItemPage) -> ItemList:
        """A page of the response's input items. Raises ResponseNotFoundError, RequestError for an unknown `after`."""
        await self._find(owner, response_id)
        stored = await self.store.database.run(self.store.items_of, owner, response_id, with_output=False)
        items = [item.content for item in (stored if page.order == "asc" else reversed(stored))]
        if page.after is not None:
            ids = [item["id"] for item in items]
            if page.after not in ids:
                raise RequestError(f"Invalid value for 'after': the response has no item {page.after!r}.", "after")
            items = items[ids.index(page.after) + 1 :]
        data = items[: page.limit]
        return ItemList(
            data=data,
            first_id=data[0]["id"] if data else None,
            last_id=data[-1]["id"] if data else None,
            has_more=len(items) > page.limit,
        )

    async def _find(self, owner: str, response_id: str, param: str | None = None) -> StoredResponse:
        found = await self.store.database.run(self.store.find, owner, response_id)
        if found is None:
            raise _not_found(response_id, param)
        return found


def _not_found(response_id: str, param: str | None) -> ResponseNotFoundError:
    code = "previous_response_not_found" if param else None
    return ResponseNotFoundError(f"No response with the id {response_id!r} is stored.", param=param, code=code)


def _no_storage(what: str, param: str | None) -> RequestError:
    return RequestError(
        f"{what} needs stored responses, and this server stores none. Set `responses.store: true` in its config, or "
        "send the whole conversation as `input`.",
        param=param,
        code="unsupported",
    )
