"""Rendering: what is learned is what the template writes for the assistant, and a model is asked in the form it was taught.

Four tokenizers: the stub's (bytes and a few merges), one made here in the manner of sentencepiece (Metaspace), GPT-2's, and that of
a real tiny Llama; the last two are skipped where their folders are not there.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from burnish.data.dialog import NOT_STATED, Frame, as_dialog, as_task, known_labels
from burnish.data.render import Renderer, turn_weights
from burnish.data.template import render_dialog
from burnish.errors import ConfigError, DataError
from burnish.models.template import PLAIN_TEMPLATE
from burnish.types import (
    Answerable,
    Dialog,
    Expected,
    Labelled,
    Message,
    Origin,
    Pair,
    Rated,
    Role,
    Sequence,
    Span,
    Tagged,
    Task,
    Text,
    ToolCall,
    content,
    plain,
)
from stub import stub_tokenizer

HERE = Origin("rows.jsonl", 7)
MODELS = Path(os.environ.get("BURNISH_DATA", Path(__file__).parents[2] / "shared" / "data")).parent / "models"

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\\n' + m['content'] }}<|im_end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)
"""No marks: turns are found as what each one adds."""

MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}<|im_end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)
"""Marks that leave the end of the turn out, as many templates in the wild do."""

HEADERS = (
    "{% for m in messages %}{{ '\\n\\n### ' + m['role'] + '\\n\\n' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### assistant\\n\\n' }}{% endif %}"
)
"""A prompt that ends in two line breaks, which many tokenizers join unless a word follows."""

REASONING = (
    "{% for m in messages %}{% set text = m['content'] if loop.last or '</think>' not in m['content'] else m['content'].split('</think>')[1] %}"
    "<|im_start|>{{ m['role'] + '\\n' + text }}<|im_end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)
"""Earlier turns lose their reasoning, as in Qwen3's and DeepSeek's templates."""

TEMPLATES = {"plain": PLAIN_TEMPLATE, "chatml": CHATML, "marked": MARKED, "headers": HEADERS, "reasoning": REASONING}


def metaspace_tokenizer() -> Any:
    """Return a tokenizer that writes a space as ▁ and puts one before the text, with bytes for what it does not know."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    raw.decoder = decoders.Sequence(parts)  # pyright: ignore[reportArgumentType]
    special: list[Any] = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = "User: the user and the Assistant: in the order, an answer to the question. " * 3
    raw.train_from_iterator([words], BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


@cache
def tokenizer(name: str) -> Any:
    """Return a tokenizer by name, skipping the test where its folder is missing."""
    if name == "stub":
        made = stub_tokenizer()
        made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        return made
    if name == "metaspace":
        return metaspace_tokenizer()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(MODELS / name))


TOKENIZERS = ["stub", "metaspace", "tokenizer_gpt2", "stories260K"]


def renderer(name: str, template: str, *, max_length: int = 10_000, **more: Any) -> Renderer:
    if name not in ("stub", "metaspace") and not (MODELS / name).is_dir():
        pytest.skip(f"{MODELS / name} is not there")
    made = tokenizer(name)
    made.chat_template = TEMPLATES.get(template, template)
    vocabulary = made.get_vocab()
    ends = {made.eos_token_id, vocabulary.get("<|im_end|>")} - {None}
    return Renderer(made, max_length, tuple(ends), more.pop("frame", Frame()), **more)


def message(role: Role, text: str, weight: float | None = None) -> Message:
    return Message(role=role, content=content(text), weight=weight)


def dialog(*turns: tuple[Role, str] | Message, origin: Origin = HERE) -> Dialog:
    return Dialog(messages=tuple(turn if isinstance(turn, Message) else message(*turn) for turn in turns), origin=origin)


def learned_text(asked: Renderer, sequence: Sequence) -> str:
    return asked.tokenizer.decode(sequence.target_N[sequence.weight_N != 0].tolist())


def text_of(asked: Renderer, sequence: Sequence) -> str:
    return asked.tokenizer.decode(sequence.tokens_T.tolist())


def template_text(asked: Renderer, example: Dialog) -> str:
    turns = [{"role": turn.role, "content": plain(turn.content)} for turn in example.messages]
    return asked.tokenizer.apply_chat_template(turns, tokenize=False)


# Words, spaces, breaks, punctuation and other scripts, as people write them; special tokens in them are the checks' business.
texts = st.text(alphabet="ab eü:\n\t.,<|>#?4ñ漢🙂'", max_size=24)
answers = texts.filter(lambda text: bool(text.strip()))


@st.composite
def dialogs(draw: st.DrawFn) -> Dialog:
    turns: list[Message] = [message("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [message("user", draw(texts)), message("assistant", draw(answers))]
    return Dialog(messages=tuple(turns), origin=HERE)


def there_and_back(asked: Renderer, text: str) -> str:
    """Return what a tokenizer makes of a text: the same, or (in the manner of sentencepiece) one with other spaces."""
    return asked.tokenizer.decode(asked.tokenizer(text, add_special_tokens=False)["input_ids"])


def spaceless(text: str) -> str:
    return "".join(text.split())


# --------------------------------------------------------------------------------------------- text, mask and template fit together


@pytest.mark.parametrize("template", ["plain", "chatml", "marked", "headers"])
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=25, deadline=None)
@given(example=dialogs())
def test_tokens_and_mask_reassemble_the_template(name: str, template: str, example: Dialog) -> None:
    """Decoded, the tokens are the template's own output; the learned ones are the assistant's turns and nothing of the user's."""
    asked = renderer(name, template)
    expected = template_text(asked, example)
    back = there_and_back(asked, expected)
    assert back == expected or name in ("metaspace", "stories260K")
    assume(spaceless(back) == spaceless(expected))
    try:
        sequences = asked.sequences(example)
    except DataError as error:
        assert "cannot be cut between prompt and answer" in str(error) and back != expected
        return
    if len(sequences) == 1:
        assert text_of(asked, sequences[0]) == back
    assert all(back.startswith(text_of(asked, sequence)) for sequence in sequences)
    spoken = [plain(turn.content) for turn in example.messages if turn.role == "assistant"]
    learned = "".join(learned_text(asked, sequence) for sequence in sequences)
    for text in spoken:
        assert spaceless(text) in spaceless(learned)
    marks = sum(len(mark) for mark in ("<|im_end|>", "\n", " ", asked.tokenizer.eos_token))
    assert len(learned) <= sum(len(text) + marks for text in spoken)


@pytest.mark.parametrize("template", ["plain", "chatml", "marked", "headers", "reasoning"])
@pytest.mark.parametrize("name", ["stub", "metaspace"])
@settings(max_examples=25, deadline=None)
@given(example=dialogs())
def test_everything_is_each_token_of_the_whole_dialog(name: str, template: str, example: Dialog) -> None:
    """One sequence, in which all that follows the first token is learned alike, and the same tokens as else where there is one."""
    asked, usual = (renderer(name, template, learn=learn) for learn in ("everything", "all"))
    try:
        [sequence] = asked.sequences(example)
    except DataError:
        assert name == "metaspace"
        return
    assert np.array_equal(sequence.target_N, sequence.tokens_T[1:]) and np.all(sequence.weight_N == 1)
    assert np.array_equal(sequence.at_N, np.arange(sequence.length - 1))
    assert text_of(asked, sequence) == there_and_back(asked, template_text(asked, example))
    others = usual.sequences(example)
    assert len(others) > 1 or np.array_equal(others[0].tokens_T, sequence.tokens_T)


def test_everything_leaves_no_weight_of_a_message_and_measures_answers_alone() -> None:
    asked, usual = (renderer("stub", "chatml", learn=learn) for learn in ("everything", "all"))
    example = dialog(("user", "when?"), message("assistant", "now", 0.0), ("user", "sure?"), ("assistant", "yes"))
    [sequence] = asked.sequences(example)
    assert np.all(sequence.weight_N == 1) and learned_text(asked, sequence).count("now") == 1
    [measured], [expected] = (one.likelihood(one.task_of(example)) for one in (asked, usual))
    assert np.array_equal(measured.at_N, expected.at_N) and learned_text(asked, measured).startswith("yes<|im_end|>")
    [told] = asked.sequences(dialog(("user", "nobody answers")))
    assert "nobody answers" in learned_text(asked, told), "a dialog without an answer is a text like any other"


@pytest.mark.parametrize("template", ["plain", "chatml", "marked", "headers", "reasoning"])
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=25, deadline=None)
@given(example=dialogs())
def test_pain_7_the_prompt_at_inference_is_what_stood_before_the_answer(name: str, template: str, example: Dialog) -> None:
    """One renderer for all stages: the tokens of the prompt are a prefix of the tokens that were learned from, for every turn."""
    asked = renderer(name, template)
    try:
        sequences = asked.sequences(example)
    except DataError:
        assert name in ("metaspace", "stories260K")
        return
    turns = [number for number, turn in enumerate(example.messages) if turn.role == "assistant"]
    prompts = [asked.prompt(Task(messages=example.messages[:turn], expected=Expected(), origin=HERE)) for turn in turns]
    for prompt in prompts:
        holders = [s for s in sequences if s.length > len(prompt) and np.array_equal(s.tokens_T[: len(prompt)], prompt)]
        assert holders, "no sequence continues this prompt"
        assert any(len(prompt) - 1 in s.at_N for s in holders), "the first token of the answer is not learned"
        assert any(len(prompt) - 2 not in s.at_N for s in holders), "the prompt's last token is learned"


def test_two_line_breaks_before_an_answer_are_the_prompts_own() -> None:
    """GPT-2 joins two line breaks into one token at the end of a text, and not before a word: the prompt must decide."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special: list[Any] = ["<|end|>"]
    raw.train_from_iterator(
        ["\n\n"] * 3,
        BpeTrainer(special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    made: Any = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", clean_up_tokenization_spaces=False)
    made.chat_template = HEADERS
    asked = Renderer(made, 1000, (made.eos_token_id,), Frame())
    example = dialog(("user", "hi"), ("assistant", "hello"))
    prompt = asked.prompt(asked.task_of(example))
    assert asked.tokenizer.decode(prompt[-1:].tolist()) == "\n\n"
    assert np.array_equal(asked.sequences(example)[0].tokens_T[: len(prompt)], prompt)


def test_turns_that_cannot_share_one_sequence_get_their_own() -> None:
    """An answer whose end merges with what follows: each turn then stands in a sequence of its own, after its own prompt."""
    glued = (
        "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    made = stub_tokenizer(vocab=288)
    asked = Renderer(made, 1000, (made.eos_token_id,), Frame())
    made.chat_template = glued
    merged = next(token for token in made.get_vocab() if token.isalpha() and token.islower() and len(token) == 3)
    example = dialog(("user", "x"), ("assistant", merged[:1]), ("user", "y"), ("assistant", "z"))
    made.chat_template = glued.replace(
        "m['role'] + ':'", f"({merged[1:]!r} if m['role'] == 'user' and not loop.first else m['role'] + ':')"
    )
    sequences = asked.sequences(example)
    assert len(sequences) == 2
    assert [learned_text(asked, sequence) for sequence in sequences] == [merged[:1], "z"]


# --------------------------------------------------------------------------------------------------------------- what is learned


@pytest.mark.parametrize("template", ["plain", "chatml", "marked", "headers", "reasoning"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_pain_6_the_end_of_each_turn_is_learned(name: str, template: str) -> None:
    """Also where the template's marks leave it out: a model that never learns to stop never stops."""
    asked = renderer(name, template)
    example = dialog(("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second"))
    end = "<|im_end|>" if template in ("chatml", "marked", "reasoning") else asked.tokenizer.eos_token
    learned = "".join(learned_text(asked, sequence) for sequence in asked.sequences(example))
    if template == "marked" and name != "stub":
        assert learned.count(end) == 0, "where the end of turn is no token of its own, only the template's marks can say so"
    else:
        assert learned.count(end) == 2


@pytest.mark.parametrize("template", ["plain", "chatml", "marked", "headers"])
def test_the_words_of_others_are_never_learned(template: str) -> None:
    asked = renderer("stub", template)
    example = dialog(("system", "SYS"), ("user", "QUESTION"), ("assistant", "yes"), ("tool", "RESULT"), ("assistant", "done"))
    (sequence,) = asked.sequences(example)
    learned = learned_text(asked, sequence)
    assert not any(word in learned for word in ("SYS", "QUESTION", "RESULT", "im_start", "user", "ssistant"))
    assert learned.replace(" ", "").startswith("yes") and "done" in learned


@pytest.mark.parametrize("template", ["plain", "chatml", "marked"])
def test_only_the_last_turn_is_learned_where_asked(template: str) -> None:
    asked = renderer("stub", template, learn="last")
    example = dialog(("user", "one?"), ("assistant", "FIRST"), ("user", "two?"), ("assistant", "SECOND"), ("user", "bye"))
    (sequence,) = asked.sequences(example)
    assert "FIRST" in text_of(asked, sequence)
    assert "FIRST" not in learned_text(asked, sequence) and "SECOND" in learned_text(asked, sequence)


def test_weights_of_messages_reach_their_readouts() -> None:
    """A turn's own weight goes before the policy, in both directions; its end of turn counts as it does."""
    asked = renderer("stub", "marked", learn="last")
    turns = [message("user", "a"), message("assistant", "HALF", 0.5), message("user", "b"), message("assistant", "NONE", 0.0)]
    (sequence,) = asked.sequences(dialog(*turns))
    assert learned_text(asked, sequence) == "HALF<|im_end|>"
    assert set(sequence.weight_N.tolist()) == {0.5}
    assert turn_weights([*turns, message("assistant", "x")], "all") == [0.0, 0.5, 0.0, 0.0, 1.0]
    assert turn_weights([message("user", "x", 1.0)], "all") == [0.0], "a user's words are never learned"


def test_a_dialog_without_an_answer_has_no_readouts() -> None:
    """Pain 1: the checks refuse such a row; the renderer gives it nothing to learn, and `within` keeps it out of training."""
    asked = renderer("stub", "plain")
    sequences = asked.sequences(dialog(("user", "anyone?")))
    assert [len(sequence.at_N) for sequence in sequences] == [0]
    assert asked.within(sequences, "drop") == []


def test_an_opening_turn_of_the_assistant_is_learned_after_its_header() -> None:
    asked = renderer("stub", "chatml")
    (sequence,) = asked.sequences(dialog(("assistant", "Welcome"), ("user", "hi"), ("assistant", "hello")))
    assert learned_text(asked, sequence) == "Welcome<|im_end|>\nhello<|im_end|>\n"


# ------------------------------------------------------------------------------------------------------------------- odd templates


def test_a_template_that_strips_reasoning_gives_one_rendering_per_turn() -> None:
    """Each learned turn is seen as it stood when it was the last one, reasoning and all; nothing is learned twice."""
    asked = renderer("stub", "reasoning")
    example = dialog(("user", "1?"), ("assistant", "<think>A</think>one"), ("user", "2?"), ("assistant", "<think>B</think>two"))
    first, second = asked.sequences(example)
    assert learned_text(asked, first) == "<think>A</think>one<|im_end|>\n"
    assert learned_text(asked, second) == "<think>B</think>two<|im_end|>\n"
    assert "<think>A" not in text_of(asked, second)
    last = dataclasses.replace(asked, learn="last")
    assert [learned_text(last, sequence) for sequence in last.sequences(example)] == [learned_text(asked, second)]


def test_marks_do_not_hide_that_reasoning_was_stripped() -> None:
    """A marked template that rewrites earlier turns would teach answers without their reasoning, unless rendered turn by turn."""
    marked = REASONING.replace("+ text }}<|im_end|>", "}}{% generation %}{{ text }}<|im_end|>{% endgeneration %}")
    asked = renderer("stub", marked)
    example = dialog(("user", "1?"), ("assistant", "<think>A</think>one"), ("user", "2?"), ("assistant", "<think>B</think>two"))
    learned = [learned_text(asked, sequence) for sequence in asked.sequences(example)]
    assert learned == ["<think>A</think>one<|im_end|>", "<think>B</think>two<|im_end|>"]


def test_a_template_that_refuses_says_why_and_where() -> None:
    """In training and in asking alike: the row's file and line, the template's own words, no traceback."""
    asked = renderer("stub", "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn, please') }}{% endif %}")
    example = dialog(("system", "s"), ("user", "u"), ("assistant", "a"))
    for attempt in (lambda: asked.sequences(example), lambda: asked.prompt(asked.task_of(example))):
        with pytest.raises(DataError, match=r"rows\.jsonl:7: .*refuses these messages.*no system turn, please"):
            attempt()


def test_a_template_that_does_not_continue_its_prompt_is_refused() -> None:
    """Pain 7: asked after "<think>", taught without it; the model would be asked in another form than it was taught in."""
    asked = renderer("stub", CHATML.replace("assistant{{ '\\n' }}", "assistant{{ '\\n<think>' }}"))
    with pytest.raises(DataError, match=r"rows\.jsonl:7: .*does not continue its own prompt at message 2"):
        asked.sequences(dialog(("user", "u"), ("assistant", "a")))


CALL = ToolCall(name="look_up", arguments={"city": "Zürich", "days": 2})


def test_calls_of_tools_are_learned_or_refused_but_never_dropped() -> None:
    """A template made without tools would turn the call into an empty answer, and the model would learn to say nothing (pain 1)."""
    calling = Message(role="assistant", content=content(""), tool_calls=(CALL,))
    example = Dialog(messages=(message("user", "weather?"), calling), tools=({"type": "function"},), origin=HERE)
    asked = renderer("stub", "plain")
    (sequence,) = asked.sequences(example)
    body = learned_text(asked, sequence).split("<tool_call>")[1].split("</tool_call>")[0]
    assert json.loads(body) == {"name": "look_up", "arguments": dict(CALL.arguments)}
    assert '{"type": "function"}' in text_of(asked, sequence)
    with pytest.raises(DataError, match=r"leaves out the call of a tool \(look_up\) in message 2"):
        renderer("stub", "chatml").sequences(example)


def test_the_likelihood_of_a_call_is_that_of_the_call() -> None:
    asked = renderer("stub", "plain")
    example = Dialog(messages=(message("user", "weather?"), Message("assistant", content(""), (CALL,))), origin=HERE)
    (sequence,) = asked.likelihood(asked.task_of(example))
    assert "look_up" in learned_text(asked, sequence)


def test_segments_know_their_text() -> None:
    asked = renderer("stub", "chatml")
    (rendered,) = render_dialog(asked.tokenizer, dialog(("user", "u"), ("assistant", "a")), [0.0, 1.0])
    assert rendered.text == "".join(segment.text for segment in rendered.segments)
    assert [segment.text for segment in rendered.segments if segment.weight] == ["a<|im_end|>\n"]


# -------------------------------------------------------------------------------------------------------------- windows of long texts

unicode = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@pytest.mark.parametrize("name", ["stub", "tokenizer_gpt2", "metaspace", "stories260K"])
@settings(max_examples=40, deadline=None)
@given(text=unicode, limit=st.integers(2, 40), end=st.booleans())
def test_windows_predict_each_token_once_and_add_up_to_the_text(name: str, text: str, limit: int, end: bool) -> None:
    """Any unicode: every token has one read-out in one window, and the bytes for bits per byte are the text's, no more, no less."""
    asked = renderer(name, "plain", max_length=limit)
    ids = asked.tokenizer(text, add_special_tokens=False)["input_ids"] + ([asked.tokenizer.eos_token_id] if end else [])
    windows = asked.windows(text, HERE, end=end)
    assert [int(token) for window in windows for token in window.target_N] == ids
    assert all(window.length <= limit and np.array_equal(window.target_N, window.tokens_T[window.at_N + 1]) for window in windows)
    assert all(window.weight_N.tolist() == [1.0] * len(window.at_N) for window in windows)
    assert windows[0].tokens_T[0] == asked.start_id()
    assert sum(window.text_bytes for window in windows) == (len(text.encode()) if ids[: len(ids) - end] else 0)
    for before, after in itertools.pairwise(windows):
        assert before.tokens_T[-1] == after.tokens_T[0], "the last token of a window is where the next one reads on"


def test_a_text_is_learned_to_its_end_and_measured_without() -> None:
    asked = renderer("stub", "plain")
    text = Text(text="Grüße", origin=HERE)
    (learned,) = asked.sequences(text)
    (measured,) = asked.likelihood(asked.task_of(text))
    assert learned.target_N[-1] == asked.tokenizer.eos_token_id
    assert asked.tokenizer.decode(measured.target_N.tolist()) == "Grüße"
    assert learned.text_bytes == measured.text_bytes == 7


# ------------------------------------------------------------------------------------------------------------------------ likelihood


@pytest.mark.parametrize("template", ["plain", "chatml", "marked", "headers"])
@pytest.mark.parametrize("name", ["stub", "tokenizer_gpt2"])
@settings(max_examples=20, deadline=None)
@given(question=texts, answer=answers)
def test_likelihood_reads_exactly_the_answer(name: str, template: str, question: str, answer: str) -> None:
    """The answer and its end of turn, after the same prompt that is asked; the bytes are the answer's, not those of marks."""
    asked = renderer(name, template, learn="last")
    task = asked.task_of(dialog(("user", "before"), ("assistant", "EARLIER"), ("user", question), ("assistant", answer)))
    (sequence,) = asked.likelihood(task)
    read = learned_text(asked, sequence)
    for mark in ("<|im_end|>", asked.tokenizer.eos_token):
        read = read.replace(mark, "")
    assert read in {answer, f" {answer}", f"{answer}\n"}
    assert "EARLIER" not in read
    prompt = asked.prompt(task)
    assert np.array_equal(sequence.tokens_T[: len(prompt)], prompt)
    assert sequence.at_N[0] == len(prompt) - 1 and set(sequence.weight_N.tolist()) == {1.0}
    if name == "stub":
        assert sequence.text_bytes - len(answer.encode()) in (0, 1)


def test_likelihood_reads_the_first_accepted_answer() -> None:
    asked = renderer("stub", "marked")
    task = Task(messages=(message("user", "q"),), expected=Expected(texts=("canonical", "also right")), origin=HERE)
    assert learned_text(asked, asked.likelihood(task)[0]) == "canonical<|im_end|>"
    with pytest.raises(DataError, match=r"rows\.jsonl:7: there is no expected answer"):
        asked.likelihood(dataclasses.replace(task, expected=Expected()))


# ------------------------------------------------------------------------------------------------------------------ too long for it


def test_within_drops_or_cuts_and_a_cut_row_keeps_its_readouts_inside() -> None:
    """Pain 8: what is too long is dropped or cut as the run says; a cut never leaves a read-out that points past the end."""
    asked = renderer("stub", "plain", max_length=40)
    short = asked.sequences(dialog(("user", "q"), ("assistant", "a")))
    long = asked.sequences(dialog(("user", "q"), ("assistant", "word " * 30)))
    assert short[0].length <= 40 < long[0].length
    assert asked.within([*short, *long], "drop") == short
    kept, cut = asked.within([*short, *long], "cut")
    assert kept is short[0]
    assert cut.length == 40 and int(cut.at_N.max()) == 38
    assert np.array_equal(cut.target_N, cut.tokens_T[cut.at_N + 1])
    question_only = asked.sequences(dialog(("user", "word " * 30), ("assistant", "a")))
    assert asked.within(question_only, "cut") == [], "a cut row that trains on nothing is not kept"


# --------------------------------------------------------------------------------------------------- what a row means as a question

ROWS: dict[str, tuple[Any, str, str]] = {
    "labelled": (Labelled(content=content("my card"), labels=("lost_card",), origin=HERE), "my card", "lost_card"),
    "several": (Labelled(content=content("my card"), labels=("b", "a"), several=True, origin=HERE), "my card", "b, a"),
    "no label": (Labelled(content=content("my card"), several=True, origin=HERE), "my card", "none"),
    "number": (Labelled(content=content("my card"), number=2.50, origin=HERE), "my card", "2.5"),
    "tagged": (
        Tagged(content=content("ab cd"), spans=(Span(3, 5, "Y"), Span(0, 2, "X")), origin=HERE),
        "ab cd",
        '[{"text": "ab", "label": "X"}, {"text": "cd", "label": "Y"}]',
    ),
    "answerable": (
        Answerable(question="who?", context="Ann did.", answers=((0, "Ann"), (0, "ann")), origin=HERE),
        "Ann did.\n\nwho?",
        "Ann",
    ),
    "unanswerable": (Answerable(question="who?", context="It rained.", answers=(), origin=HERE), "It rained.\n\nwho?", NOT_STATED),
    "pair": (
        Pair(
            prompt=(message("user", "q"),),
            chosen=(message("assistant", "good"),),
            rejected=(message("assistant", "bad"),),
            origin=HERE,
        ),
        "q",
        "good",
    ),
    "dialog": (dialog(("user", "q"), ("assistant", "a")), "q", "a"),
    "task": (Task(messages=(message("user", "q"),), expected=Expected(texts=("a", "b")), origin=HERE), "q", "a"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_is_taught_and_asked_as_the_same_question(kind: str) -> None:
    """Tuning and evaluation cannot drift apart: the prompt of the task is the beginning of what is imitated."""
    row, question, answer = ROWS[kind]
    asked = renderer("stub", "plain", frame=Frame(choices=("a", "b")))
    imitated, task = as_dialog(row, asked.frame), as_task(row, asked.frame)
    assert isinstance(imitated, Dialog)
    assert [plain(turn.content) for turn in imitated.messages] == [question, answer]
    assert task.messages == imitated.messages[:-1] and task.expected.texts[0] == answer
    assert task.origin == imitated.origin == HERE
    (sequence,) = asked.sequences(row)
    prompt = asked.prompt(task)
    assert np.array_equal(sequence.tokens_T[: len(prompt)], prompt)
    assert learned_text(asked, sequence) == f" {answer}<|eos|>"


def test_expectations_carry_what_scores_compare_with() -> None:
    frame = Frame(choices=("a", "b"))
    assert as_task(ROWS["several"][0], frame).expected.labels == ("b", "a")
    assert as_task(ROWS["labelled"][0], frame).expected.choices == ("a", "b")
    assert as_task(ROWS["number"][0], frame).expected.number == 2.5
    tagged = as_task(ROWS["tagged"][0], frame).expected
    assert tagged.spans == ROWS["tagged"][0].spans and tagged.source == "ab cd"
    assert as_task(ROWS["answerable"][0], frame).expected.texts == ("Ann", "ann")
    assert known_labels([ROWS["several"][0], ROWS["labelled"][0], ROWS["dialog"][0]]) == ("a", "b", "lost_card")


def test_a_plain_text_stays_a_text() -> None:
    text = Text(text="once", origin=HERE)
    assert as_dialog(text, Frame()) is text
    task = as_task(text, Frame())
    assert task.text == "once"
    again = as_dialog(task, Frame())
    assert isinstance(again, Text) and again.text == "once"


def test_rated_answers_are_asked_but_not_imitated() -> None:
    row = Rated(messages=(message("user", "q"), message("assistant", "bad")), rating=0.0, origin=HERE)
    with pytest.raises(DataError, match=r"rows\.jsonl:7: rated answers are not imitated"):
        as_dialog(row, Frame())
    assert [plain(turn.content) for turn in as_task(row, Frame()).messages] == ["q"]


def test_a_row_without_an_answer_cannot_be_compared() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:7: there is no assistant turn"):
        as_task(dialog(("user", "q")), Frame())
    with pytest.raises(DataError, match=r"rows\.jsonl:7: there is no expected answer"):
        as_dialog(Task(messages=(message("user", "q"),), expected=Expected(), origin=HERE), Frame())


def test_the_runs_system_prompt_stands_before_rows_that_bring_none() -> None:
    frame = Frame(system="Be brief.")
    own = as_dialog(dialog(("system", "mine"), ("user", "q"), ("assistant", "a")), frame)
    assert isinstance(own, Dialog) and plain(own.messages[0].content) == "mine" and len(own.messages) == 3
    for kind in ("labelled", "dialog", "pair", "answerable"):
        task = as_task(ROWS[kind][0], frame)
        assert [turn.role for turn in task.messages] == ["system", "user"]
        assert plain(task.messages[0].content) == "Be brief."


def test_a_prompt_template_is_filled() -> None:
    frame = Frame(prompt="Label as {labels}: {text} {{}}", choices=("a", "b"))
    assert plain(as_task(ROWS["labelled"][0], frame).messages[0].content) == "Label as a, b: my card {}"
    frame = Frame(prompt="Q {question} C {context}")
    assert plain(as_task(ROWS["answerable"][0], frame).messages[0].content) == "Q who? C Ann did."


@pytest.mark.parametrize(
    "prompt",
    [
        "no field",
        "{labels} only",
        "{other} {text}",
        "{text.__class__}",
        "{0}",
        "{}",
        "{text",
        "a } b {text}",
        "{text:d}",
        "{text!r}",
    ],
)
def test_a_prompt_template_that_cannot_be_filled_is_explained(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.prompt = "):
        Frame(prompt=prompt)


@given(texts)
def test_braces_in_the_data_are_text(text: str) -> None:
    """What a user wrote is put into the template, never read as one."""
    assert Frame(prompt="<{text}>").ask("{question} " + text) == "<{question} " + text + ">"
