"""EndpointVotes: votes kept by the server that answers, under its routes /v1/votes."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
import openai
from pydantic import BaseModel, ValidationError

from tuneyard.api.wire.platform_api.votes import Correction, CorrectionRequest, Vote, VoteRequest, VoteSummary
from ui.compare.votes.keeper import ExportForm, VotesError, VotesNotKeptError
from ui.endpoints.chat_client import ChatClient

TIMEOUT_S = 10.0
EXPORT_TIMEOUT_S = 120.0
NO_SUCH_ROUTE = (404, 405)

Answer = TypeVar("Answer", bound=BaseModel)


class EndpointVotes:
    """See VoteKeeper. Votes go to the first endpoint of the page that has the routes."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self._base_url: str | None = None

    async def create_vote(self, vote: VoteRequest, idempotency_key: str, key: str | None) -> Vote:
        """See VoteKeeper."""
        return await self._create("/votes", vote, Vote, idempotency_key, key)

    async def create_correction(
        self, correction: CorrectionRequest, idempotency_key: str, key: str | None
    ) -> Correction:
        """See VoteKeeper."""
        return await self._create("/votes/corrections", correction, Correction, idempotency_key, key)

    async def delete_vote(self, vote_id: str, key: str | None) -> None:
        """See VoteKeeper."""
        await self._request("delete", await self._find(key), f"/votes/{vote_id}", key)

    async def summarize(self, key: str | None) -> VoteSummary:
        """See VoteKeeper."""
        base_url = await self._find(key)
        return _parse(await self._request("get", base_url, "/votes/summary", key), VoteSummary, base_url)

    async def export(self, form: ExportForm, key: str | None) -> str:
        """See VoteKeeper."""
        path = f"/votes/export?form={form}"
        return (await self._request("get", await self._find(key), path, key, timeout_s=EXPORT_TIMEOUT_S)).text

    async def _create(
        self, path: str, content: BaseModel, kind: type[Answer], idempotency_key: str, key: str | None
    ) -> Answer:
        base_url = await self._find(key)
        body = content.model_dump(exclude_none=True)
        headers = {"Idempotency-Key": idempotency_key}
        return _parse(await self._request("post", base_url, path, key, body=body, headers=headers), kind, base_url)

    async def _find(self, key: str | None) -> str:
        """The base URL of the endpoint that keeps votes. Raises VotesNotKeptError if none does."""
        if self._base_url is None:
            problems = []
            for base_url in self._client.base_urls:
                try:
                    await self._request("get", base_url, "/votes/summary", key)
                except VotesNotKeptError:
                    continue
                except VotesError as e:
                    problems.append(e)
                else:
                    self._base_url = base_url
                    return base_url
            if problems:
                raise problems[0]
            raise VotesNotKeptError(
                f"No votes are kept by {' or '.join(self._client.base_urls)}. Start the page with --votes FILE, or "
                "deploy with a section `platform` in the deployment's config."
            )
        return self._base_url

    async def _request(
        self,
        method: str,
        base_url: str,
        path: str,
        key: str | None,
        *,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> httpx.Response:
        client = self._client.client_of(base_url, key).with_options(timeout=timeout_s)
        send = getattr(client, method)
        arguments: dict[str, Any] = {"cast_to": httpx.Response, "options": {"headers": headers or {}}}
        if body is not None:
            arguments["body"] = body
        try:
            response: httpx.Response = await send(path, **arguments)
        except openai.APIStatusError as e:
            if e.status_code in NO_SUCH_ROUTE and path == "/votes/summary":
                raise VotesNotKeptError(f"{base_url} keeps no votes.") from e
            raise VotesError(_explain(e, base_url)) from e
        except openai.APIError as e:
            raise VotesError(f"Votes cannot be reached: {base_url} does not answer. Try again.") from e
        return response


def _explain(error: openai.APIStatusError, base_url: str) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else None
    reason = str(message) if message else "It gave no reason."
    return f"{base_url} refuses votes (HTTP {error.status_code}): {reason}"


def _parse(response: httpx.Response, kind: type[Answer], base_url: str) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as e:
        raise VotesError(
            f"{base_url}/votes answers in a form that this page does not know. Their releases may differ."
        ) from e
