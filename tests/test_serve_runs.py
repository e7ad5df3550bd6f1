"""What may be served, and how a server begins and ends: heads, encoders, runs of other techniques, models that come later, the command line."""

from __future__ import annotations

import gc
import json
import random
import re
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch

from burnish import api
from burnish.data.render_heads import ANSWER, REWARD, HeadSpec
from burnish.memory import give_back, held_memory
from burnish.models import load_model, save_model
from burnish.serve.settings import Settings
from cli_runs import cli, start
from serving import Server, alone, offered, running, write_adapter
from stub import cpu, make_stub
from test_encoders import make_encoder

HELLO: Any = [{"role": "user", "content": "the user and the order"}]
SETTINGS = Settings(dtype="float32", rows=8, queue=64, max_tokens=256)
SPECS = {
    "single": HeadSpec("sequence", ("calm", "cross", "glad")),
    "several": HeadSpec("sequence", ("a", "b", "c, d"), "several"),
    "number": HeadSpec("sequence", ("number",), "number", 10.0, 4.0),
    "spans": HeadSpec("token", ("O", "B-name", "I-name"), "flat"),
    "answer": ANSWER,
    "reward": REWARD,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def heads(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with a head of each kind, its weights as they were drawn."""
    made = {}
    for name, spec in SPECS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = load_model(str(base), cpu(), head=spec)
        made[name] = tmp_path_factory.mktemp("heads") / name
        made[name].mkdir()
        save_model(model, made[name], settings={"prompt": "Mood: {text}"} if name == "single" else None)
    return made


@pytest.fixture(scope="module")
def reading(heads: dict[str, Path]) -> Iterator[Server]:
    with running(offered(replace(SETTINGS, dtype="auto"), **heads)) as found:  # as the command line takes it
        yield found


def classify(server: Server, **asked: Any) -> Any:
    import httpx2

    answered = httpx2.post(f"{server.url}/v1/classify", json=asked, timeout=30)
    return answered.json() if answered.status_code == 200 else (answered.status_code, answered.json()["error"]["code"])


@pytest.mark.parametrize("name", ["single", "several", "number", "spans"])
def test_a_head_answers_through_every_verb(reading: Server, heads: dict[str, Path], name: str) -> None:
    """Pain 10, heads as second class: generate, /v1/classify and the chat say the same of a text; probabilities add up; the label is the likeliest."""
    text = "the user and the order"
    (row,) = api.generate(heads[name], [text])
    (data,) = classify(reading, model=name, input=text)["data"]
    assert data == {"index": 0, "text": row["text"], **row["reading"]}
    said = reading.client().chat.completions.create(model=name, messages=HELLO)
    assert said.choices[0].message.content == row["text"] and said.choices[0].finish_reason == "stop"
    stream = reading.client().chat.completions.create(model=name, messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == row["text"]
    figures = row["reading"]
    if name == "single":
        shares = figures["probabilities"]
        assert set(shares) == set(SPECS[name].labels) and sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=shares.__getitem__) == figures["label"] == row["text"]
    if name == "several":
        assert figures["labels"] == [label for label, share in figures["probabilities"].items() if share > 0.5]
    if name == "number":
        assert figures["number"] == pytest.approx(float(row["text"]), rel=1e-4)
    if name == "spans":
        assert all(text[span["start"] : span["end"]] == span["text"] for span in figures["spans"])
    printed = cli("generate", str(heads[name]), "--prompt", text).out
    assert json.loads(printed) == figures, "JSON, for programs as much as for people"


def test_a_head_that_finds_answers_wants_a_question(reading: Server) -> None:
    context = "the user and the assistant in the other order"
    (data,) = classify(reading, model="answer", input=context, question="who?")["data"]
    assert data["answer"] in context and isinstance(data["log_odds"], float)
    assert classify(reading, model="answer", input=context) == (400, "invalid_value")
    assert classify(reading, model="single", input=context, question="who?") == (400, "invalid_value")
    assert classify(reading, model="single", input=[]) == (400, "invalid_value")


def test_a_reward_model_judges_the_answer_of_a_conversation(reading: Server) -> None:
    """As runs are evaluated: the dialog as the template writes it, read at its end."""
    better, other = ([*HELLO, {"role": "assistant", "content": text}] for text in ("the answer", "in the other order"))
    first, again, second = (
        classify(reading, model="reward", messages=said)["data"][0]["number"] for said in (better, better, other)
    )
    assert first == again != second
    assert classify(reading, model="reward", messages=HELLO) == (400, "invalid_value")
    assert classify(reading, model="reward", input="a text") == (400, "invalid_value")
    assert classify(reading, model="single", messages=better) == (400, "invalid_value")
    with pytest.raises(openai.BadRequestError, match="judges answers"):
        reading.client().chat.completions.create(model="reward", messages=HELLO)


def test_each_task_of_a_run_is_on_offer(base: Path, tmp_path: Path) -> None:
    """A run of several tasks is asked in the form of its first, and in that of each by NAME/TASK."""
    told = {"tasks": {"sort": {"prompt": "Sort: {text}"}, "name": {"system": "Name it."}}, "task": "sort", "prompt": "Sort: {text}"}
    both = write_adapter(base, tmp_path / "both", 6, settings=told)
    served = offered(SETTINGS, both=both)
    assert {offer.name for offer in served.all()} == {"base", "both", "both/sort", "both/name"} and len(served.engine.lines) == 1
    with running(served) as server:
        for name, task in (("both", None), ("both/sort", "sort"), ("both/name", "name")):
            said = server.client().chat.completions.create(model=name, messages=HELLO, max_tokens=8)
            (expected,) = alone(both, [HELLO[0]["content"]], task=task, max_tokens=8)
            assert said.choices[0].message.content == expected["text"], name


def test_networks_with_a_cache_of_their_own_are_served_too(tmp_path: Path) -> None:
    """GPT-2: rows start together, so requests wait for those before them; the answers are the same, and a client may leave."""
    import transformers

    from stub import stub_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.GPT2Config(vocab_size=288, n_embd=32, n_layer=2, n_head=2, n_positions=256)
        transformers.GPT2LMHeadModel(config).save_pretrained(str(tmp_path / "gpt2"))
    stub_tokenizer().save_pretrained(str(tmp_path / "gpt2"))
    with running(offered(SETTINGS, gpt2=tmp_path / "gpt2")) as server:
        client, found = server.client(), {}

        def ask(number: int) -> None:
            messages: Any = [{"role": "user", "content": f"the user {number}"}]
            if number == 3:
                with client.chat.completions.create(model="gpt2", messages=messages, max_tokens=100, stream=True) as stream:
                    next(stream)
                return
            found[number] = (
                client.chat.completions.create(model="gpt2", messages=messages, max_tokens=5 + number).choices[0].message.content
            )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.idle()
        for number, said in found.items():
            (expected,) = alone(tmp_path / "gpt2", [f"the user {number}"], max_tokens=5 + number)
            assert said == expected["text"]
        assert len(found) == 5


def test_a_head_writes_nothing(reading: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="writes nothing"):
        reading.client().completions.create(model="single", prompt="x")
    with pytest.raises(openai.BadRequestError, match="are not for it"):
        reading.client().chat.completions.create(model="single", messages=HELLO, n=2)
    with pytest.raises(openai.BadRequestError, match="no vectors"):
        reading.client().embeddings.create(model="single", input="x")


def test_an_encoder_gives_vectors(tmp_path: Path) -> None:
    """Of length one, the same alone and in a batch, as the official client reads them; and writes nothing."""
    with running(offered(SETTINGS, bert=make_encoder(tmp_path / "bert"))) as server:
        client, texts = server.client(), ["the user", "an answer to the question, which is longer", "the user"]
        found = client.embeddings.create(model="bert", input=texts).data
        vectors = np.asarray([one.embedding for one in found])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
        assert vectors[0] == pytest.approx(vectors[2], abs=1e-6) and not np.allclose(vectors[0], vectors[1], atol=1e-3)
        alone = client.embeddings.create(model="bert", input=texts[1], encoding_format="float").data[0].embedding
        assert alone == pytest.approx(vectors[1], abs=1e-5)
        with pytest.raises(openai.BadRequestError, match="writes nothing"):
            client.chat.completions.create(model="bert", messages=HELLO)


def test_runs_that_cannot_share_have_a_line_of_their_own(base: Path, tmp_path: Path) -> None:
    """DoRA, a prefix, a whole model: each says what generate says, beside a LoRA that shares the base."""
    made = {
        "lora": write_adapter(base, tmp_path / "lora", 1),
        "dora": write_adapter(base, tmp_path / "dora", 2, "dora"),
        "prefix": write_adapter(base, tmp_path / "prefix", 3, "prefix"),
        "full": write_adapter(base, tmp_path / "full", 4, "full"),
    }
    served = offered(SETTINGS, **made)
    assert [offer.name for offer in served.all()] == ["base", "lora", "dora", "prefix", "full"], "an adapter brings its base along"
    assert len(served.engine.lines) == 4
    assert "use_dora" in served.find("dora").notes[0]
    with running(served) as server:
        for name, folder in made.items():
            said = server.client().chat.completions.create(model=name, messages=HELLO, max_tokens=12)
            assert said.choices[0].message.content == alone(folder, [HELLO[0]["content"]], max_tokens=12)[0]["text"], name


def test_a_model_may_come_while_the_server_runs(base: Path, tmp_path: Path) -> None:
    """As the result of a job does; answers under way go on."""
    late = write_adapter(base, tmp_path / "late", 5)
    with running(offered(SETTINGS, base=base)) as server:
        found: list[str] = []

        def long() -> None:
            said = server.client().chat.completions.create(model="base", messages=HELLO, max_tokens=200, temperature=2.0, seed=9)
            found.append(said.choices[0].message.content or "")

        thread = threading.Thread(target=long)
        thread.start()
        server.served.open("late", str(late))
        said = server.client().chat.completions.create(model="late", messages=HELLO, max_tokens=12)
        assert said.choices[0].message.content == alone(late, [HELLO[0]["content"]], max_tokens=12)[0]["text"]
        thread.join()
        long()
        assert found[0] == found[1] and len(server.served.engine.lines) == 1


def test_a_system_prompt_is_read_once(base: Path) -> None:
    system = {"role": "system", "content": "the order of the question and the answer is another one. " * 4}
    with running(offered(SETTINGS, base=base)) as server:
        client = server.client()
        for number in range(4):
            messages: Any = [system, {"role": "user", "content": f"question {number}"}]
            said = client.chat.completions.create(model="base", messages=messages, max_tokens=4)
        assert said.usage
        import httpx2

        figures = dict(line.rsplit(" ", 1) for line in httpx2.get(f"{server.url}/metrics").text.splitlines() if line[0] != "#")
        assert float(figures["burnish_prefix_tokens_taken"]) >= 3 * 0.7 * said.usage.prompt_tokens
        assert figures['burnish_requests_total{route="/v1/chat/completions",status="200"}'] == "4"


def test_many_requests_leave_nothing_behind(base: Path) -> None:
    """A few hundred requests of mixed length, streamed, whole, cancelled: no error, no row left, flat memory (the soak, in small)."""
    draw = random.Random(4)
    with running(offered(replace(SETTINGS, prefix_bytes=1 << 20), base=base)) as server:
        client = server.client()

        def one(number: int) -> None:
            options: Any = {"model": "base", "max_tokens": 1 + number % 24, "temperature": 1.0, "seed": number}
            messages: Any = [{"role": "user", "content": "the user " * (1 + number % 30)}]
            if number % 3 == 0:
                client.chat.completions.create(messages=messages, **options)
                return
            with client.chat.completions.create(messages=messages, stream=True, **options) as stream:
                for place, _ in enumerate(stream):
                    if number % 3 == 1 and place > draw.randrange(6):
                        break

        def wave(first: int, count: int) -> None:
            failures: list[BaseException] = []

            def some(start: int) -> None:
                try:
                    for number in range(start, first + count, 6):
                        one(number)
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=some, args=(first + lane,)) for lane in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures, failures[0]
            assert server.idle()
            gc.collect()
            give_back()

        wave(0, 90)
        before = held_memory("cpu")
        wave(90, 150)
        assert held_memory("cpu") - before < 24 << 20
        (line,) = server.served.engine.lines
        assert line.flight is not None and not line.flight.rows and not line.flight.noted and not line.waiting


# --------------------------------------------------------------------------------------------------------------- the command line


def test_a_server_for_others_asks_for_a_key_and_ends_cleanly(base: Path, tmp_path: Path) -> None:
    """From the command line, as a service manager runs it: a key is made and shown once; SIGTERM lets the stream under way finish as it
    would have, and new requests find nobody."""
    process = start("serve", f"mine={base}", "--host", "0.0.0.0", "--port", "0", folder=tmp_path)
    try:
        process.wait_until(lambda: "sk-burnish-" in process.said())
        url, key = (re.search(pattern, process.said()) for pattern in (r"at http://0\.0\.0\.0:(\d+) ", r"(sk-burnish-\S+)"))
        assert url and key
        place = f"http://127.0.0.1:{url[1]}/v1"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=place, api_key="none", max_retries=0).models.list()
        client = openai.OpenAI(base_url=place, api_key=key[1], max_retries=0)
        options: Any = {"model": "mine", "messages": HELLO, "max_tokens": 250, "temperature": 2.0, "seed": 1}
        whole = client.chat.completions.create(**options).choices[0]
        stream = client.chat.completions.create(**options, stream=True)
        parts = [next(stream).choices[0]]
        process.kill(signal.SIGTERM)
        parts += [chunk.choices[0] for chunk in stream]
        assert "".join(part.delta.content or "" for part in parts) == whole.message.content
        assert parts[-1].finish_reason == whole.finish_reason
        done = process.wait()
        assert done.code in (143, -signal.SIGTERM) and "Traceback" not in done.err and done.err.count(key[1]) == 1
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
    except BaseException:
        process.kill(signal.SIGKILL)
        raise


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-here"], "not known"),
        (["{base}", "same={base}", "same={base}"], "Two models"),
        (["{base}", "--key-file", "missing.txt"], "missing.txt"),
        (["{base}", "--port", "{taken}"], "cannot listen"),
        (["{base}", "--port", "99999"], "--port"),
        (["{base}", "--key-file", "{short}"], "at least 16"),
        ([], "MODEL"),
    ],
)
def test_mistakes_on_the_command_line(base: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "short.txt").write_text("short")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"base": base, "short": tmp_path / "short.txt", "taken": taken.getsockname()[1]}
        given = [one.format(**places) for one in arguments]
        done = cli("serve", *given, *([] if "--port" in given else ["--port", "0"]))
    assert done.code == 2 and said in done.err and "Traceback" not in done.err
