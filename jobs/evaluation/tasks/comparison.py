"""Compares models on tasks: loads the tasks, asks each model, prints a table, and writes the scores as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jobs.evaluation.row_choice import spread_rows
from jobs.evaluation.served_model import Endpoint
from jobs.evaluation.tasks.scores import Form, ModelScores, TaskScore, task_scores, task_table
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.references import resolve_checkpoint
from tuneyard.checkpoints.safety.hub_access import disable_hub_access
from tuneyard.core.errors import ConfigError, EngineError, MissingDependencyError

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

    from jobs.evaluation.tasks.task_loading import NamedTask

MAX_TOKENS = 1024
"""Per generated answer, reasoning included, where neither the command nor the task gives a limit."""


class Model(Protocol):
    """A model that can be asked."""

    name: str

    def open(self, form: Form, *, scores_texts: bool) -> Any:
        """lm_eval's object of the model, for tasks of one form."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Which tasks are asked, and how."""

    names: tuple[str, ...]
    folder: Path | None = None
    """A person's own task files."""
    as_text: bool = False
    """Also tasks that compare a generated answer are asked as plain text, not as chats."""
    fewshot: int | None = None
    """Solved examples before each question; None: each task's own number."""
    limit: int | None = None
    """Largest number of rows of each task, spread evenly over it; None: all."""
    max_tokens: int | None = None
    """Limit of each generated answer; None: each task's own, else MAX_TOKENS."""
    tokenizer: str | None = None
    """Reference of a checkpoint with the served models' tokenizer."""
    download: bool = False
    """Fetch data that is missing from the Hugging Face Hub."""


def compare_on_tasks(
    models: Sequence[str], checkpoints: Sequence[str], settings: TaskSettings, json_path: Path | None
) -> None:
    """Asks served models (`MODEL=BASE_URL`) and checkpoints the tasks, and prints how each scores.

    Raises MissingDependencyError without lm_eval, ConfigError, DatasetError, RegistryError and CheckpointError for what
    is missing or wrong, and EngineError when a served model does not answer.
    """
    _check_options(settings, json_path)
    endpoints = [Endpoint.parse(text) for text in models]
    _check_installed()
    from jobs.evaluation.tasks.task_loading import load_tasks

    tasks, manager = load_tasks(settings.names, settings.folder, download=settings.download)
    by_form = _sorted_by_form(tasks, as_text=settings.as_text)
    # What comes after this loads models, and fetches nothing.
    disable_hub_access()
    models_left = _models(endpoints, checkpoints, by_form, settings)
    _print_fixed_examples(tasks, settings.fewshot)
    scores: list[ModelScores] = []
    try:
        while models_left:
            # Taken off the list, so that a checkpoint's memory is free before the next one is loaded.
            _measure(models_left.pop(0), by_form, manager, settings, scores, json_path)
    finally:
        if scores:
            print(task_table(scores), flush=True)


def _check_options(settings: TaskSettings, json_path: Path | None) -> None:
    """Raises ConfigError for a value that would be found wrong only after a model was loaded or asked."""
    for option, value, least in (
        ("--limit", settings.limit, 1),
        ("--max-tokens", settings.max_tokens, 1),
        ("--fewshot", settings.fewshot, 0),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{option} {value}: must be at least {least}.")
    if not settings.names:
        raise ConfigError("--tasks: names no task.")
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise ConfigError(f"--json {json_path}: there is no folder {json_path.absolute().parent}.")


def _check_installed() -> None:
    try:
        import lm_eval  # noqa: F401  # only whether it is there
    except ModuleNotFoundError as e:
        if e.name != "lm_eval":
            raise
        raise MissingDependencyError(
            "--tasks needs the package lm_eval (lm-evaluation-harness): pip install 'tuneyard[lm-eval]'"
        ) from e


def _sorted_by_form(tasks: Sequence[NamedTask], *, as_text: bool) -> dict[Form, list[NamedTask]]:
    """Tasks whose answers are generated are asked as chats, those that score given texts as text.

    Raises ConfigError for a group of both kinds, whose score needs one form, and for a task that begins the answer.
    """
    by_form: dict[Form, list[NamedTask]] = {"text": [], "chat": []}
    for named in tasks:
        if as_text or True not in named.kinds:
            by_form["text"].append(named)
            continue
        if False in named.kinds:
            raise ConfigError(
                f"--tasks {named.name}: some of its tasks compare generated answers, others score given texts. Name "
                "its tasks one by one, or give --as-text."
            )
        for task in named.tasks:
            if task.get_config("gen_prefix"):
                raise ConfigError(
                    f"The task {task.task_name} begins the model's answer (gen_prefix), which a chat cannot. Give "
                    "--as-text to ask it as plain text."
                )
        by_form["chat"].append(named)
    return by_form


def _models(
    endpoints: Sequence[Endpoint],
    checkpoints: Sequence[str],
    by_form: dict[Form, list[NamedTask]],
    settings: TaskSettings,
) -> list[Model]:
    max_tokens = settings.max_tokens or MAX_TOKENS
    models: list[Model] = []
    if endpoints:
        from jobs.evaluation.tasks.served_model import ServedModel

        scored = [named.name for named in by_form["text"] if False in named.kinds]
        if scored and settings.tokenizer is None:
            raise ConfigError(
                f"--tasks {', '.join(scored)}: the texts are scored token by token, which needs the served model's "
                "tokenizer. Give its checkpoint: --tokenizer FOLDER, or name@alias of the registry."
            )
        tokenizer = local_folder(resolve_checkpoint(settings.tokenizer), weights=False) if settings.tokenizer else None
        models += [ServedModel(endpoint, tokenizer, max_tokens) for endpoint in endpoints]
    if checkpoints:
        from jobs.evaluation.tasks.checkpoint_model import CheckpointModel

        folders = [local_folder(resolve_checkpoint(checkpoint)) for checkpoint in checkpoints]
        models += [CheckpointModel(*pair, max_tokens) for pair in zip(checkpoints, folders, strict=True)]
    return models


def _print_fixed_examples(tasks: Sequence[NamedTask], fewshot: int | None) -> None:
    """Says which tasks take no solved examples: lm_eval keeps a task's own 0, whatever it is given."""
    fixed = [task.task_name for named in tasks for task in named.tasks if task.get_config("num_fewshot") == 0]
    if fewshot and fixed:
        print(
            f"--fewshot {fewshot} does not count for {', '.join(fixed)}: the task's own file says num_fewshot: 0.",
            flush=True,
        )


def _measure(
    model: Model,
    by_form: dict[Form, list[NamedTask]],
    manager: TaskManager,
    settings: TaskSettings,
    scores: list[ModelScores],
    json_path: Path | None,
) -> None:
    """Adds the model to `scores`, and writes the file, when the tasks of its first form are scored, and after each."""
    finished: tuple[TaskScore, ...] = ()
    earlier = list(scores)
    for form, tasks in by_form.items():
        if not tasks:
            continue
        finished += tuple(_ask(model, form, tasks, manager, settings))
        scores[:] = [*earlier, ModelScores(model.name, metadata.version("lm_eval"), finished)]
        if json_path is not None:
            text = json.dumps([asdict(score) for score in scores], indent=1, ensure_ascii=False, default=str)
            json_path.write_text(text, encoding="utf-8")


def _ask(
    model: Model, form: Form, tasks: Sequence[NamedTask], manager: TaskManager, settings: TaskSettings
) -> list[TaskScore]:
    import aiohttp
    import lm_eval

    opened = model.open(form, scores_texts=any(False in named.kinds for named in tasks))
    try:
        results = lm_eval.simple_evaluate(
            model=opened,
            tasks=[part for named in tasks for part in named.parts],
            num_fewshot=settings.fewshot,
            samples=_chosen_rows(tasks, settings.limit),
            gen_kwargs={"max_gen_toks": settings.max_tokens} if settings.max_tokens else None,
            apply_chat_template=form == "chat",
            fewshot_as_multiturn=form == "chat",
            task_manager=manager,
        )
    except (aiohttp.ClientError, TimeoutError) as e:
        raise EngineError(f"{model.name} stopped answering: {e or type(e).__name__}") from e
    return task_scores(results, form)


def _chosen_rows(tasks: Sequence[NamedTask], limit: int | None) -> dict[str, list[int]] | None:
    """The numbers of the rows to ask, by the name of the task; None for all."""
    if limit is None:
        return None
    return {task.task_name: spread_rows(len(task.eval_docs), limit) for named in tasks for task in named.tasks}
