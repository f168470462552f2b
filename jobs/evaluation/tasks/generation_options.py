"""The options with which a task's answers are generated, in one form for checkpoints and served models."""

from __future__ import annotations

from typing import Any

from lm_eval.defaults import default_gen_kwargs

from tuneyard.core.errors import ConfigError

LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm_eval's names for the longest answer in tokens; the first that is there counts, as in lm_eval."""

GREEDY = {"num_beams": 1}
"""Options that change nothing with these values."""

SAMPLING = ("top_p", "top_k")
"""What else both kinds of model accept; without a temperature they change nothing."""


def normalize_generation(task: Any) -> None:
    """Rewrites a task's generation_kwargs: `until`, at most one limit (`max_gen_toks`), and a temperature if sampled.

    lm_eval would send every other option to a served model as it stands. A task without generation_kwargs has no limit
    afterwards: lm_eval has filled in its own, which are too few for a model that reasons. Raises ConfigError for
    options that not both kinds of model have.
    """
    options: dict[str, Any] = dict(task.config.generation_kwargs or {})
    if options == default_gen_kwargs(task.config.fewshot_delimiter):
        options.pop("max_gen_toks")
    limits = [options.pop(name) for name in LIMITS if options.get(name) is not None]
    result: dict[str, Any] = {"until": options.pop("until", [])}
    if limits:
        result["max_gen_toks"] = int(limits[0])
    result |= _sampling(options)
    foreign = {name: value for name, value in options.items() if name not in GREEDY or value != GREEDY[name]}
    if foreign:
        shown = ", ".join(f"{name}: {value}" for name, value in foreign.items())
        raise ConfigError(
            f"The task {task.task_name}: generation_kwargs has {shown}, which served models do not have. Give a copy "
            "of the task without it, under another name, in --task-folder."
        )
    task.set_config(key="generation_kwargs", value=result)


def _sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of sampling off `options`, and returns those that have an effect.

    As with transformers, `do_sample` decides, and its temperature is 1 unless given; without it, the temperature does.
    """
    temperature, do_sample = options.pop("temperature", None), options.pop("do_sample", None)
    more = {name: options.pop(name) for name in SAMPLING if options.get(name) is not None}
    if temperature is None:
        temperature = 1.0 if do_sample else 0.0
    if do_sample is False or float(temperature) == 0:
        return {}
    return {"temperature": float(temperature), **more}
