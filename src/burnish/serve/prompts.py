"""From a request to rows: the prompt in the form in which the model was taught, within the limits, with the form that the answer keeps to.

Enters: a request and the model that it names. Leaves: `Prepared`: tokens, options and tools, of which `rows` makes what the engine takes.
A run's own system prompt stands in front unless the messages bring one, and its prompt template around each turn of the user, as in
`burnish chat` and in evaluation: a model that is asked in another form than it was taught in answers worse.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from burnish.data.render import Renderer
from burnish.data.template import render_prompt
from burnish.data.tokens import token_ids
from burnish.errors import ConfigError, DataError
from burnish.sampling import Options
from burnish.sampling.choose import LOWEST_TEMPERATURE
from burnish.sampling.flight import Row
from burnish.sampling.form import hold, json_grammar
from burnish.serve.asked import LARGEST_SEED, Asked, ChatAsked, CompletionAsked
from burnish.serve.engine import Engine
from burnish.serve.messages import to_messages
from burnish.serve.problems import ApiError, wrong
from burnish.serve.served import Offer
from burnish.serve.settings import Settings
from burnish.serve.tools import Tools, call_form, must_call, to_tools
from burnish.types import Expected, Message, Origin, Task, content

COMPLETION_TOKENS = 16
"""The longest continuation of a text where none is given, as hosted services have it."""
DEEPEST = 32
"""Levels of a schema."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A prompt that fits, and how it is answered: `samples` answers, the likeliest tokens noted, a grammar, and tools that may be called."""

    offer: Offer
    tokens_T: np.ndarray
    options: Options
    samples: int = 1
    likeliest: int = 0
    grammar: str | None = None
    tools: Tools | None = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that the model was taught with."""
        return self.offer.loaded.model.tokenizer

    def rows(self, engine: Engine) -> tuple[Row, ...]:
        """Return a row for each answer."""
        number, model = next(engine.numbers), self.offer.flies_on.model
        head: Any = model.output_head()
        forms = [
            None if self.grammar is None else hold(model.tokenizer, self.grammar, size=head.weight.shape[0], ends=model.end_ids())
            for _ in range(self.samples)
        ]
        return tuple(
            Row(
                number,
                0,
                sample,
                self.tokens_T,
                options=self.options,
                adapter=self.offer.adapter,
                form=form,
                likeliest=self.likeliest,
            )
            for sample, form in enumerate(forms)
        )


def prepare_chat(offer: Offer, asked: ChatAsked, settings: Settings) -> Prepared:
    """Return the prompt of a conversation; the ApiError (400) of one that cannot be answered."""
    writer = _writer(offer, "/v1/completions")
    if len(asked.messages) > settings.messages:
        raise wrong(f"messages: {len(asked.messages)} of them, and {settings.messages} are taken.", param="messages")
    several = asked.parallel_tool_calls is not False
    tools = to_tools(asked.tools, asked.tool_choice, several=several, limit=settings.tools, size=settings.schema_bytes)
    form = call_form(writer.tokenizer) if tools is not None else None
    messages = as_taught(writer, to_messages(asked.messages))
    try:
        text = render_prompt(writer.tokenizer, messages, tools.given if tools is not None else ())
    except DataError as error:
        raise wrong(f"messages: {error}", param="messages") from None
    tokens_T = np.asarray(token_ids(writer.tokenizer, text), dtype=np.int64)
    grammar = _grammar(asked.response_format, settings)
    if grammar is not None and tools is not None:
        raise wrong("response_format: cannot be held to beside tools; send tool_choice 'none'.", param="response_format")
    if tools is not None and form is not None and tools.must is not None:
        try:
            grammar = must_call(form, tools)
        except ConfigError as error:
            raise wrong(f"tools: {error}", param="tools") from None
    limit = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    if asked.top_logprobs and not asked.logprobs:
        raise wrong("top_logprobs: needs logprobs true.", param="top_logprobs")
    prepared = _prepared(offer, tokens_T, asked, settings, limit)
    return replace(prepared, likeliest=asked.top_logprobs or 0, grammar=grammar, tools=tools)


def prepare_completion(offer: Offer, asked: CompletionAsked, settings: Settings) -> list[Prepared]:
    """Return the prompts of texts to be continued; the ApiError (400) of those that cannot be."""
    writer = _writer(offer, None)
    prompts: list[Any] = list(asked.prompt) if isinstance(asked.prompt, list) else [asked.prompt]
    if prompts and isinstance(prompts[0], int):
        prompts = [prompts]
    if not 0 < len(prompts) * (asked.n or 1) <= settings.choices:
        raise wrong(f"prompt: expected 1 to {settings.choices} answers in all.", param="prompt")
    limit = asked.max_tokens if asked.max_tokens is not None else COMPLETION_TOKENS
    made = [
        _prepared(offer, _continued(writer, prompt), asked, settings, limit, shorten=asked.max_tokens is None) for prompt in prompts
    ]
    return [replace(one, likeliest=asked.logprobs or 0) for one in made]


def as_taught(writer: Renderer, messages: Sequence[Message]) -> list[Message]:
    """Return messages with the run's own system prompt in front, unless they bring one, and its prompt around each turn of the user."""
    frame = writer.frame
    asked = [
        replace(one, content=content(frame.ask("".join(part.text for part in one.content if hasattr(part, "text")))))  # pyright: ignore[reportAttributeAccessIssue]
        if one.role == "user" and frame.prompt is not None
        else one
        for one in messages
    ]
    if frame.system is not None and (not messages or messages[0].role != "system"):
        return [Message(role="system", content=content(frame.system)), *asked]
    return asked


def _writer(offer: Offer, instead: str | None) -> Renderer:
    """Return what renders for a model that writes; the ApiError of one that does not, or that was taught to continue text alone."""
    if not offer.writes:
        instead = "/v1/classify" if offer.reads else "/v1/embeddings"
        raise ApiError(400, f"This model reads and writes nothing: ask {instead}.", param="model", code="model_writes_nothing")
    if instead is not None and offer.loaded.continues_text:
        raise ApiError(
            400,
            f"This model was taught to continue plain text, not to talk: ask {instead}.",
            param="model",
            code="model_continues_text",
        )
    return offer.loaded.writer


def _continued(writer: Renderer, prompt: str | list[int] | int) -> np.ndarray:
    """Return the tokens of a text to be continued, behind the token that begins one; tokens are taken as they are."""
    if isinstance(prompt, str):
        task = Task(messages=(), expected=Expected(), text=prompt, origin=Origin("prompt"))
        return np.asarray(writer.prompt(task), dtype=np.int64)
    if isinstance(prompt, int) or not prompt or not all(0 <= token < len(writer.tokenizer) for token in prompt):
        raise wrong("prompt: expected tokens of this model, at least one.", param="prompt")
    return np.asarray(prompt, dtype=np.int64)


def _prepared(
    offer: Offer, tokens_T: np.ndarray, asked: Asked, settings: Settings, limit: int | None, *, shorten: bool = False
) -> Prepared:
    """Return a prompt with its options, if it leaves room for what is asked."""
    longest, size = offer.loaded.model.max_length, len(tokens_T)
    room = longest - size
    wanted = min(room, settings.max_tokens) if limit is None or shorten else limit
    wanted = min(wanted, limit) if shorten and limit is not None else wanted
    if size == 0:
        raise wrong("The prompt holds no token: send a text.", param="messages")
    if room < 1 or wanted > room:
        raise ApiError(
            400,
            f"The prompt has {size:,} tokens, and {wanted if limit is not None else 1:,} are asked for: together more than the {longest:,} "
            f"of the model's context. Shorten the prompt, or ask for fewer.",
            param="messages" if isinstance(asked, ChatAsked) else "prompt",
            code="context_length_exceeded",
        )
    if wanted > settings.max_tokens:
        raise wrong(f"max_tokens: at most {settings.max_tokens:,} here.", param="max_tokens")
    samples = asked.n or 1
    if samples > settings.choices:
        raise wrong(f"n: at most {settings.choices} here.", param="n")
    temperature = asked.temperature or 0.0
    options = Options(
        max_tokens=wanted,
        temperature=temperature if temperature >= LOWEST_TEMPERATURE else 0.0,
        top_p=asked.top_p if asked.top_p is not None else 1.0,
        top_k=asked.top_k or 0,
        stop=_stops(asked.stop, settings),
        seed=secrets.randbits(63) if asked.seed is None else asked.seed % LARGEST_SEED,
    )
    return Prepared(offer, tokens_T, options, samples)


def _stops(given: str | list[str] | None, settings: Settings) -> tuple[str, ...]:
    stops = tuple([given] if isinstance(given, str) else given or ())
    if len(stops) > settings.stops or any(not 0 < len(stop) <= settings.stop_length for stop in stops):
        raise wrong(f"stop: at most {settings.stops} texts of 1 to {settings.stop_length} characters.", param="stop")
    return stops


def _grammar(given: Mapping[str, Any] | None, settings: Settings) -> str | None:
    """Return the grammar of a response_format, None for plain text; the ApiError (400) of one that cannot be held to."""
    kind = None if given is None else given.get("type")
    if given is None or kind == "text":
        return None
    schema: Any = None
    if kind == "json_schema":
        inner = given.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        if not isinstance(schema, Mapping):
            raise wrong("response_format.json_schema.schema: expected a JSON Schema.", param="response_format")
    elif kind != "json_object":
        raise wrong("response_format.type: expected text, json_object or json_schema.", param="response_format")
    try:
        if schema is not None:
            _refuse_large(schema, settings)
        return json_grammar(schema)
    except ConfigError as error:
        raise wrong(f"response_format: {error}", param="response_format") from None


def _refuse_large(schema: Any, settings: Settings) -> None:
    import json

    if len(json.dumps(schema)) > settings.schema_bytes:
        raise ConfigError(f"The schema is longer than {settings.schema_bytes:,} bytes.")
    level = [schema]
    for _ in range(DEEPEST):
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, Mapping) else one)
            if isinstance(child, Mapping | list)
        ]
        if not level:
            return
    raise ConfigError(f"The schema is nested deeper than {DEEPEST} levels.")
