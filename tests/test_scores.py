"""What each score counts, compared with independent implementations and with answers worked out by hand."""

from __future__ import annotations

import json
import math
import re
import string
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from burnish.errors import ConfigError, RunError
from burnish.scores import SCORES, applicable, resolve, reward
from burnish.scores.labels import parse_labels
from burnish.scores.reading import DEEPEST, UNREADABLE, canonical, read_json, read_tool_calls
from burnish.types import Answer, Expected, Message, Origin, Span, Task, ToolCall, content


def task(expected: Expected, *, text: str | None = None, line: int = 1) -> Task:
    asked = () if text is not None else (Message("user", content("?")),)
    return Task(messages=asked, expected=expected, text=text, origin=Origin("rows.jsonl", line))


def value(name: str, pairs: list[tuple[str, Expected]], **options: object) -> float:
    """The value of a score over (answer, expected) pairs."""
    score = SCORES[name]
    answers, tasks = [Answer(text) for text, _ in pairs], [task(expected) for _, expected in pairs]
    return float(score.combine(score.statistics(answers, tasks, **options).sum(axis=0)))


def texts(*references: str) -> Expected:
    return Expected(texts=references)


# ------------------------------------------------------------------------------------------------------------------------- text

word = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "running", "quickly", "dog's", "blue-green", "Paris."])
phrase = st.lists(word, min_size=1, max_size=12).map(" ".join)


@settings(deadline=None)
@given(phrase, phrase)
def test_words_are_counted_as_squad_counts_them(reference: str, answer: str) -> None:
    def words(text: str) -> list[str]:
        bare = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", bare).split()

    expected, answered = words(reference), words(answer)
    assume(expected and answered)
    shared = sum((Counter(expected) & Counter(answered)).values())
    precision, recall = shared / len(answered), shared / len(expected)
    f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
    assert value("token_f1", [(answer, texts(reference))]) == pytest.approx(f1)
    assert value("exact_match", [(answer, texts(reference))]) == float(expected == answered)


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        ("The  Eiffel Tower!", "eiffel tower", True),
        ("3.5", "35", False),  # SQuAD's own normalisation calls these two equal
        ("-5", "5", False),
        (".5", "5", False),
        ("1,000", "1000", True),
        ("The", "", False),
        ("?", "!", False),
        ("cafe\u0301", "café", True),
        ("Paris", "London", False),
    ],
)
def test_exact_match_ignores_form_and_not_meaning(reference: str, answer: str, same: bool) -> None:
    assert value("exact_match", [(answer, texts(reference))]) == float(same)


def test_exact_match_can_be_strict() -> None:
    assert value("exact_match", [("the cat", texts("The cat"))], strict=True) == 0.0
    assert value("exact_match", [(" The cat\n", texts("The cat"))], strict=True) == 1.0


@pytest.mark.parametrize("name", ["exact_match", "token_f1", "rouge_l", "chrf", "bleu"])
def test_the_best_of_several_references_counts(name: str) -> None:
    assert value(name, [("a blue whale swims far", texts("nothing alike", "a blue whale swims far"))]) == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(phrase, phrase), min_size=1, max_size=6), st.integers(1, 5))
def test_bleu_of_summed_statistics_is_sacrebleus_corpus_bleu(pairs: list[tuple[str, str]], repeated: int) -> None:
    from sacrebleu.metrics.bleu import BLEU

    hypotheses, references = [left for left, _ in pairs], [right for _, right in pairs]
    oracle = BLEU(effective_order=True).corpus_score(hypotheses * repeated, [references * repeated]).score
    ours = value("bleu", [(left, texts(right)) for left, right in pairs] * repeated)
    assert ours == pytest.approx(oracle / 100, abs=1e-9)


def test_bleu_of_perfect_short_answers_is_one_and_not_zero() -> None:
    assert value("bleu", [("a b c", texts("a b c"))] * 3) == pytest.approx(1.0)


def test_bleu_is_over_the_corpus_and_not_a_mean_of_rows() -> None:
    good, bad = ("the cat sat on the mat", texts("the cat sat on the mat")), ("x " * 12, texts("the cat sat on the mat"))
    assert value("bleu", [good]) == pytest.approx(1.0)
    assert value("bleu", [bad]) == 0.0
    assert value("bleu", [good, bad]) < 0.35


def test_bleu_refuses_a_tokenizer_that_would_need_a_download() -> None:
    with pytest.raises(ConfigError, match=r"flores101.*expected one of 13a"):
        value("bleu", [("a", texts("a"))], tokenize="flores101")
    with pytest.raises(ConfigError, match="Did you mean 'char'"):
        value("bleu", [("a", texts("a"))], tokenize="chars")
    for tokenize in ("13a", "intl", "zh", "char", "none"):
        assert value("bleu", [("ein Haus, 3 Türen", texts("ein Haus, 3 Türen"))], tokenize=tokenize) == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(phrase, phrase, st.sampled_from([0, 2]))
def test_chrf_is_sacrebleus_sentence_chrf(reference: str, answer: str, word_order: int) -> None:
    import sacrebleu

    oracle = sacrebleu.sentence_chrf(answer, [reference], word_order=word_order).score
    assert value("chrf", [(answer, texts(reference))], word_order=word_order) == pytest.approx(oracle / 100)


sentence = st.lists(word.filter(lambda each: "." not in each), min_size=1, max_size=7).map(lambda words: " ".join(words) + ". ")
passage = st.lists(sentence, min_size=1, max_size=3).map("".join)


@settings(deadline=None, max_examples=40)
@given(passage, passage)
def test_rouge_l_is_rouge_scores_rouge_lsum_on_one_sentence_a_line(reference: str, answer: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeLsum"], use_stemmer=True)
    oracle = scorer.score(reference.replace(". ", ".\n"), answer.replace(". ", ".\n"))["rougeLsum"].fmeasure
    assert value("rouge_l", [(answer, texts(reference))]) == pytest.approx(oracle)


def test_rouge_l_sees_stems_and_scripts_other_than_latin() -> None:
    assert value("rouge_l", [("running", texts("runs"))]) == 1.0
    assert value("rouge_l", [("running", texts("runs"))], stem=False) == 0.0
    assert value("rouge_l", [("犬が走る", texts("猫は寝た"))]) == 0.0
    assert value("rouge_l", [("le café est fermé", texts("le café est ouvert"))]) == pytest.approx(0.75)


def test_a_model_that_never_stops_is_seen_in_the_stop_rate() -> None:
    """Pain 6: the end of turn was not learned, and only a user notices."""
    answers = [Answer("a", stopped=True), Answer("a b", stopped=False), Answer("", stopped=True), Answer("a", stopped=False)]
    statistics = SCORES["stop_rate"].statistics(answers, [task(texts("a"))] * 4)
    assert SCORES["stop_rate"].combine(statistics.sum(axis=0)) == 0.5


# ------------------------------------------------------------------------------------------------------------------------ labels

CHOICES = ("card_arrival", "Lost or stolen card", "top-up", "C", "C++", "1", "-1", "Yes, with limits")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("card_arrival", ("card_arrival",)),
        ("Card arrival.", ("card_arrival",)),
        ('"card-arrival"\n', ("card_arrival",)),
        ("**lost or  stolen card**", ("Lost or stolen card",)),
        ("Top up", ("top-up",)),
        ("c++", ("C++",)),
        ("c", ("C",)),
        ("-1", ("-1",)),
        ("1", ("1",)),
        ("Yes, with limits", ("Yes, with limits",)),
        ("c, yes, with limits, top-up", ("C", "Yes, with limits", "top-up")),
        ("- top-up\n- C", ("top-up", "C")),
        ('["top-up", 1, "c"]', ("top-up", "1", "C")),
        ('```json\n["top-up"]\n```', ("top-up",)),
        ("top-up, top-up", ("top-up",)),
        ("[]", ()),
        ("None.", ()),
        ("", None),
        ("the label is card_arrival", None),
        ("card_arrival because it is late", None),
        ("top-up, nonsense", None),
        ('["top-up", "nonsense"]', None),
        ("+1", None),
    ],
)
def test_an_answer_is_a_label_in_any_spelling_but_nothing_else(text: str, parsed: tuple[str, ...] | None) -> None:
    assert parse_labels(text, CHOICES) == parsed


def test_spellings_that_two_labels_share_are_no_label_unless_written_exactly() -> None:
    assert parse_labels("A b", ("a_b", "A-B", "c")) is None
    assert parse_labels("A-B", ("a_b", "A-B", "c")) == ("A-B",)


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True))
def test_every_label_names_itself(choices: list[str]) -> None:
    for label in choices:
        assume(label.strip())
        assume([other.strip() for other in choices].count(label.strip()) == 1)
        assert parse_labels(label, choices) == (label,)


def labelled(*labels: str) -> Expected:
    return Expected(texts=(", ".join(labels) or "none",), labels=labels, choices=("a", "b", "c"))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_accuracy_and_macro_f1_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import f1_score

    rows = [(answer, labelled(label)) for answer, label in pairs]
    answered, expected = [answer for answer, _ in pairs], [label for _, label in pairs]
    occurring = sorted((set(answered) | set(expected)) - {"x"})
    oracle = f1_score(expected, answered, labels=occurring, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    assert value("macro_f1", rows) == pytest.approx(oracle)
    assert value("accuracy", rows) == pytest.approx(np.mean([left == right for left, right in pairs]))
    assert value("label_parse_rate", rows) == pytest.approx(np.mean([answer != "x" for answer in answered]))


def test_the_wrong_label_and_no_label_are_told_apart() -> None:
    """Pain 9: a loss alone does not say whether the model chooses badly or does not follow the form."""
    wrong, formless = [("b", labelled("a"))] * 4, [("well, maybe a", labelled("a"))] * 4
    assert value("accuracy", wrong) == value("accuracy", formless) == 0.0
    assert value("label_parse_rate", wrong) == 1.0
    assert value("label_parse_rate", formless) == 0.0


def test_several_labels_are_right_as_a_set() -> None:
    assert value("accuracy", [("b, a", labelled("a", "b"))]) == 1.0
    assert value("accuracy", [("a", labelled("a", "b"))]) == 0.0
    assert value("accuracy", [("none", labelled()), ("a", labelled("a"))]) == 1.0
    assert value("macro_f1", [("a", labelled("a", "b"))]) == pytest.approx(0.5)


def test_none_is_no_label_where_every_row_has_one() -> None:
    assert value("label_parse_rate", [("none", labelled("a")), ("a", labelled("a"))]) == 0.5


def test_junk_is_worth_nothing_where_no_label_is_expected() -> None:
    assert value("macro_f1", [("zzz", labelled())]) == 0.0
    assert value("macro_f1", [("none", labelled())]) == 1.0


# ------------------------------------------------------------------------------------------------------------------------- spans

SOURCE = "Ann met Bob in Paris, and Ann left for Rome with Bob and Eve on Monday."
PIECES = [match.span() for match in re.finditer(r"\w+", SOURCE)]


def spans_of(places: list[tuple[int, str]]) -> tuple[Span, ...]:
    return tuple(Span(*PIECES[index], label) for index, label in places)


tags = st.lists(
    st.tuples(st.integers(0, len(PIECES) - 1), st.sampled_from(["person", "place"])), max_size=8, unique_by=lambda each: each[0]
).map(sorted)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(tags, tags), min_size=1, max_size=5))
def test_span_f1_equals_nervaluates_strict_micro_f1(rows: list[tuple[list[tuple[int, str]], list[tuple[int, str]]]]) -> None:
    from nervaluate import Evaluator

    assume(any(expected for expected, _ in rows))
    pairs, oracle_true, oracle_given = [], [], []
    for expected, answered in rows:
        items = [
            {"text": SOURCE[span.start : span.end], "label": span.label, "start": span.start, "end": span.end}
            for span in spans_of(answered)
        ]
        pairs.append((json.dumps(items), Expected(spans=spans_of(expected), source=SOURCE)))
        oracle_true.append([{"label": span.label, "start": span.start, "end": span.end} for span in spans_of(expected)])
        oracle_given.append([{"label": item["label"], "start": item["start"], "end": item["end"]} for item in items])
    evaluator = Evaluator(oracle_true, oracle_given, tags=["person", "place"], loader="dict")
    assert value("span_f1", pairs) == pytest.approx(evaluator.evaluate()["overall"]["strict"].f1)


def answered_spans(items: list[dict[str, object]], spans: tuple[Span, ...], **options: object) -> float:
    return value("span_f1", [(json.dumps(items), Expected(spans=spans, source=SOURCE))], **options)


def test_spans_without_offsets_match_each_occurrence_once() -> None:
    both = (Span(0, 3, "person"), Span(26, 29, "person"))
    assert answered_spans([{"text": "Ann", "label": "person"}] * 2, both) == 1.0
    assert answered_spans([{"text": "Ann", "label": "person"}], both) == pytest.approx(2 / 3)
    assert answered_spans([{"text": "Ann", "label": "person"}] * 3, both) == pytest.approx(4 / 5)
    assert answered_spans([{"text": " Ann ", "label": "Person"}], both[1:]) == 1.0
    placed = {"text": "Ann", "label": "person", "start": 0, "end": 3}
    assert answered_spans([placed, {"text": "Ann", "label": "person"}], both[:1]) == pytest.approx(2 / 3)


def test_offsets_decide_where_they_are_given_and_point_at_the_text() -> None:
    second = (Span(26, 29, "person"),)
    assert answered_spans([{"text": "Ann", "label": "person", "start": 0, "end": 3}], second) == 0.0
    assert answered_spans([{"text": "Ann", "label": "person", "start": 26, "end": 29}], second) == 1.0
    # models copy well and count badly: offsets at which something else stands are not believed
    assert answered_spans([{"text": "Ann", "label": "person", "start": 27, "end": 30}], second) == 1.0
    assert answered_spans([{"text": "Ann", "label": "person", "start": True, "end": 3}], second) == 1.0


def test_a_wrong_label_is_wrong_unless_labels_are_left_out() -> None:
    assert answered_spans([{"text": "Paris", "label": "person"}], (Span(15, 20, "place"),)) == 0.0
    assert answered_spans([{"text": "Paris"}], (Span(15, 20, "place"),), labels=False) == 1.0


def test_junk_earns_nothing_where_no_span_is_expected() -> None:
    empty = Expected(spans=(), source=SOURCE)
    answers, tasks = [Answer("[]"), Answer("sorry"), Answer('[{"text": "Ann", "label": "x"}]')], [task(empty)] * 3
    assert reward(SCORES["span_f1"], answers, tasks) == [1.0, 0.0, 0.0]


# ------------------------------------------------------------------------------------------------------------- what programs read

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "two  words", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
records = values.filter(lambda each: isinstance(each, (dict, list)))


def fields(expected: object, answered: object) -> float:
    return value("json_field_f1", [(json.dumps(answered), texts(json.dumps(expected)))])


@settings(deadline=None)
@given(records, records)
def test_json_fields_are_symmetric_and_full_for_equal_values_alone(left: object, right: object) -> None:
    assert fields(left, left) == 1.0
    assert fields(left, right) == pytest.approx(fields(right, left))
    assert 0.0 <= fields(left, right) <= 1.0


@settings(deadline=None)
@given(st.lists(values, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_list_does_not_count(items: list[object], random: object) -> None:
    shuffled = items.copy()
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    assert fields({"items": items}, {"items": shuffled}) == 1.0


def test_fields_of_different_list_elements_are_not_mixed_up() -> None:
    lines = [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}]
    swapped = [{"sku": "a", "count": 2}, {"sku": "b", "count": 1}]
    assert fields(lines, swapped) == 0.5


@pytest.mark.parametrize(
    ("expected", "answered", "f1"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, 0.5),
        ({"a": 1, "b": 2}, {"a": 1}, 2 / 3),
        ({"a": 1}, {"a": 1, "b": 2}, 2 / 3),
        ({"a": 1}, {"a": 1.0}, 1.0),
        ({"a": 1}, {"a": "1"}, 0.0),
        ({"a": 1}, {"a": True}, 0.0),
        ({"a": "two words"}, {"a": " two\n words"}, 1.0),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [2, 3]}}, 0.5),
        ({"a": []}, {"a": []}, 1.0),
        ({"a": []}, {"a": [1]}, 0.0),
    ],
)
def test_json_fields_worked_out_by_hand(expected: object, answered: object, f1: float) -> None:
    assert fields(expected, answered) == pytest.approx(f1)


def test_long_lists_are_compared_in_order_and_quickly() -> None:
    rows = [{"a": index} for index in range(300)]
    assert fields(rows, rows) == 1.0
    assert fields(rows, rows[::-1]) < 1.0


def test_json_valid_wants_json_and_nothing_else() -> None:
    reference = texts('{"a": 1}')
    valid = {
        text: value("json_valid", [(text, reference)])
        for text in ('{"b": []}', "[1]", "5", "{'a': 1}", '{"a": NaN}', '{"a": 1} ok')
    }
    assert valid == {'{"b": []}': 1.0, "[1]": 1.0, "5": 0.0, "{'a': 1}": 0.0, '{"a": NaN}': 0.0, '{"a": 1} ok': 0.0}
    fence = '```json\n{"a": 1}\n```'
    assert value("json_valid", [(fence, reference)]) == 0.0
    assert value("json_valid", [(fence, reference)], fenced=True) == 1.0
    assert value("json_field_f1", [(fence, reference)]) == 1.0


def test_json_is_read_to_a_bounded_depth() -> None:
    assert read_json("[" * DEEPEST + "]" * DEEPEST) is not UNREADABLE
    assert read_json("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2)) is UNREADABLE


@given(values)
def test_canonical_text_is_one_for_all_spellings_of_a_value(each: object) -> None:
    respelled = json.loads(json.dumps(each, indent=3))
    assert canonical(respelled) == canonical(each)
    if isinstance(each, dict):
        assert canonical(dict(reversed(each.items()))) == canonical(each)


CALL = '{"name": "weather", "arguments": {"city": "Paris", "days": 2}}'
EXPECTED_CALL = Expected(tool_calls=(ToolCall("weather", {"days": 2, "city": "Paris"}),))


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"[{CALL}]",
        f"```json\n{CALL}\n```",
        f"Let me look.\n<tool_call>\n{CALL}\n</tool_call>",
        f"<tool_call>{CALL}",
        f"[TOOL_CALLS] [{CALL}]",
        f"<|python_tag|>{CALL}",
        CALL.replace("arguments", "parameters"),
        '{"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Paris\\", \\"days\\": 2.0}"}}]}',
    ],
)
def test_calls_are_read_in_the_forms_that_models_write(text: str) -> None:
    """Pain 7: the form of a turn differs between training, evaluation and serving."""
    assert value("tool_call", [(text, EXPECTED_CALL)]) == 1.0


@pytest.mark.parametrize(
    "text",
    ["", "weather(Paris, 2)", CALL.replace("2", "3"), CALL.replace('"days"', '"day"'), CALL.replace("weather", "clock"), f"[{CALL}, {CALL}]",
     f"<tool_call>{CALL}</tool_call><tool_call>{{broken</tool_call>", f'{CALL[:-1]}, "name": 3}}'],
)  # fmt: skip
def test_a_call_is_right_only_as_a_whole(text: str) -> None:
    assert value("tool_call", [(text, EXPECTED_CALL)]) == 0.0


def test_names_of_tools_can_be_compared_alone() -> None:
    assert value("tool_call", [(CALL.replace("2", "3"), EXPECTED_CALL)], arguments=False) == 1.0


def test_where_no_call_is_expected_any_plain_answer_is_right() -> None:
    none = Expected(tool_calls=())
    assert value("tool_call", [("It is sunny.", none)]) == 1.0
    assert value("tool_call", [(CALL, none)]) == 0.0
    assert read_tool_calls("It is sunny.") == ()


def test_the_order_of_calls_does_not_count_and_their_number_does() -> None:
    two = (ToolCall("a", {"x": [1, 2]}), ToolCall("b", {}))
    expected = Expected(tool_calls=two)
    written = [json.dumps({"name": call.name, "arguments": dict(call.arguments)}) for call in two]
    assert value("tool_call", [(f"[{written[1]}, {written[0]}]", expected)]) == 1.0
    assert value("tool_call", [(f"[{written[0]}]", expected)]) == 0.0
    assert value("tool_call", [(f"[{written[1]}, {written[0].replace('[1, 2]', '[2, 1]')}]", expected)]) == 0.0


# -------------------------------------------------------------------------------------------------------------------- likelihood


def test_perplexity_and_bits_per_byte_are_over_the_corpus_and_not_means_of_rows() -> None:
    """Pain 25: a mean of means weighs the tokens of short rows more."""
    answers = [Answer(nll=2.0, nll_tokens=1, nll_bytes=4), Answer(nll=30.0, nll_tokens=99, nll_bytes=400)]
    tasks = [task(texts("abcd")), task(Expected(), text="x" * 400)]
    perplexity, bits = SCORES["perplexity"], SCORES["bits_per_byte"]
    assert perplexity.combine(perplexity.statistics(answers, tasks).sum(axis=0)) == pytest.approx(math.exp(32 / 100))
    assert bits.combine(bits.statistics(answers, tasks).sum(axis=0)) == pytest.approx(32 / math.log(2) / 404)


def test_a_uniform_guess_over_256_bytes_is_eight_bits_per_byte_and_perplexity_256() -> None:
    answers, tasks = [Answer(nll=10 * math.log(256), nll_tokens=10, nll_bytes=10)], [task(texts("0123456789"))]
    assert SCORES["bits_per_byte"].combine(SCORES["bits_per_byte"].statistics(answers, tasks)[0]) == pytest.approx(8.0)
    assert SCORES["perplexity"].combine(SCORES["perplexity"].statistics(answers, tasks)[0]) == pytest.approx(256.0)


def test_perplexity_beyond_float64_is_infinite_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SCORES["perplexity"].combine(np.array([1e6, 1.0])) == math.inf
        assert math.isnan(SCORES["perplexity"].combine(np.array([0.0, 0.0])))


# --------------------------------------------------------------------------------------------------------------- names and choice


def test_a_mistyped_score_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown score 'acuracy'\. Did you mean 'accuracy'\?"):
        resolve("acuracy")
    with pytest.raises(ConfigError, match="module:function"):
        resolve("")
    assert resolve("chrf") is SCORES["chrf"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_private_scores.py").write_text(
        '"""Private."""\n'
        "def politeness(answers, tasks, *, word='please'):\n"
        '    """Share of answers that say please."""\n'
        "    return [word in answer.text for answer in answers]\n"
        "def short(answers, tasks):\n    return [1.0]\n"
        "def odd(answers, tasks):\n    return [float('nan') for _ in answers]\n"
        "def broken(answers, tasks):\n    return [answer.words for answer in answers]\n"
        "number = 3\n"
    )
    (tmp_path / "my_broken_scores.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    return "my_private_scores"


def test_a_private_function_becomes_a_mean_with_its_options_and_words(module: str) -> None:
    import inspect

    score = resolve(f"{module}:politeness")
    answers, tasks = [Answer("please do"), Answer("do"), Answer("thanks")], [task(texts("x"))] * 3
    assert score.combine(score.statistics(answers, tasks).sum(axis=0)) == pytest.approx(1 / 3)
    assert reward(score, answers, tasks, word="thanks") == [0.0, 0.0, 1.0]
    assert score.statistics.__doc__ == "Share of answers that say please."
    assert "word" in inspect.signature(score.statistics).parameters


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_private_scores:polite", "Did you mean 'politeness'"),
        ("my_private_scores:number", "cannot be called"),
        ("my_absent_scores:any", "no module named 'my_absent_scores'"),
        ("my_broken_scores:any", "ZeroDivisionError"),
        ("my_private_scores:", "not of the form"),
        (":politeness", "not of the form"),
    ],
)
def test_a_private_score_that_cannot_be_found_is_said_plainly(module: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("short", "1 numbers for 2 answers"),
        ("odd", r"not a finite number for 2 answers.*rows\.jsonl:1"),
        ("broken", "AttributeError"),
    ],
)
def test_a_private_score_that_fails_is_a_failed_run_with_its_reason(module: str, name: str, said: str) -> None:
    score = resolve(f"{module}:{name}")
    with pytest.raises(RunError, match=said):
        score.statistics([Answer("a"), Answer("b")], [task(texts("x"))] * 2)


@pytest.mark.parametrize(
    ("expected", "text", "names"),
    [
        (labelled("a"), None, ["accuracy", "macro_f1", "label_parse_rate", "stop_rate"]),
        (Expected(texts=("[]",), spans=(), source="x"), None, ["span_f1", "stop_rate"]),
        (EXPECTED_CALL, None, ["tool_call", "stop_rate"]),
        (texts('{"a": 1}'), None, ["json_field_f1", "json_valid", "stop_rate"]),
        (texts("Paris"), None, ["exact_match", "token_f1", "stop_rate"]),
        (texts("word " * 40), None, ["rouge_l", "chrf", "stop_rate"]),
        (texts("字" * 300), None, ["rouge_l", "chrf", "stop_rate"]),
        (texts("whole text"), "whole text", ["bits_per_byte", "perplexity"]),
        (Expected(), None, ["stop_rate"]),
    ],
)
def test_every_kind_of_task_has_a_metric_of_its_own_by_default(expected: Expected, text: str | None, names: list[str]) -> None:
    """Pain 9: evaluation shows only a loss."""
    assert applicable([task(expected, text=text)] * 3) == names


def test_the_commonest_kind_of_task_leads_and_a_rare_one_adds_nothing() -> None:
    free, record, label = task(texts("word " * 40)), task(texts('{"a": 1}')), task(labelled("a"))
    assert applicable([free] * 60 + [label] * 35 + [record] * 5) == [
        "rouge_l", "chrf", "accuracy", "macro_f1", "label_parse_rate", "stop_rate",
    ]  # fmt: skip
    assert applicable([]) == []
