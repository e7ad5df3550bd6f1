"""What clients may ask for: the bodies of requests, checked as a whole.

Enters: JSON. Leaves: values of the right types. A field that this server would not act upon is refused by name, not taken and ignored;
fields that concern nothing but a hosted service's books (`user`, `metadata`, `store` …) are taken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LARGEST_SEED = 2**63


def _neutral(value: float | None) -> float | None:
    """Refuse what would change an answer and is not done here."""
    if value:
        raise ValueError("this server has no such penalty; leave it away, or send 0")
    return value


def _empty(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value:
        raise ValueError("this server cannot bias single tokens; leave it away")
    return value


def _sayable(value: str) -> str:
    """Refuse half a surrogate pair, which is no text."""
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("holds half a surrogate pair, which is no text")
    return value


Text = Annotated[str, AfterValidator(_sayable)]
Neutral = Annotated[float | None, AfterValidator(_neutral)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class Asked(BaseModel):
    """What requests for answers have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Text
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Not given: 0, the likeliest token each time, as runs are evaluated."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    n: Count | None = None
    stop: Text | list[Text] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Neutral = None
    presence_penalty: Neutral = None
    logit_bias: Annotated[dict[str, Any] | None, AfterValidator(_empty)] = None
    user: str | None = None


class StreamOptions(BaseModel):
    """What a stream has beside the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatAsked(Asked):
    """A request for the next message of a conversation."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None


class CompletionAsked(Asked):
    """A request to continue a text."""

    prompt: Text | list[Text] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None


class EmbeddingsAsked(BaseModel):
    """A request for vectors of texts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Text
    input: Text | list[Text] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class ClassifyAsked(BaseModel):
    """A request for what a head reads in texts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Text
    input: Text | list[Text] | None = None
    question: Text | None = None
    """For a head that finds answers: the question; `input` is then the context."""
    messages: list[dict[str, Any]] | None = None
    """For a head that judges answers, instead of `input`: a conversation that ends with the answer."""
