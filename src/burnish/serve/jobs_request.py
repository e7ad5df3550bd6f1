"""What a client may ask for when it creates a job: the fields of the OpenAI interface, each checked, and what is refused.

Enters: the JSON body of a request. Leaves: a `CreateJob`, in which every value is of the right kind; what several values mean together is
`jobs_plan`'s business. Nothing is accepted and ignored: a field that has no counterpart here is refused by its name.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

CLOSED = ConfigDict(extra="forbid", strict=True)
SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FILE_ID = r"^file-[0-9a-f]{1,64}$"


def _count(value: Any) -> Any:
    if value is None or value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100_000):
        return value
    raise ValueError('expected "auto" or a whole number from 1 to 100000')


def _factor(value: Any) -> Any:
    if value is None or value == "auto":
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 10_000:
        return float(value)
    raise ValueError('expected "auto" or a number above 0 and up to 10000')


def _number_or_auto(kind: str, **limits: Any) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "enum": ["auto"]}, {"type": kind, **limits}, {"type": "null"}]}


Count = Annotated[Any, AfterValidator(_count), WithJsonSchema(_number_or_auto("integer", minimum=1, maximum=100_000))]
Factor = Annotated[Any, AfterValidator(_factor), WithJsonSchema(_number_or_auto("number", exclusiveMinimum=0, maximum=10_000))]


class Supervised(BaseModel):
    """Hyperparameters of supervised tuning."""

    model_config = CLOSED
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Factor = None


class Preference(BaseModel):
    """Hyperparameters of direct preference optimisation."""

    model_config = CLOSED
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Factor = None
    beta: Factor = None


class Reinforcement(BaseModel):
    """Hyperparameters of reinforcement learning. `reasoning_effort` has no counterpart: only "default" is taken."""

    model_config = CLOSED
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Factor = None
    compute_multiplier: Factor = None
    eval_interval: Count = None
    eval_samples: Count = None
    reasoning_effort: Literal["default"] | None = None


class SupervisedMethod(BaseModel):
    """The method "supervised"."""

    model_config = CLOSED
    hyperparameters: Supervised | None = None


class PreferenceMethod(BaseModel):
    """The method "dpo"."""

    model_config = CLOSED
    hyperparameters: Preference | None = None


class ReinforcementMethod(BaseModel):
    """The method "reinforcement"."""

    model_config = CLOSED
    grader: dict[str, Any]
    hyperparameters: Reinforcement | None = None


class Method(BaseModel):
    """The method, and the settings of that one method."""

    model_config = CLOSED
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedMethod | None = None
    dpo: PreferenceMethod | None = None
    reinforcement: ReinforcementMethod | None = None

    @model_validator(mode="after")
    def _only_its_own(self) -> Method:
        others = [name for name in ("supervised", "dpo", "reinforcement") if name != self.type and getattr(self, name) is not None]
        if others:
            raise ValueError(f"type is {self.type!r}, so {others[0]} has no meaning: take it out")
        if self.type == "reinforcement" and self.reinforcement is None:
            raise ValueError("reinforcement needs a grader")
        return self

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters that were given, without those left out."""
        part = getattr(self, self.type)
        given = part.hyperparameters if part is not None else None
        return given.model_dump(exclude_none=True) if given is not None else {}


def _suffix(value: str | None) -> str | None:
    if value in (None, ""):
        return None
    assert value is not None
    if not SUFFIX.fullmatch(value):
        raise ValueError("expected up to 64 letters, digits and . _ -, the first a letter or digit")
    return value


def _metadata(value: dict[str, str] | None) -> dict[str, str] | None:
    if value is not None and (len(value) > 16 or any(len(key) > 64 or len(item) > 512 for key, item in value.items())):
        raise ValueError("expected at most 16 pairs, keys of up to 64 and values of up to 512 characters")
    return value


def _no_integrations(value: Any) -> Any:
    if value:
        raise ValueError("integrations are not offered: the run directory and the metrics file hold everything; take it out")
    return None


class CreateJob(BaseModel):
    """The body of a request for a job."""

    model_config = CLOSED | ConfigDict(protected_namespaces=())
    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: Annotated[str, Field(pattern=FILE_ID)]
    validation_file: Annotated[str, Field(pattern=FILE_ID)] | None = None
    method: Method | None = None
    hyperparameters: Supervised | None = None
    """Of supervised tuning, where no method is given (the older spelling)."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: Annotated[str | None, AfterValidator(_suffix)] = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(_metadata)] = None
    integrations: Annotated[list[Any] | None, BeforeValidator(_no_integrations)] = None
    burnish: dict[str, Any] | None = None
    """Fields of a run file by dotted name, beyond what a hosted service knows (`jobs_plan.EXTRA`)."""

    @model_validator(mode="after")
    def _one_spelling(self) -> CreateJob:
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters stand inside method; the older field beside it is one too many")
        if self.validation_file is not None and self.validation_file == self.training_file:
            raise ValueError("validation_file is the training file; held-out rows must be others")
        return self

    @property
    def asked(self) -> Method:
        """The method, also where the older spelling was used."""
        return self.method or Method(type="supervised", supervised=SupervisedMethod(hyperparameters=self.hyperparameters))
