"""Rows made from documents: traceable, checked, in one group with their passage, resumable; and a server that misbehaves."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from burnish.data.formats import examples
from burnish.data.sources import read
from burnish.data.split import split
from burnish.errors import ConfigError, DataError, RunError, UsageError
from burnish.retrieval_pieces import count_tokens, pieces
from burnish.synthesize import CHUNK, Asked, Reply, synthesize
from burnish.synthesize_checks import (
    COPY,
    CUT,
    ELSEWHERE,
    GARBAGE,
    GIVEN_AWAY,
    LENGTH,
    NOT_FOUND,
    NUMBER,
    REPEATED,
    fault,
    found_in,
)
from burnish.synthesize_command import run, told
from burnish.synthesize_kinds import KINDS, read_paraphrase, read_questions
from burnish.synthesize_local import local_writer
from burnish.synthesize_passages import read_passages
from burnish.synthesize_server import Server, model_of, open_server, server_writer
from stub import cpu, make_stub

PLACES = (
    "Skarrow",
    "Westmere",
    "Harbeck",
    "Oddle",
    "Nether Combe",
    "Pell",
    "Ashvale",
    "Kirkness",
    "Dunwell",
    "Overy",
    "Tarn",
    "Moss",
)


def documents(folder: Path, *, places: Sequence[str] = PLACES) -> Path:
    """Write a folder of Markdown: two sections for each place, each with facts of its own."""
    folder.mkdir(exist_ok=True)
    for number, place in enumerate(places):
        opens = f"The ferry office of {place} opens at {5 + number} in the morning. It is closed on every {place} fair day, when the harbour is full."
        boats = f"The boat of {place} carries {20 + number} passengers. Its skipper sleeps on board, and two dogs keep watch over the landing stage."
        (folder / f"{number:02}.md").write_text(f"# {place}\n\n{opens}\n\n## Boats\n\n{boats}\n", encoding="utf-8")
    return folder


def passage_in(prompt: str) -> str:
    return prompt.split("Passage:\n", 1)[1]


def write_questions(asked: Sequence[Asked]) -> list[Reply]:
    """A model that asks after the passage's number in three ways."""
    replies = []
    for one in asked:
        passage = passage_in(one.prompt)
        place = re.findall(r"of ([A-Z][a-z]+(?: [A-Z][a-z]+)?)", passage)[0]
        (number,) = re.findall(r"\d+", passage)
        way = ("Which number is written about", "What is the figure given for", "How much, in a single figure, is told of")[
            one.number % 3
        ]
        what = "the boat" if "boat" in passage else "the office"
        replies.append(Reply(f"Question: {way} {what} of {place}?\nAnswer: {number}"))
    return replies


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def made(folder: Path, name: str = "rows.jsonl", *, write: Any = write_questions, **more: Any) -> tuple[dict[str, Any], Path]:
    output = folder / name
    more = {"kind": "questions", "model": "fake", **more}
    return synthesize(str(documents(folder / "documents")), output, write=write, **more), output


# ----------------------------------------------------------------------------------------------------------------------- passages


def test_passages_end_with_sentences_and_know_their_line(tmp_path: Path) -> None:
    found = read_passages(str(documents(tmp_path / "d")), size=30).passages
    assert len({passage.sha256 for passage in found}) == len(found) > len(PLACES)
    for passage in found:
        assert passage.text.endswith("."), passage.text
        assert passage.origin.line is not None
        lines = Path(passage.origin.file).read_text(encoding="utf-8").split("\n")
        assert passage.text.split("\n")[0][:20] in lines[passage.origin.line - 1]
        assert passage.origin.section


@pytest.mark.parametrize("size", [20, 50, 200])
def test_pieces_hold_every_word_once_and_keep_to_the_size(size: int) -> None:
    text = (
        "\n\n".join(" ".join(f"Dr. Low met {n} of no. {k} people." for k in range(n % 9 + 1)) for n in range(40))
        + " word" * 130
        + "。" * 3
    )
    found = pieces(text, size)
    assert "".join("".join(text[start:end].split()) for start, end in found) == "".join(text.split())
    assert all(count_tokens(text[start:end]) <= 2 * size + size / 4 for start, end in found)
    assert not any(text[start:end].endswith("Dr.") for start, end in found)


def test_what_says_nothing_or_stands_twice_is_counted(tmp_path: Path) -> None:
    folder = documents(tmp_path / "d", places=PLACES[:2])
    (folder / "copy.md").write_text((folder / "00.md").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "short.txt").write_text("Page 3 of 9\n", encoding="utf-8")
    found = read_passages(str(folder))
    assert (len(found.passages), found.repeated, found.short) == (4, 2, 1)
    (tmp_path / "only.txt").write_text("Page 3\n", encoding="utf-8")
    with pytest.raises(DataError, match="no passage"):
        read_passages(str(tmp_path / "only.txt"))


# --------------------------------------------------------------------------------------------------------------------------- rows


def test_every_row_is_traceable_to_a_passage_that_is_there(tmp_path: Path) -> None:
    """Whether a fact was learned can be looked up where it stands (pain 12)."""
    summary, output = made(tmp_path, context=True, seed=7)
    rows, passages = rows_of(output), {row["made"]["passage"]: row for row in rows_of(tmp_path / "rows.passages.jsonl")}
    assert summary["rows"] == len(rows) > 30
    for row in rows:
        passage, how = passages[row["made"]["passage"]], row["made"]
        assert (how["source"], row["group"], row["context"]) == (passage["made"]["source"], passage["group"], passage["text"])
        assert row["answer"] in passage["text"]
        assert (how["model"], how["prompt"], how["seed"]) == ("fake", KINDS["questions"].version, 7)
        assert how["sample"] in (0, 1, 2)
        file, line = how["source"].split(" (")[0].rsplit(":", 1)
        assert Path(file).is_file() and int(line) >= 1


def test_rows_are_read_as_what_they_are_and_never_divided_from_their_passage(tmp_path: Path) -> None:
    """So no held-out question asks for a fact that was told in other words: repeating is not taken for knowing (pain 12).

    The columns that say where a row comes from are not taken for a context, and the guess needs no help."""
    for context in (True, False):
        _, output = made(tmp_path, f"{context}.jsonl", context=context)
        found = examples(read(str(output)), columns={"group": "group"})
        assert found.format == "question_answer" and not found.problems and ("context" in found.columns) == context
    sources = examples(read(str(tmp_path / "False.passages.jsonl")), columns={"group": "group"})
    assert sources.format == "text"
    both = [*found.examples, *sources.examples]
    for seed in range(5):
        divided = split(both, dev=0.2, test=0.2, seed=seed)
        sides = {side: {both[row].group for row in divided.side(side)} for side in ("train", "dev", "test")}
        assert all(sides.values())
        assert not (sides["train"] & sides["dev"] or sides["train"] & sides["test"] or sides["dev"] & sides["test"])


def test_paraphrases_are_rows_of_the_format_text(tmp_path: Path) -> None:
    def write(asked: Sequence[Asked]) -> list[Reply]:
        return [Reply("Here is the text:\n" + turned(passage_in(one.prompt), one.number % 2)) for one in asked]

    summary, output = made(tmp_path, write=write, kind="paraphrase")
    found = examples(read(str(output)), columns={"group": "group"})
    assert found.format == "text" and summary["format"] == "text" and len(found.examples) >= len(PLACES)
    assert "Here is" not in output.read_text(encoding="utf-8")
    assert summary["dropped"].keys() <= {REPEATED}


def turned(passage: str, way: int) -> str:
    """Say a passage of `documents` with other words in between."""
    words = re.sub(r"#+ .*\n", "", passage).split()
    return " ".join(f"{word} {('indeed', 'then')[way]}" if number % 2 else word for number, word in enumerate(words))


# ------------------------------------------------------------------------------------------------------------------------- checks


PASSAGE = "The ferry to Sandey leaves at 7 in the morning. It carries forty passengers and four cars, and it is painted dark green."


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ({"question": "When does the ferry leave?", "answer": "at 7 in the morning"}, None),
        ({"question": "How many people does it carry?", "answer": "“Forty  passengers”."}, None),
        ({"question": "How many people does it carry?", "answer": "forty-two passengers"}, NOT_FOUND),
        ({"question": "How many cars does it carry?", "answer": "car"}, NOT_FOUND),
        ({"question": "How many cars does it carry?", "answer": "?!"}, NOT_FOUND),
        ({"question": "Why?", "answer": "dark green"}, GARBAGE),
        ({"question": "Does the ferry to Sandey leave?", "answer": "ferry to Sandey"}, GIVEN_AWAY),
        ({"text": PASSAGE}, COPY),
        ({"text": PASSAGE.upper().replace(".", "!") + " Really."}, COPY),
        (
            {
                "text": "At 7 each morning a ferry sets out for Sandey. Painted dark green, it takes forty passengers besides four cars."
            },
            None,
        ),
        (
            {
                "text": "At 8 each morning a ferry sets out for Sandey. Painted dark green, it takes forty passengers besides four cars."
            },
            NUMBER,
        ),
        (
            {"text": "A lion sleeps under an old tree, while some birds sing about nothing much and clouds drift by over meadows."},
            ELSEWHERE,
        ),
        ({"text": "A ferry."}, LENGTH),
    ],
)
def test_what_is_certainly_wrong_is_found(candidate: dict[str, str], reason: str | None) -> None:
    assert fault(candidate, PASSAGE) == reason


def test_an_answer_is_found_as_whole_words() -> None:
    assert found_in("7", PASSAGE) and found_in("Sandey leaves", PASSAGE)
    assert not found_in("ferr", PASSAGE) and not found_in("", PASSAGE)


def test_replies_are_read_in_the_ways_that_models_write_them() -> None:
    pair = [{"question": "When does it leave?", "answer": "at seven"}]
    for reply in (
        "Question: When does it leave?\nAnswer: at seven",
        "**Question:** When does it leave?\n**Answer:** at seven\n\nI hope this helps!",
        "1. Q: When does it leave?\nA: at\nseven",
    ):
        assert read_questions(reply) == pair, reply
    assert len(read_questions("Question 1: Who came here?\nAnswer: Anna\n\nQuestion 2: Who left first?\nAnswer: Ben")) == 2
    for junk in ("", "Question: what?", "Answer: no", "The ferry leaves at seven.", "\x00\ud800", "Question: \nAnswer: \n"):
        assert read_questions(junk) == []
    assert read_paraphrase("Sure, here is the new version:\n“The ferry leaves.”") == [{"text": "The ferry leaves."}]
    assert read_paraphrase(" \n") == []


def test_each_dropped_reply_is_counted_under_its_reason(tmp_path: Path) -> None:
    junk = [
        Reply("I cannot do that."),
        Reply("Question: What is never said there?\nAnswer: nothing of the kind"),
        Reply("Question: When", complete=False),
        Reply("Question: Who sleeps aboard?\nAnswer: two dogs\nQuestion: Who sleeps  aboard?\nAnswer: skipper"),
        Reply("Question: who \ud800 keeps\x07 watch?\nAnswer: two dogs"),
    ]
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.md").write_text(
        "Its skipper sleeps on board each night, and two dogs keep watch over the landing stage.", encoding="utf-8"
    )
    summary = synthesize(
        str(folder), tmp_path / "rows.jsonl", kind="questions", model="fake", per_passage=5, write=lambda asked: junk
    )
    assert summary["dropped"] == {GARBAGE: 1, NOT_FOUND: 1, CUT: 1, REPEATED: 1}
    assert [row["question"] for row in rows_of(tmp_path / "rows.jsonl")] == ["Who sleeps aboard?", "who ? keeps watch?"]
    assert summary["asked"] == 5 and summary["unanswered"] == 0
    assert all(reason in told(summary) for reason in summary["dropped"])


# ------------------------------------------------------------------------------------------------------------------------ resuming


class Killed(Exception):
    """What ends a start in the middle."""


def until(calls: int, write: Callable[..., Any] = write_questions) -> Callable[..., Any]:
    left = [calls]

    def written(asked: Sequence[Asked]) -> list[Reply]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return write(asked)

    return written


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source = str(documents(tmp_path / "documents"))
    options: dict[str, Any] = {"kind": "questions", "model": "fake", "per_passage": 4}
    whole = synthesize(source, tmp_path / "a" / "rows.jsonl", write=write_questions, **options)
    assert whole["passages"] > 2 * CHUNK
    output = tmp_path / "b" / "rows.jsonl"
    for _ in range(2):
        with pytest.raises(Killed):
            synthesize(source, output, write=until(1), **options)
    with output.open("ab") as stream:
        stream.write(b'{"question": "torn')  # what a kill inside a write leaves
    resumed = synthesize(source, output, write=write_questions, **options)
    assert output.read_bytes() == (tmp_path / "a" / "rows.jsonl").read_bytes()
    assert {**resumed, "output": 0, "passages_file": 0} == {**whole, "output": 0, "passages_file": 0}

    def never(asked: Sequence[Asked]) -> list[Reply]:
        raise AssertionError("all passages are done")

    assert synthesize(source, output, write=never, **options)["rows"] == whole["rows"]


def test_rows_of_a_passage_that_a_kill_left_half_done_stay_and_are_not_made_twice(tmp_path: Path) -> None:
    _, output = made(tmp_path)
    before = output.read_text(encoding="utf-8")
    done = tmp_path / ".rows.jsonl.synthesis" / "done.jsonl"
    done.write_text("".join(done.read_text(encoding="utf-8").splitlines(keepends=True)[:-3]), encoding="utf-8")
    made(tmp_path)
    assert output.read_text(encoding="utf-8") == before


def test_other_values_or_another_file_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    _, output = made(tmp_path)
    before = output.read_bytes()
    for change in ({"seed": 1}, {"model": "other"}, {"kind": "paraphrase"}, {"size": 100}, {"context": True}):
        with pytest.raises(ConfigError, match="begun with other values"):
            made(tmp_path, **change)
    (tmp_path / "mine.jsonl").write_text('{"question": "a", "answer": "b"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="was not begun by this command"):
        made(tmp_path, "mine.jsonl")
    with pytest.raises(ConfigError, match="Did you mean 'questions'"):
        made(tmp_path, "new.jsonl", kind="question")
    assert output.read_bytes() == before and not (tmp_path / "new.jsonl").exists()


def test_new_documents_are_added_to_the_rows_that_are_there(tmp_path: Path) -> None:
    source, output = documents(tmp_path / "documents", places=PLACES[:3]), tmp_path / "rows.jsonl"
    options: dict[str, Any] = {"kind": "questions", "model": "fake", "write": write_questions}
    synthesize(str(source), output, **options)
    before = output.read_text(encoding="utf-8")
    synthesize(str(documents(source, places=PLACES[:5])), output, **options)
    after = output.read_text(encoding="utf-8")
    assert after.startswith(before) and len(after) > len(before)
    assert len(rows_of(tmp_path / "rows.passages.jsonl")) == 10


# --------------------------------------------------------------------------------------------------------------------- local models


def test_a_local_model_is_drawn_by_the_number_of_each_prompt(tmp_path: Path) -> None:
    write = local_writer(str(make_stub(tmp_path / "stub", context=256)), temperature=1.0, seed=3, device=cpu())
    asked = [Asked("Write a question.", number, 8) for number in (5, 2**61, 5)]
    together = write(asked)
    assert [write([one])[0] for one in asked] == together
    assert together[0] == together[2] != together[1]


def test_the_verb_runs_from_documents_to_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub, output = make_stub(tmp_path / "stub", context=2048), tmp_path / "rows.jsonl"
    source = documents(tmp_path / "d", places=PLACES[:1])
    run(str(source), "questions", str(stub), output, per_passage=1, limit=1, as_json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary["asked"] == 1 and summary["rows"] + sum(summary["dropped"].values()) == 1
    with pytest.raises(ConfigError, match="--server-model"):
        run(str(source), "questions", str(stub), output, server_model="x")


# ------------------------------------------------------------------------------------------------------------------------- a server

KEY = "sk-" + "verysecret" * 3


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server on this machine that gives what `answers` says next, and remembers what it was asked."""

    class Served:
        answers: list[Any] = []  # noqa: RUF012
        asked: list[tuple[str, dict[str, str], Any]] = []  # noqa: RUF012

    state = Served()
    state.answers, state.asked = [], []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Any) -> None:
            with lock:
                state.asked.append((self.path, dict(self.headers), body))
                given = state.answers.pop(0) if state.answers else None
            status, content, headers = given if given is not None else (200, completion(body), {})
            if status is None:  # hang up without a word
                self.close_connection = True
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()


def completion(body: Any) -> Any:
    if body is None:
        return {"data": [{"id": "writer"}]}
    number = body["seed"]
    text = write_questions([Asked(body["messages"][0]["content"], number, 1)])[0].text
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


def opened(served: Any, *, tries: int = 3, timeout: float = 5.0) -> tuple[Server, list[float]]:
    waits: list[float] = []
    found = open_server(served.address, timeout=timeout, tries=tries)
    return Server(found.address, found.key, timeout, tries, waits.append), waits


def test_a_server_writes_rows_and_the_key_is_in_no_file(served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = documents(tmp_path / "documents"), tmp_path / "rows.jsonl"
    run(str(source), "questions", served.address, output, per_passage=2, limit=4)
    rows = rows_of(output)
    assert rows and rows[0]["made"]["model"] == f"writer at {served.address}/v1"
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers, _ in served.asked)
    assert {path for path, _, _ in served.asked} == {"/v1/models", "/v1/chat/completions"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 4 and not any(KEY.encode() in path.read_bytes() for path in written)
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err and KEY not in repr(opened(served)[0])


def one(served: Any, **more: Any) -> tuple[Reply, list[float]]:
    server, waits = opened(served, **more)
    prompt = KINDS["questions"].ask("The boat of Pell carries 25 passengers.", 0)
    return server_writer(server, "writer")([Asked(prompt, 1, 50)])[0], waits


def test_what_may_pass_is_asked_again_after_longer_and_longer_pauses(served: Any) -> None:
    served.answers = [(503, b"busy", {}), (429, b"slow down", {"Retry-After": "9"})]
    reply, waits = one(served)
    assert "Answer: 25" in reply.text and not reply.problem
    assert waits == [1.0, 9.0]
    served.answers = [(None, b"", {}), (200, b'{"choices": [{"mess', {})]
    reply, waits = one(served)
    assert "Answer: 25" in reply.text and waits == [1.0, 2.0]


@pytest.mark.parametrize(
    "content", [b"<html>", {"error": "no"}, {"choices": []}, [1], {"choices": [{"message": {"content": None}}]}]
)
def test_garbage_from_a_server_is_a_problem_and_never_a_crash(served: Any, content: Any) -> None:
    served.answers = [(200, content, {})] * 3
    reply, _ = one(served)
    assert reply.problem and not reply.text


def test_a_cut_off_answer_is_known_as_one(served: Any) -> None:
    served.answers = [(200, {"choices": [{"message": {"content": "Question: Wh"}, "finish_reason": "length"}]}, {})]
    assert not one(served)[0].complete


def test_a_refusal_is_told_at_once_with_the_key_blanked_out(served: Any) -> None:
    served.answers = [(401, f"wrong key {KEY}".encode(), {})]
    with pytest.raises(RunError, match="Is the key right") as caught:
        one(served)
    assert KEY not in str(caught.value) and "***" in str(caught.value)
    assert len(served.asked) == 1
    served.answers = [(307, b"", {"Location": f"{served.address}/elsewhere"})]
    with pytest.raises(RunError, match="Redirects are not followed"):
        one(served)
    assert "/elsewhere" not in [path for path, _, _ in served.asked]


def test_a_server_that_is_silent_loses_nothing_and_is_asked_again_at_the_next_start(served: Any, tmp_path: Path) -> None:
    server, _ = opened(served, tries=1)
    write = server_writer(server, "writer", parallel=1)
    served.answers = [None] * (3 * CHUNK) + [(500, b"", {})] * (6 * CHUNK)
    with pytest.raises(RunError, match=r"does not answer \(HTTP 500"):
        made(tmp_path, write=write)
    kept = rows_of(tmp_path / "rows.jsonl")
    assert kept
    served.answers = [(500, b"", {})]
    summary, output = made(tmp_path, write=write)
    assert summary["unanswered"] == 1 and "Start the same command again" in told(summary)
    summary, _ = made(tmp_path, write=write)
    assert summary["unanswered"] == 0
    rows = rows_of(output)
    assert rows[: len(kept)] == kept and len({(row["made"]["passage"], row["question"]) for row in rows}) == len(rows)


def test_a_time_out_is_a_problem_with_its_name() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.05, tries=2, wait=lambda seconds: None)
        reply = server_writer(server, "writer")([Asked("p", 1, 5)])[0]
    assert "timed out" in reply.problem
    with pytest.raises(RunError, match="does not answer"):
        model_of(server)


def test_addresses_to_which_a_key_must_not_go(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("ftp://127.0.0.1", "http://", "http://me:pw@127.0.0.1/v1", "https://example.org/v1?key=x"):
        with pytest.raises(ConfigError) as caught:
            open_server(address)
        assert "pw" not in str(caught.value)
    with pytest.raises(ConfigError, match="could read it"):
        open_server("http://192.0.2.7:8000/v1")
    assert open_server("http://192.0.2.7:8000", key_variable="").key == ""
    assert open_server("https://example.org/api/v1/").address == "https://example.org/api/v1"
    served.answers = [(200, {"data": [{"id": "a"}, {"id": "b"}]}, {})]
    with pytest.raises(ConfigError, match="it has a, b"):
        model_of(opened(served)[0])
