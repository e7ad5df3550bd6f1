"""The chat in the terminal: what is shown, what the model is asked, what is remembered, and how it ends."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish import chat_asking, chat_commands
from burnish.chat import chat
from burnish.chat_talk import Base, Feedback
from burnish.data.dialog import Frame
from burnish.data.formats import FORMATS
from burnish.data.render import Renderer
from burnish.errors import ConfigError, ModelError
from burnish.models import Model
from burnish.retrieval import Passage
from burnish.sampling import Generated, Options
from burnish.types import Origin
from stub import load_stub

OPTIONS = Options(max_tokens=16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def renderer(model: Model) -> Renderer:
    return Renderer(model.tokenizer, model.max_length, model.end_ids(), Frame())


def script(*lines: str | BaseException) -> Callable[[str], str]:
    """Return a reader of these lines, then the end of input; an exception among them is raised in its turn."""
    waiting = iter(lines)

    def read(prompt: str) -> str:
        line = next(waiting, None)
        if line is None:
            raise EOFError
        if isinstance(line, BaseException):
            raise line
        return line

    return read


class Asked:
    """Stands in for the model: gives scripted answers, and remembers the prompts and options it was asked with."""

    def __init__(self, tokenizer: Any, answers: list[list[str | BaseException]]) -> None:
        self.tokenizer, self.answers = tokenizer, iter(answers)
        self.prompts: list[str] = []
        self.options: list[Options] = []
        self.closed = 0

    def __call__(self, model: Model, prompt: np.ndarray, options: Options) -> Iterator[str]:
        self.prompts.append(self.tokenizer.decode(prompt.tolist()))
        self.options.append(options)
        return self.pieces()

    def pieces(self) -> Any:
        text = ""
        try:
            for piece in next(self.answers, [" Yes."]):
                if isinstance(piece, BaseException):
                    raise piece
                text += piece
                yield piece
        finally:
            self.closed += 1
        reason = "length" if text.endswith("...") else "end"
        return Generated(np.zeros(0, np.int32), text, reason == "end", reason, np.zeros(0, np.float32))


Talk = Callable[..., tuple[str, Asked, list[dict[str, str]]]]


@pytest.fixture
def talk(model: Model, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Return a function that holds a chat of scripted lines and answers, and gives what was shown, asked and returned."""

    def run(*lines: Any, answers: list[list[Any]] | None = None, options: Options = OPTIONS, **named: Any) -> Any:
        asked, shown = Asked(model.tokenizer, answers or []), io.StringIO()
        monkeypatch.setattr(chat_asking, "stream", asked)
        named = {"renderer": renderer, "model": model} | named
        messages = chat(
            named.pop("model"),
            named.pop("renderer"),
            options=options,
            read=script(*lines),
            write=lambda text: _put(shown, text),
            **named,
        )
        return shown.getvalue(), asked, messages

    return run


def _put(stream: io.StringIO, text: str) -> None:
    stream.write(text)


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in pairs]


def test_turns_follow_each_other_in_the_models_own_template(talk: Talk) -> None:
    """Pain 7: the template of the chat differs from that of tuning: the prompt is the template's own, history included."""
    shown, asked, messages = talk("Hello", "And you?", answers=[[" Hi", " there"], [" Fine."]], system="Be kind.")
    assert "Hi there\n" in shown and "Fine.\n" in shown
    assert asked.prompts == [
        "<|bos|>Be kind.\n\nUser: Hello\nAssistant:",
        "<|bos|>Be kind.\n\nUser: Hello\nAssistant: Hi there<|eos|>\nUser: And you?\nAssistant:",
    ]
    pairs = (("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi there"), ("user", "And you?"), ("assistant", "Fine."))
    assert messages == said(*pairs)


def test_the_run_frames_the_chat(talk: Talk, renderer: Renderer) -> None:
    """Pain 3: the model is worse when served: system message and prompt of the run are used unasked, and told."""
    framed = replace(renderer, frame=Frame(system="Sort mails.", prompt="Mail: {text}"))
    shown, asked, messages = talk("lost card", renderer=framed)
    assert asked.prompts == ["<|bos|>Sort mails.\n\nUser: Mail: lost card\nAssistant:"]
    assert "Sort mails." in shown and "Mail: {text}" in shown
    assert messages[1] == {"role": "user", "content": "lost card"}
    _, asked, _ = talk("lost card", renderer=framed, system="")
    assert asked.prompts == ["<|bos|>User: Mail: lost card\nAssistant:"]


def test_a_real_model_answers(model: Model, renderer: Renderer) -> None:
    """The whole way without a stand-in: the same conversation twice gives the same answers, which are those returned."""
    options = Options(max_tokens=12, temperature=1.0, seed=4)
    outcomes = []
    for _ in range(2):
        shown = io.StringIO()
        written: Callable[[str], None] = lambda text, to=shown: _put(to, text)  # noqa: E731
        outcomes.append(
            (chat(model, renderer, options=options, read=script("the user", "the answer"), write=written), shown.getvalue())
        )
    assert outcomes[0] == outcomes[1]
    assert not model.network.training
    for message in outcomes[0][0]:
        visible = "".join(letter for letter in message["content"] if letter >= " " and not "\x7f" <= letter <= "\x9f")
        assert message["role"] == "user" or visible in "".join(letter for letter in outcomes[0][1] if letter >= " ")


def test_asking_again_draws_anew(talk: Talk) -> None:
    _, asked, _ = talk("a", "/undo", "a")
    assert asked.options[0].step != asked.options[1].step


# ----------------------------------------------------------------------------------------------------------------------- commands


def test_reset_undo_and_system(talk: Talk) -> None:
    lines = ("one", "two", "/undo", "three", "/reset", "/system Short.", "four", "/system none", "five", "/undo", "/undo", "/undo")
    shown, asked, messages = talk(*lines)
    assert asked.prompts[2].count("User:") == 2 and "two" not in asked.prompts[2] and "one" in asked.prompts[2]
    assert asked.prompts[3] == "<|bos|>Short.\n\nUser: four\nAssistant:"
    assert asked.prompts[4].startswith("<|bos|>User: four")
    assert "taken back: five" in shown and "nothing to take back" in shown
    assert messages == []


def test_temperature_is_changed_or_refused(talk: Talk) -> None:
    shown, asked, _ = talk("/temperature 0.7", "a", "/temperature -3", "/temperature warm", "/temperature nan", "b", "/temperature")
    assert [options.temperature for options in asked.options] == [0.7, 0.7]
    assert "temperature = -3.0: expected 0" in shown and "/temperature warm: expected a number" in shown
    assert shown.count("temperature: 0.7") == 2


def test_a_saved_chat_is_a_row_of_data(talk: Talk, tmp_path: Path) -> None:
    """What was said can be tuned on as it is; a file that is there keeps its rows, even without a last line break."""
    file = tmp_path / "chat.jsonl"
    file.write_text('{"messages": []}', encoding="utf-8")
    shown, _, messages = talk("Grüße?", f"/save {file}", answers=[[" Schöne!"]], system="Kurz.")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2 and rows[1] == {"messages": messages}
    assert messages == said(("system", "Kurz."), ("user", "Grüße?"), ("assistant", "Schöne!"))
    assert "messages" in FORMATS and "3 messages added to" in shown


def test_saving_where_it_cannot_be(talk: Talk, tmp_path: Path) -> None:
    shown, _, messages = talk("/save x.jsonl", "a", "/save", f"/save {tmp_path / 'none' / 'x.jsonl'}", f"/save {tmp_path}", "b")
    assert "Nothing was said yet" in shown and "name a file" in shown
    assert shown.count("cannot be written") == 2 and "Is a directory" in shown
    assert len(messages) == 4, "the chat goes on"


def test_help_lists_every_command_and_typos_get_a_hint(talk: Talk) -> None:
    shown, asked, _ = talk("/help", "/sistem x", "//etc is a path", "   ", "")
    assert all(name in shown for name in chat_commands.COMMANDS)
    assert "There is no command /sistem. Did you mean '/system'?" in shown
    assert asked.prompts == ["<|bos|>User: /etc is a path\nAssistant:"]


# ------------------------------------------------------------------------------------------------------------------ ends and stops


def test_quit_and_the_end_of_input_leave(talk: Talk) -> None:
    _, asked, _ = talk("/quit", "never asked")
    assert asked.prompts == []
    assert talk()[2] == []


def test_ctrl_c_stops_the_answer_only(talk: Talk) -> None:
    """What was shown before stays in the conversation; the stream is closed, which gives the network its mode back."""
    shown, asked, messages = talk("tell", "more", answers=[[" Once", " upon", KeyboardInterrupt(), " never"], [" Yes."]])
    assert asked.closed == 2 and "never" not in shown and "(stopped)" in shown
    assert messages == said(("user", "tell"), ("assistant", "Once upon"), ("user", "more"), ("assistant", "Yes."))


def test_ctrl_c_before_any_answer_takes_the_question_back(talk: Talk) -> None:
    shown, _, messages = talk("tell", answers=[[KeyboardInterrupt()]])
    assert messages == [] and "taken back" in shown


def test_ctrl_c_twice_at_the_prompt_leaves(talk: Talk) -> None:
    shown, asked, _ = talk(KeyboardInterrupt(), "a", KeyboardInterrupt(), KeyboardInterrupt(), "never asked")
    assert len(asked.prompts) == 1 and shown.count("Ctrl-C again") == 2


def test_an_answer_at_the_limit_is_told(talk: Talk) -> None:
    """Pain 6: the model never stops: the person learns that it was the limit that ended the answer."""
    assert "cut at max_tokens = 16" in talk("a", answers=[[" and so on..."]])[0]
    assert "cut at" not in talk("a", answers=[[" done"]])[0]


def test_an_empty_answer_is_not_remembered(talk: Talk) -> None:
    shown, asked, messages = talk("a", "b", answers=[[], [" Yes."]])
    assert "no answer" in shown and asked.prompts[1] == "<|bos|>User: b\nAssistant:" and len(messages) == 2


def test_a_failed_answer_does_not_end_the_chat(talk: Talk) -> None:
    shown, _, messages = talk("a", "b", answers=[[ModelError("not a finite number.")], [" Yes."]])
    assert "not a finite number. Your message was taken back." in shown and len(messages) == 2


def test_a_template_that_refuses_does_not_end_the_chat(talk: Talk, model: Model, renderer: Renderer) -> None:
    """Some templates know no system message: said in a sentence."""
    template = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ m['content'] }}{% endfor %}"
    kept = model.tokenizer.chat_template
    model.tokenizer.chat_template = template
    try:
        shown, asked, messages = talk("a", "/system none", "a", system="Be kind.")
    finally:
        model.tokenizer.chat_template = kept
    assert "refuses these messages: no system role" in shown
    assert asked.prompts == ["a"] and len(messages) == 2


def test_a_model_cannot_steer_the_terminal(talk: Talk) -> None:
    shown, _, messages = talk("a", answers=[[" \x1b[2Jred\x07\x9b1m", "\nnext\tcolumn"]])
    assert "[2Jred1m\nnext\tcolumn" in shown and "\x1b" not in shown and "\x9b" not in shown
    assert "\x1b" in messages[1]["content"]


# ------------------------------------------------------------------------------------------------------------------ a full context


def test_the_oldest_turns_are_left_out_and_that_is_said(talk: Talk, model: Model) -> None:
    """Pain 8: dropped without a word: told when it happens, once per turn lost; the system message and all that is saved stay."""
    long = "z" * 120
    shown, asked, messages = talk(*(f"{number}{long}" for number in range(6)), "a", "b", system="Be kind.")
    limit = model.max_length - OPTIONS.max_tokens
    assert all(len(model.tokenizer(prompt)["input_ids"]) <= limit for prompt in asked.prompts)
    assert all(prompt.startswith("<|bos|>Be kind.") for prompt in asked.prompts)
    assert [f"User: {number}{long}" in asked.prompts[-1] for number in range(6)] == [False, False, False, True, True, True]
    assert "the oldest 1 of 3 turns no longer fit" in shown
    told = [int(number) for number in re.findall(r"the oldest (\d+) of", shown)]
    assert told == sorted(set(told)) and f"User: {told[-1]}{long}" in asked.prompts[-1], "told once, and told the truth"
    assert len(messages) == 17


def test_a_question_that_is_too_long_is_refused(talk: Talk) -> None:
    shown, asked, messages = talk("z" * 600, "short")
    assert "tokens; with 16 for the answer, 496 fit the model's context. It was taken back" in shown
    assert len(asked.prompts) == 1 and len(messages) == 2


def test_options_that_leave_no_room_are_refused_at_once(talk: Talk) -> None:
    with pytest.raises(ConfigError, match="max_tokens = 512: the model's context is 512"):
        talk("a", options=Options(max_tokens=512))


# -------------------------------------------------------------------------------------------------------------------- pipes, colour


def piped(model: Model, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, data: bytes, answers: list[list[Any]]) -> Asked:
    asked = Asked(model.tokenizer, answers)
    monkeypatch.setattr(chat_asking, "stream", asked)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    chat(model, renderer, options=OPTIONS)
    return asked


def test_through_a_pipe_only_answers_come_out(
    model: Model, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(model, renderer, monkeypatch, b"one\n/system Hm.\ntwo\n", [[" First."], [" Second..."]])
    out, errors = capsys.readouterr()
    assert out == "First.\nSecond...\n"
    assert "system message: Hm." in errors and "cut at max_tokens" in errors


def test_a_line_that_is_not_utf8_is_refused(
    model: Model, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines around it, which were read from the pipe in one go, are sent."""
    asked = piped(model, renderer, monkeypatch, b"one\ncaf\xe9\ntwo\n", [])
    assert "not valid UTF-8" in capsys.readouterr().err
    assert len(asked.prompts) == 2 and "User: one" in asked.prompts[0] and "User: two" in asked.prompts[1]


def test_surrogates_are_refused(talk: Talk) -> None:
    """What a terminal in another encoding hands over for a byte that it could not read."""
    shown, asked, _ = talk("caf\udce9")
    assert "not valid UTF-8" in shown and asked.prompts == []


class Terminal(io.StringIO):
    """Output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal(model: Model, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colour, and the model's text as it is: no markup is read into it, no line is wrapped."""
    monkeypatch.setattr(chat_asking, "stream", Asked(model.tokenizer, [[" [bold]x[/bold] ", "y" * 300]]))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    chat(model, renderer, options=OPTIONS, read=script("a"))
    shown = terminal.getvalue()
    assert "\x1b[" in shown and "Model: " in shown
    assert "[bold]x[/bold] " + "y" * 300 in shown


def passage(name: str, text: str) -> Passage:
    return Passage(name, text, Origin(name, 3), 0, 0, len(text))


def test_passages_stand_above_the_question_and_are_named_and_not_remembered(talk: Talk) -> None:
    found = {"When?": [passage("a.md", "We open at nine."), passage("b.md", "We close at six.")], "Why?": []}
    shown, asked, messages = talk("When?", "Why?", look=lambda question: found[question])
    assert "We open at nine.\n\nWe close at six.\n\nWhen?" in asked.prompts[0]
    assert "We open" not in asked.prompts[1]
    assert "(from a.md:3; b.md:3)" in shown and "nothing was found" in shown
    assert [message["content"] for message in messages if message["role"] == "user"] == ["When?", "Why?"]


def test_passages_that_do_not_fit_are_left_out_before_the_question(talk: Talk) -> None:
    shown, asked, _ = talk("When?", look=lambda question: [passage("a.md", "We open at nine."), passage("b.md", "long " * 500)])
    assert "We open at nine." in asked.prompts[0] and "long" not in asked.prompts[0]
    assert "(from a.md:3)" in shown


# ------------------------------------------------------------------------------------------------- the base, documents, judgements


def base(model: Model) -> Base:
    from contextlib import nullcontext

    return Base("the base", "beef", lambda: nullcontext(model))


def test_compare_asks_both_the_same_with_the_same_draws(talk: Talk, model: Model) -> None:
    """Pain 11: what tuning changed: base and model see one prompt and draw alike; only the model's answer is remembered."""
    shown, asked, messages = talk(
        "Hi", "/compare And you?", answers=[[" Yes."], [" Base says."], [" Model says."]], base=base(model)
    )
    assert asked.prompts[1] == asked.prompts[2] and asked.prompts[1].endswith("User: And you?\nAssistant:")
    assert asked.options[1] == asked.options[2] and asked.options[0].step != asked.options[1].step
    assert shown.index("Base: Base says.") < shown.index("Model: Model says.")
    assert [one["content"] for one in messages] == ["Hi", "Yes.", "And you?", "Model says."]


def test_compare_alone_puts_the_last_question_to_the_base(talk: Talk, model: Model) -> None:
    shown, asked, messages = talk("/compare", "Hi", "/compare", answers=[[" Yes."], [" Yes."]], base=base(model))
    assert "Nothing was asked yet" in shown and "both say the same" in shown
    assert asked.prompts[0] == asked.prompts[1] and asked.options[0] == asked.options[1]
    assert len(messages) == 2
    assert "There is no base to compare with" in talk("a", "/compare")[0]


def test_documents_are_chosen_in_the_middle_and_put_away(talk: Talk) -> None:
    def opened(place: str) -> Any:
        if place != "handbook":
            raise ModelError(f"{place}: there is no such file.")
        return lambda question: [passage("handbook/a.md", "We open at nine.")]

    shown, asked, _ = talk("/rag", "/rag nowhere", "When?", "/rag handbook", "When?", "/rag off", "When?", open_documents=opened)
    assert "documents: none" in shown and "nowhere: there is no such file. Nothing was changed." in shown
    assert ["We open at nine." in prompt for prompt in asked.prompts] == [False, True, False]
    assert "(from handbook/a.md:3)" in shown and len(re.findall("each question is looked up", shown)) == 1


def test_judgements_are_rows_that_burnish_rate_and_tuning_read(talk: Talk, model: Model, tmp_path: Path) -> None:
    """A thumb for an answer, a choice for two; the newest word on the same answers counts, and the prompt is kept as it was put."""
    from burnish.data.formats import examples
    from burnish.data.sources import read
    from burnish.rate import last_of_each, read_feedback
    from burnish.types import Pair, Rated

    file = tmp_path / "feedback.jsonl"
    kept = Feedback(file, "ann", "runs/x", "abc")
    lines = (
        "/rate good",
        "Hi",
        "/rate",
        "/rate fine",
        "/rate bad",
        "/rate good",
        "/compare Why?",
        "/rate good",
        "/rate base",
        "/undo",
        "/rate tie",
    )
    answers = [[" Yes."], [" Base says."], [" Model says."]]
    shown, _, _ = talk(*lines, answers=answers, base=base(model), feedback=kept, system="Be kind.")
    assert shown.count("There is no answer to judge yet.") == 2
    assert "/rate: expected good, bad; after /compare also base, model, tie." in shown and "/rate fine: expected good" in shown
    assert "/rate good: expected model, base, tie, bad." in shown and f"noted in {file}: base" in shown
    rows = read_feedback(file)
    assert [(row["thumb"], row["choice"], row["order"]) for row in rows] == [
        (False, None, ["a"]),
        (True, None, ["a"]),
        (None, "b", ["b", "a"]),
    ]
    assert rows[0]["id"] == rows[1]["id"] != rows[2]["id"] and len(last_of_each(rows)) == 2
    assert [one["model"] for one in rows[2]["answers"]] == ["runs/x", "the base"]
    assert rows[2]["messages"][0] == {"role": "system", "content": "Be kind."} and rows[2]["messages"][-1]["content"] == "Why?"
    found = examples(read(str(file), base=tmp_path), format="feedback")
    assert not found.problems and {type(one) for one in found.examples} == {Pair}
    thumbs = examples(read(str(file), base=tmp_path), format="feedback", as_="rated")
    assert not thumbs.problems and {type(one) for one in thumbs.examples} == {Rated}


def test_judgements_that_cannot_be_kept_are_told(talk: Talk, tmp_path: Path) -> None:
    assert "no file was given" in talk("a", "/rate good")[0]
    folder = Feedback(tmp_path, "ann", "runs/x")
    assert "The judgement was not kept." in talk("a", "/rate good", feedback=folder)[0]


def test_a_comparison_through_a_pipe_gives_both_answers(
    model: Model, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(model.tokenizer, [[" Base says."], [" Model says."]])
    monkeypatch.setattr(chat_asking, "stream", asked)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"/compare Why?\n"), encoding="utf-8"))
    chat(model, renderer, options=OPTIONS, base=base(model))
    assert capsys.readouterr().out == "Base says.\nModel says.\n"
