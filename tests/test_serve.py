"""`burnish serve` as the official `openai` client, unmodified, sees it: every shape it reads, streamed and whole, and every error it raises."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from burnish.serve.settings import Settings
from serving import ORDER, WEATHER, Server, alone, offered, running, write_adapter
from stub import make_stub

HELLO: Any = [{"role": "user", "content": "the user and the answer"}]
SETTINGS = Settings(dtype="float32", rows=4, queue=32, max_tokens=256, queue_seconds=30)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("served")
    base = make_stub(folder / "base")
    told = {"system": "Answer in order.", "prompt": "Question: {text}", "max_tokens": 32}
    return {
        "base": base,
        "one": write_adapter(base, folder / "one", 1),
        "two": write_adapter(base, folder / "two", 2, settings=told),
    }


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    with running(offered(SETTINGS, **folders)) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.client()


def streamed(stream: Any) -> tuple[str, list[Any]]:
    """Return the text of a stream's only choice, and its chunks."""
    chunks = list(stream)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["base", "one", "two"]
    assert client.models.retrieve("two").owned_by == "burnish"


@pytest.mark.parametrize("model", ["base", "one"])
def test_a_message_is_what_generate_says(client: openai.OpenAI, folders: dict[str, Path], model: str) -> None:
    """The server is another door to the same sampler."""
    said = client.chat.completions.create(model=model, messages=HELLO, max_tokens=20)
    (expected,) = alone(folders[model], [HELLO[0]["content"]], max_tokens=20)
    assert said.choices[0].message.content == expected["text"]
    assert said.choices[0].finish_reason == ("stop" if expected["stopped"] else "length")
    assert said.usage and said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens


def test_a_run_is_asked_in_the_form_in_which_it_was_taught(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    """Pains 3 and 7, worse once served: its own system prompt and template, unless the client brings a system message."""
    (expected,) = alone(folders["two"], [HELLO[0]["content"]], max_tokens=20)
    assert client.chat.completions.create(model="two", messages=HELLO, max_tokens=20).choices[0].message.content == expected["text"]
    own = [{"role": "system", "content": "Answer in order."}, *HELLO]
    again = client.chat.completions.create(model="two", messages=own, max_tokens=20)
    assert again.choices[0].message.content == expected["text"]
    other = client.chat.completions.create(model="two", messages=[{"role": "system", "content": "x"}, *HELLO], max_tokens=20)
    assert again.usage and other.usage and other.usage.prompt_tokens < again.usage.prompt_tokens


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 7}, {"stop": ["e", "zz"]}])
def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI, options: dict[str, Any]) -> None:
    whole = client.chat.completions.create(model="one", messages=HELLO, max_tokens=30, **options)
    text, chunks = streamed(
        client.chat.completions.create(
            model="one", messages=HELLO, max_tokens=30, stream=True, stream_options={"include_usage": True}, **options
        )
    )
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_seed_n_and_temperature(client: openai.OpenAI) -> None:
    """A seed fixes all samples; samples differ; a single sample is the first of several; no seed draws anew."""

    def ask(**options: Any) -> list[str]:
        said = client.chat.completions.create(model="base", messages=HELLO, max_tokens=12, temperature=1.5, **options)
        assert [choice.index for choice in said.choices] == list(range(len(said.choices)))
        return [choice.message.content or "" for choice in said.choices]

    assert ask(n=3, seed=5) == ask(n=3, seed=5)
    assert len(set(ask(n=3, seed=5))) == 3
    assert ask(seed=5) == ask(n=3, seed=5)[:1]
    assert ask(seed=-1) != ask(seed=5)
    assert ask() != ask()


def test_logprobs(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(model="base", messages=HELLO, max_tokens=12, logprobs=True, top_logprobs=3)
    content = said.choices[0].logprobs.content if said.choices[0].logprobs else None
    assert content and all(len(one.top_logprobs) == 3 for one in content)
    assert all(one.logprob == pytest.approx(one.top_logprobs[0].logprob, abs=1e-4) for one in content), "greedy takes the likeliest"
    raw = b"".join(bytes(one.bytes or []) for one in content)
    assert raw.decode(errors="replace").rstrip("\ufffd").strip() == said.choices[0].message.content
    _, chunks = streamed(
        client.chat.completions.create(model="base", messages=HELLO, max_tokens=12, logprobs=True, top_logprobs=3, stream=True)
    )
    listed = [one for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content]
    assert [one.token for one in listed] == [one.token for one in content]


def test_texts_are_continued(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    said = client.completions.create(
        model="one", prompt=["the user", "an answer"], max_tokens=10, n=2, temperature=1.0, seed=1, logprobs=2
    )
    assert [choice.index for choice in said.choices] == [0, 1, 2, 3]
    probs = said.choices[0].logprobs
    assert probs and probs.tokens and len(probs.tokens) == len(probs.token_logprobs or []) == 10
    alone = client.completions.create(model="one", prompt="an answer", max_tokens=10, n=2, temperature=1.0, seed=1)
    assert [choice.text for choice in alone.choices] == [choice.text for choice in said.choices[2:]]
    parts = client.completions.create(
        model="one", prompt="an answer", max_tokens=10, temperature=1.0, seed=1, stream=True, logprobs=1
    )
    assert "".join(part.choices[0].text for part in parts) == alone.choices[0].text


def test_adapters_fly_together(server: Server, client: openai.OpenAI) -> None:
    """Base and two adapters at the same time, in one flight over one base: each says what it says alone."""
    assert len(server.served.engine.lines) == 1
    alone = {name: client.chat.completions.create(model=name, messages=HELLO, max_tokens=24) for name in ("base", "one", "two")}
    found: dict[tuple[str, int], Any] = {}

    def ask(name: str, number: int) -> None:
        found[name, number] = client.chat.completions.create(model=name, messages=HELLO, max_tokens=24)

    threads = [threading.Thread(target=ask, args=(name, number)) for number in range(2) for name in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for (name, _), said in found.items():
        assert said.choices[0].message.content == alone[name].choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_json_is_valid_for_any_model(client: openai.OpenAI, stream: bool) -> None:
    """The stub says noise, and its answers are read by the schema all the same; at a short limit too."""
    form: Any = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": ORDER}}
    for seed, limit in [(1, 40), (2, 60), (3, 120)]:
        options: Any = {"model": "one", "messages": HELLO, "max_tokens": limit, "temperature": 1.2, "seed": seed}
        if stream:
            text, _ = streamed(client.chat.completions.create(**options, response_format=form, stream=True))
        else:
            text = client.chat.completions.create(**options, response_format=form).choices[0].message.content or ""
        value = json.loads(text)
        assert set(value) == {"name", "amount"} and isinstance(value["amount"], int)
    said = client.chat.completions.create(model="base", messages=HELLO, max_tokens=50, response_format={"type": "json_object"})
    assert isinstance(json.loads(said.choices[0].message.content or ""), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_where_one_must_be(client: openai.OpenAI, stream: bool) -> None:
    tools: Any = [WEATHER]
    options: Any = {"model": "base", "messages": HELLO, "max_tokens": 120, "tools": tools, "tool_choice": "required"}
    if stream:
        text, chunks = streamed(client.chat.completions.create(**options, stream=True))
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        assert not text
    else:
        message = client.chat.completions.create(**options).choices[0].message
        calls, text = message.tool_calls or [], message.content
        assert text is None
    (call,) = calls
    assert call.function.name == "weather" and isinstance(json.loads(call.function.arguments)["city"], str)


def test_tools_and_their_results_are_part_of_a_conversation(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages: Any = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    tools: Any = [WEATHER]
    said = client.chat.completions.create(model="base", messages=messages, tools=tools, max_tokens=5)
    plain = client.chat.completions.create(model="base", messages=HELLO, max_tokens=5)
    assert said.usage and plain.usage and said.usage.prompt_tokens > plain.usage.prompt_tokens + 40


# ------------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("kind", "code", "param", "options"),
    [
        (openai.NotFoundError, "model_not_found", "model", {"model": "gpt-4"}),
        (openai.BadRequestError, "context_length_exceeded", "messages", {"messages": [{"role": "user", "content": "x" * 600}]}),
        (openai.BadRequestError, "context_length_exceeded", "messages", {"max_tokens": 500}),
        (openai.BadRequestError, "invalid_value", "temperature", {"temperature": 3}),
        (openai.BadRequestError, "invalid_value", "temperature", {"temperature": "hot"}),
        (openai.BadRequestError, "invalid_value", "n", {"n": 17}),
        (openai.BadRequestError, "invalid_value", "n", {"n": 0}),
        (openai.BadRequestError, "invalid_value", "stop", {"stop": [""]}),
        (openai.BadRequestError, "invalid_value", "frequency_penalty", {"frequency_penalty": 0.5}),
        (openai.BadRequestError, "invalid_value", "logit_bias", {"logit_bias": {"1": 5}}),
        (openai.BadRequestError, "invalid_value", "top_logprobs", {"top_logprobs": 2}),
        (openai.BadRequestError, "invalid_value", "reasoning_effort", {"reasoning_effort": "high"}),
        (openai.BadRequestError, "invalid_value", "messages", {"messages": []}),
        (openai.BadRequestError, "invalid_value", "messages.0.role", {"messages": [{"role": "king", "content": "x"}]}),
        (openai.BadRequestError, "invalid_value", "messages.0.content", {"messages": [{"role": "user"}]}),
        (openai.BadRequestError, "invalid_value", "response_format", {"response_format": {"type": "xml"}}),
        (
            openai.BadRequestError,
            "invalid_value",
            "response_format",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objct"}}}},
        ),
        (
            openai.BadRequestError,
            "invalid_value",
            "tool_choice",
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        ),
        (
            openai.BadRequestError,
            "unsupported_content",
            "messages.0.content.0",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}]}]},
        ),
    ],
)
def test_errors_have_the_envelope_and_the_status(
    client: openai.OpenAI, kind: type[openai.APIStatusError], code: str, param: str, options: dict[str, Any]
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "base", "messages": HELLO, "max_tokens": 5, **options})
    body: Any = caught.value.body
    assert (body["code"], body["param"]) == (code, param), body
    assert set(body) == {"message", "type", "param", "code"} and len(body["message"]) > 10


def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next request finds a server that works."""
    from burnish.errors import ModelError
    from burnish.sampling.flight import Flight

    real, steps = Flight.advance, []

    def advance(self: Flight) -> Any:
        steps.append(1)
        if len(steps) == 4:
            raise ModelError("The model's output is not a finite number.")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Flight, "advance", advance)
        stream = server.client().chat.completions.create(model="base", messages=HELLO, max_tokens=50, stream=True)
        with pytest.raises(openai.APIError, match="not a finite number"):
            list(stream)
    assert server.idle()
    assert server.client().chat.completions.create(model="base", messages=HELLO, max_tokens=3).choices
