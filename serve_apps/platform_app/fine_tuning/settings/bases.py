"""The bases that jobs may name, each with the finetuning config that is the template of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.platform_api.base_models import PlatformBaseConfig
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ModelNotFoundError

DPO_LEARNING_RATE_SHARE = 0.05
"""Learning rate of dpo as a share of the supervised one, where the config names none. Preference training wants one 10
to 40 times lower."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base, by its name here."""

    name: str
    config: PlatformBaseConfig
    template: FinetuneConfig

    @property
    def dpo_learning_rate(self) -> float:
        """The learning rate of a job with the method dpo and the multiplier 1."""
        return self.config.dpo_learning_rate or self.template.training.learning_rate * DPO_LEARNING_RATE_SHARE


class Bases:
    """The bases of a deployment. Reads every template, and raises ConfigError for one that is no valid config."""

    def __init__(self, config: PlatformConfig) -> None:
        self._bases: dict[str, Base] = {}
        self._names: dict[str, str] = {}
        for name, base in config.bases.items():
            self._bases[name] = Base(name, base, load_config(FinetuneConfig, Path(base.config)))
            self._names |= dict.fromkeys((name, *base.aliases), name)

    def __getitem__(self, name: str) -> Base:
        """The base of that name. Raises KeyError if the config no longer has it."""
        return self._bases[name]

    @property
    def all(self) -> Mapping[str, Base]:
        """By name."""
        return self._bases

    def find(self, name: str, may_use: Callable[[str], bool]) -> Base:
        """The base with that name or alias, if the key may use it. Raises ModelNotFoundError, which lists them."""
        found = self._names.get(name)
        if found is not None and may_use(found):
            return self._bases[found]
        usable = ", ".join(base for base in self._bases if may_use(base)) or "none"
        advice = " No tuned model of this API key has that name." if name.startswith("ft:") else ""
        raise ModelNotFoundError(
            f"The model {name!r} cannot be fine-tuned here.{advice} Models that can be: {usable}.",
            param="model",
            code="model_not_found",
        )
