"""VoteFile: votes kept in a file on the page's machine, one JSON object a line, for endpoints that keep none."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from tuneyard.api.votes.pair_tallies import ballot_of, summarize_pairs
from tuneyard.api.votes.training_rows import corrected_chat, preference_rows
from tuneyard.api.wire.platform_api.votes import (
    Correction,
    CorrectionRequest,
    DeletedVote,
    Vote,
    VoteRequest,
    VoteSummary,
)
from ui.compare.votes.keeper import ExportForm, VotesError

Record = TypeVar("Record", Vote, Correction)
_KINDS: dict[str, type[Vote] | type[Correction] | type[DeletedVote]] = {
    "vote": Vote,
    "vote.correction": Correction,
    "vote.deleted": DeletedVote,
}


class VoteFile:
    """See VoteKeeper. Lines are only added, a deletion is a line too. Every visitor of the page sees all votes.

    Several pages may share the file. It is readable by its owner only: it holds conversations.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now

    async def create_vote(self, vote: VoteRequest, idempotency_key: str, key: str | None) -> Vote:  # noqa: ARG002
        """See VoteKeeper."""
        fields = {**vote.model_dump(exclude_none=True), "id": f"vote_{idempotency_key}", "created_at": int(self._now())}
        return await asyncio.to_thread(self._add, Vote.model_validate(fields))

    async def create_correction(
        self, correction: CorrectionRequest, idempotency_key: str, key: str | None  # noqa: ARG002
    ) -> Correction:  # fmt: skip
        """See VoteKeeper."""
        record_id = f"correction_{idempotency_key}"
        fields = {**correction.model_dump(exclude_none=True), "id": record_id, "created_at": int(self._now())}
        return await asyncio.to_thread(self._add, Correction.model_validate(fields))

    async def delete_vote(self, vote_id: str, key: str | None) -> None:  # noqa: ARG002
        """See VoteKeeper."""
        await asyncio.to_thread(self._delete, vote_id)

    async def summarize(self, key: str | None) -> VoteSummary:  # noqa: ARG002
        """See VoteKeeper."""
        votes, corrections = await asyncio.to_thread(self._read)
        blind = [vote for vote in votes.values() if vote.blind]
        return VoteSummary(
            votes=len(votes),
            blind_votes=len(blind),
            preference_rows=sum(len(preference_rows(vote)) for vote in votes.values()),
            corrections=len(corrections),
            pairs=summarize_pairs(map(ballot_of, blind)),
        )

    async def export(self, form: ExportForm, key: str | None) -> str:  # noqa: ARG002
        """See VoteKeeper."""
        votes, corrections = await asyncio.to_thread(self._read)
        rows = (
            [row for vote in votes.values() for row in preference_rows(vote)]
            if form == "preferences"
            else [corrected_chat(correction) for correction in corrections.values()]
        )
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def _add(self, record: Record) -> Record:
        with self._locked():
            votes, corrections = self._read()
            known: dict[str, Any] = votes if isinstance(record, Vote) else corrections
            if record.id in known:
                kept: Record = known[record.id]
                return kept
            self._append(record.model_dump_json(exclude_none=True))
        return record

    def _delete(self, vote_id: str) -> None:
        with self._locked():
            if vote_id not in self._read()[0]:
                raise VotesError(f"{self._path.name} has no vote {vote_id}: it was deleted before.")
            self._append(DeletedVote(id=vote_id, object="vote.deleted").model_dump_json())

    def _locked(self) -> FileLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self._path}.lock", mode=0o600)

    def _append(self, line: str) -> None:
        """Adds a line that is on the disk when this returns. An incomplete last line was never confirmed: it goes."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                content = file.read()
                file.seek(content.rfind(b"\n") + 1)
                file.truncate()
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as e:
            raise VotesError(f"The vote cannot be written to {self._path}: {e.strerror or e}.") from e

    def _read(self) -> tuple[dict[str, Vote], dict[str, Correction]]:
        """Votes and corrections by their ids, in the order of the file."""
        votes: dict[str, Vote] = {}
        corrections: dict[str, Correction] = {}
        for number, line in enumerate(self._lines(), start=1):
            match self._parse(line, number):
                case Vote() as vote:
                    votes[vote.id] = vote
                case Correction() as correction:
                    corrections[correction.id] = correction
                case DeletedVote(id=vote_id):
                    votes.pop(vote_id, None)
        return votes, corrections

    def _lines(self) -> list[bytes]:
        """The complete lines."""
        try:
            return self._path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as e:
            raise VotesError(f"The votes in {self._path} cannot be read: {e.strerror or e}.") from e

    def _parse(self, line: bytes, number: int) -> Vote | Correction | DeletedVote:
        try:
            kind = _KINDS[json.loads(line)["object"]]
            return kind.model_validate_json(line)
        except (ValueError, KeyError, TypeError, ValidationError) as e:
            raise VotesError(
                f"{self._path}:{number} is no vote of this release. Correct or remove the line; the page then goes on."
            ) from e
