"""What is refused of loaded tasks before a model is asked: what cannot be asked here, and metrics that are missing."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from lm_eval.api.task import ConfigurableTask

from tuneyard.core.errors import ConfigError, DatasetError, MissingDependencyError, TuneyardError

GENERATION = "generate_until"
"""The output type of tasks that compare a generated answer. All others compare log-probabilities of given texts."""

logger = logging.getLogger(__name__)


def check_task(task: Any, *, download: bool) -> None:
    """Raises ConfigError for a task that cannot be asked here, DatasetError when one of its metrics is not on this
    machine, and MissingDependencyError when a metric needs a package."""
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(
            f"The task {task.task_name} runs code that the model writes, and is not run here. Run lm_eval "
            "itself with --confirm_run_unsafe_code, in a sandbox: docs/the-api.md says how it asks a model."
        )
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"The task {task.task_name} has images or audio, and the models read only text.")
    if task.OUTPUT_TYPE != GENERATION:
        return  # lm_eval calculates these metrics itself
    for metric in _metrics_not_loaded(task):
        _raise_reason(task.task_name, metric, download=download)
    _try_scoring(task, download=download)


def refused_hosts(name: str, hosts: Iterable[str]) -> DatasetError:
    """The error of a task whose own code tried to reach these hosts."""
    return DatasetError(
        f"The task {name}: its code tries to reach {', '.join(hosts)}, such as for data of its metrics. --download "
        "allows that. Without a network: put what it fetches where it looks first (data of NLTK: a folder of "
        "NLTK_DATA)."
    )


def missing_metric(name: str, error: Exception, *, download: bool) -> TuneyardError | None:
    """What is said of a metric of Hugging Face's `evaluate`, or of data, that `error` says is missing; None for
    another error."""
    metric = re.search(r"Module '([^']+)' doesn't exist on the Hugging Face Hub", str(error))
    if metric:
        return _missing_module(name, metric[1], error, download=download)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package, dot, _ = error.name.partition(".")
        if dot and importlib.util.find_spec(package):
            return MissingDependencyError(f"The task {name} needs {error.name}, which the installed {package} lacks.")
        return MissingDependencyError(f"The task {name} needs the package {package}: pip install {package}")
    if isinstance(error, ImportError) and "you need to install" in str(error):  # `evaluate`, of a metric's packages
        return MissingDependencyError(f"The task {name}: {error}")
    # NLTK raises a plain LookupError, whose text says how to bring its data; KeyError and IndexError are others.
    if isinstance(error, ConnectionError) or type(error) is LookupError:
        advice = "" if download else " --download fetches it."
        return DatasetError(f"The task {name}: something that it needs is not on this machine: {error}.{advice}")
    return None


def _metrics_not_loaded(task: Any) -> list[str]:
    """lm_eval only logs that it did not find a metric, and fails when it scores."""
    is_scored_by_lm_eval = type(task).process_results is ConfigurableTask.process_results
    if not is_scored_by_lm_eval or task.config.process_results is not None:
        return []
    return [name for name, function in task._metric_fn_list.items() if function is None]


def _raise_reason(name: str, metric: str, *, download: bool) -> NoReturn:
    """Loads the metric again, as lm_eval hides why that failed."""
    try:
        import evaluate

        evaluate.load(metric)
    except Exception as e:
        # A metric is Python from the Hub, so it can fail with any exception.
        raise missing_metric(name, e, download=download) or ConfigError(
            f"The task {name}: its metric {metric} cannot be loaded: {type(e).__name__}: {e}"
        ) from e
    raise ConfigError(f"The task {name}: lm_eval could not load its metric {metric}, which can be now. Try again.")


def _missing_module(name: str, metric: str, error: Exception, *, download: bool) -> DatasetError:
    if download:
        return DatasetError(
            f"The task {name}: its metric {metric} cannot be fetched from the Hugging Face Hub: {error}"
        )
    import evaluate

    folder = f"{evaluate.config.HF_MODULES_CACHE}/evaluate_modules/metrics"
    return DatasetError(
        f"The task {name}: its metric {metric} is neither one of lm_eval nor on this machine. It was looked for in "
        f"{folder}. --download fetches it from the Hugging Face Hub; it is Python, which is run. Without a network: "
        f"run `evaluate.load({metric!r})` in Python on a machine that has one, and copy evaluate-metric--{metric} "
        "from its folder into this one."
    )


def _try_scoring(task: Any, *, download: bool) -> None:
    """Scores an empty answer, because many tasks load their metrics only when they score.

    With --download, this is also where such metrics are fetched.
    """
    try:
        rows = task.eval_docs
        if not len(rows):
            return
        values = task.process_results(rows[0], [""])
        aggregations = task.aggregation()
        for metric, value in values.items():
            if aggregations.get(metric) is not None:
                aggregations[metric]([value])
    except Exception as e:
        missing = missing_metric(task.task_name, e, download=download)
        if missing is not None:
            raise missing from e
        # The code of a task may not be able to score an empty answer; that says nothing of real ones.
        logger.debug("%s: an empty answer cannot be scored: %r", task.task_name, e)
