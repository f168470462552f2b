"""Tasks of lm-evaluation-harness by name, with their data."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from lm_eval.tasks import TaskManager

from jobs.evaluation.tasks.connection_guard import refuse_connections
from jobs.evaluation.tasks.generation_options import normalize_generation
from jobs.evaluation.tasks.task_checks import GENERATION, check_task, missing_metric, refused_hosts
from tuneyard.checkpoints.safety.hub_access import disable_hub_access
from tuneyard.core.errors import ConfigError, DatasetError, TuneyardError


@dataclass(frozen=True, slots=True)
class NamedTask:
    """What a name stands for: a task, a group of tasks with a score of its own, or the tasks with a tag."""

    name: str
    parts: tuple[Any, ...]
    """lm_eval's Task and Group objects, as lm_eval.simple_evaluate takes them."""
    tasks: tuple[Any, ...]
    """Its single tasks."""

    @property
    def kinds(self) -> set[bool]:
        """For its tasks: True if an answer is generated, False if given texts are scored."""
        return {task.OUTPUT_TYPE == GENERATION for task in self.tasks}


def load_tasks(names: Sequence[str], folder: Path | None, *, download: bool) -> tuple[list[NamedTask], TaskManager]:
    """The tasks with these names, of `folder` (files *.yaml of a person's own) and of lm_eval itself; and their index.

    Without `download`, nothing is fetched from the Hugging Face Hub, now or later in this process, and the tasks' own
    code cannot connect to other machines while they are loaded. Raises ConfigError for an unknown name, a broken task
    and one that cannot be asked here, DatasetError when a task's data or metric is not on this machine, and
    MissingDependencyError when a task needs a package.
    """
    if not download:
        disable_hub_access()
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--task-folder {folder}: no such folder.")
    manager = _index(names, folder)
    for name in names:
        if name not in manager.task_index:
            raise ConfigError(_unknown(name, manager, folder))
    loaded = [_load_and_check(name, manager, download=download) for name in dict.fromkeys(names)]
    _check_owners(loaded)
    return loaded, manager


def _load_and_check(name: str, manager: TaskManager, *, download: bool) -> NamedTask:
    if download:
        return _checked(_load(name, manager, download=True), download=True)
    with refuse_connections() as hosts:
        try:
            named = _checked(_load(name, manager, download=False), download=False)
        except TuneyardError as e:
            if hosts:
                raise refused_hosts(name, hosts) from e
            raise
    if hosts:
        # The task's code passed over the error, and would fail only when it scores.
        raise refused_hosts(name, hosts)
    return named


def _checked(named: NamedTask, *, download: bool) -> NamedTask:
    for task in named.tasks:
        check_task(task, download=download)
        if task.OUTPUT_TYPE == GENERATION:
            normalize_generation(task)
    return named


def _index(names: Sequence[str], folder: Path | None) -> TaskManager:
    if folder is None:
        return TaskManager()
    own = TaskManager(include_path=folder, include_defaults=False)
    # Reading lm_eval's own 14,000 files takes many seconds.
    return own if set(names) <= set(own.all_subtasks) else TaskManager(include_path=folder)


def _unknown(name: str, manager: TaskManager, folder: Path | None) -> str:
    close = difflib.get_close_matches(name, manager.all_tasks, n=3, cutoff=0.6)
    text = f"--tasks {name}: there is no such task."
    if close:
        text += f" Did you mean {' or '.join(close)}?"
    if folder is None:
        return f"{text} `lm_eval ls tasks` lists all; --task-folder DIR adds your own."
    own = [key for key, entry in manager.task_index.items() if entry.yaml_path and folder in entry.yaml_path.parents]
    found = f"defines {', '.join(sorted(own))}" if own else "defines none"
    return f"{text} {folder} {found}; files that are not named *.yaml or cannot be read as YAML are passed over."


def _load(name: str, manager: TaskManager, *, download: bool) -> NamedTask:
    try:
        loaded = manager.load([name])
    except Exception as e:
        # A task's files hold code and templates of their own, so they can fail with any exception.
        raise _explanation(name, manager, e, download=download) from e
    tasks = tuple(loaded["tasks"].values())
    if not tasks:
        file = manager.task_index[name].yaml_path
        raise ConfigError(f"--tasks {name}: the group has no tasks. `task` in {file} must be a list of names.")
    groups = loaded.get("groups") or {}
    return NamedTask(name, (groups[name],) if name in groups else tasks, tasks)


def _explanation(name: str, manager: TaskManager, error: Exception, *, download: bool) -> TuneyardError:
    """Why a task cannot be loaded; for a group or a tag, why the first of its tasks that cannot."""
    for child in _children(name, manager):
        try:
            _load(child, manager, download=download)
        except TuneyardError as e:
            return e
    entry = manager.task_index[name]
    config = entry.cfg or {}
    if config.get("dataset_path") and _is_data_missing(error):
        return DatasetError(_missing_data(name, config, error, entry.yaml_path, download=download))
    return missing_metric(name, error, download=download) or ConfigError(
        f"The task {name} ({entry.yaml_path}) cannot be loaded: {type(error).__name__}: {error}"
    )


def _children(name: str, manager: TaskManager) -> Iterator[str]:
    entry = manager.task_index[name]
    members = (entry.cfg or {}).get("task") if name in manager.all_groups else None
    named = [m if isinstance(m, str) else m.get("task") or m.get("group") for m in members or ()]
    if name in manager.all_tags:
        named = sorted(entry.tags)
    yield from (child for child in named if child in manager.task_index)


def _is_data_missing(error: Exception) -> bool:
    # datasets raises a plain ValueError for a dataset of which another config is in its cache.
    is_missing = isinstance(error, (ConnectionError, FileNotFoundError)) or "Couldn't find cache" in str(error)
    return is_missing and "Couldn't find a module script" not in str(error)  # `evaluate`, of a metric


def _missing_data(name: str, config: dict[str, Any], error: Exception, file: Path | None, *, download: bool) -> str:
    path, part = config["dataset_path"], config.get("dataset_name")
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    if files:
        return (
            f"The task {name}: its data is not there: {error}. Correct dataset_kwargs.data_files in {file}; relative "
            f"paths begin at the current folder, {Path.cwd()}."
        )
    dataset = f"{path} ({part})" if part else path
    if download:
        return f"The task {name}: its dataset {dataset} cannot be fetched from the Hugging Face Hub: {error}"
    cache = datasets.config.HF_DATASETS_CACHE
    call = f"datasets.load_dataset({path!r}, {part!r})" if part else f"datasets.load_dataset({path!r})"
    return (
        f"The task {name}: its dataset {dataset} is not on this machine. It was looked for in the datasets cache, "
        f"{cache}. --download fetches it from the Hugging Face Hub. Without a network: run `{call}` in Python on a "
        f"machine that has one, and copy {str(path).replace('/', '___')} from its datasets cache into this one."
    )


def _check_owners(loaded: Sequence[NamedTask]) -> None:
    """Raises ConfigError for a task that two names hold."""
    owner: dict[str, str] = {}
    for named in loaded:
        for task in named.tasks:
            other = owner.setdefault(task.task_name, named.name)
            if other != named.name:
                raise ConfigError(f"--tasks: {task.task_name} is in both {other} and {named.name}. Name one of them.")
