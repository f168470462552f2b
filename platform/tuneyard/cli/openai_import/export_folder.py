"""ExportFolder: the jobs in a folder of saved answers of OpenAI's API, and the files of their data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tuneyard.core.errors import DatasetError

SavedObject = Mapping[str, Any]

HOW_TO_SAVE = (
    "Save the answers of client.fine_tuning.jobs.list() as JSON or JSONL there; see the page Moving from OpenAI's "
    "fine-tuning."
)


@dataclass(frozen=True)
class ExportFolder:
    """What a folder and the folders in it hold."""

    path: Path
    jobs: Sequence[SavedObject]
    """The objects `fine_tuning.job`, each id once, the oldest first."""
    filenames: Mapping[str, str]
    """By id of a file: its name, where its object `file` is saved too."""
    data: Sequence[Path]
    """All other files."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads `*.json` and `*.jsonl`. Raises DatasetError for what is no JSON, and for a folder without jobs."""
        if not path.is_dir():
            raise DatasetError(f"{path}: no such folder. {HOW_TO_SAVE}")
        jobs: dict[str, SavedObject] = {}
        filenames: dict[str, str] = {}
        data: list[Path] = []
        for file in sorted(found for found in path.rglob("*") if found.is_file()):
            objects = saved_objects(file)
            if objects is None:
                data.append(file)
            for one in objects or ():
                if one["object"] == "file":
                    filenames[one["id"]] = str(one.get("filename"))
                elif one["id"] not in jobs or jobs[one["id"]].get("finished_at") is None:
                    # Of two answers about a job, that in which it has ended is the later one.
                    jobs[one["id"]] = one
        if not jobs:
            raise DatasetError(f"{path}: no JSON or JSONL file here has an object `fine_tuning.job`. {HOW_TO_SAVE}")
        ordered = sorted(jobs.values(), key=lambda job: (_created_at(job), job["id"]))
        return cls(path, ordered, filenames, data)

    def maker_of(self, model: str) -> str | None:
        """The id of the job that made this tuned model at OpenAI; None if it is not here."""
        return next((str(job["id"]) for job in self.jobs if job.get("fine_tuned_model") == model), None)

    def find(self, file_id: str) -> Path:
        """The data that OpenAI knows by this id: a file with the id or with the uploaded name as its name, or one whose
        name begins with the id. Raises DatasetError if there is none, or more than one.
        """
        wanted = self.filenames.get(file_id)
        found = [file for file in self.data if file.stem == file_id or file.name == file_id]
        found = found or [file for file in self.data if file.name.startswith((f"{file_id}.", f"{file_id}-"))]
        found = found or [file for file in self.data if file.name == wanted]
        if len(found) == 1:
            return found[0]
        known = f" ({wanted})" if wanted is not None else ""
        if found:
            raise DatasetError(
                f"{file_id}{known} may be any of {', '.join(map(str, found))}. Name the right one {file_id}.jsonl."
            )
        raise DatasetError(f"{self.path} has no file {file_id}{known}. Save its content there, as {file_id}.jsonl.")


def saved_objects(path: Path) -> list[SavedObject] | None:
    """The jobs and files in a saved answer: an object, an array, a page, or JSONL of these. None for any other file.

    A JSONL file is judged by its first line. Raises DatasetError for JSON that is broken.
    """
    if path.suffix == ".json":
        content = _decode(path.read_bytes(), str(path))
        found = list(_objects_in(content))
        return found if found or _is_page(content) else None
    if path.suffix != ".jsonl":
        return None
    objects: list[SavedObject] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                content = _decode(line, f"{path}:{number}")
            except DatasetError:
                if not objects:
                    return None
                raise
            found = list(_objects_in(content))
            if not found and not objects:
                return None
            objects += found
    return objects or None


def _objects_in(content: Any) -> Iterator[SavedObject]:
    if _is_page(content):
        content = content["data"]
    for one in content if isinstance(content, list) else [content]:
        is_known = isinstance(one, dict) and one.get("object") in ("fine_tuning.job", "file")
        if is_known and isinstance(one.get("id"), str):
            yield one


def _is_page(content: Any) -> bool:
    return isinstance(content, dict) and content.get("object") == "list" and isinstance(content.get("data"), list)


def _decode(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{place}: no JSON: {e}. Save the answer again.") from e


def _created_at(job: SavedObject) -> float:
    created = job.get("created_at")
    return created if isinstance(created, int | float) else 0.0
