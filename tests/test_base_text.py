"""The text and the generated reading tasks of the bundled base models: nothing held out is trained on, answers stand in their passages."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from burnish.data.public import locate
from burnish.errors import DataError

BASE = Path(__file__).parent.parent / "benchmarks" / "base"
NAMES = (
    "facts",
    "finding",
    "grammar",
    "invented",
    "kinds",
    "labels",
    "lists",
    "make",
    "patterns",
    "reading",
    "reading_more",
    "stories",
    "text",
    "wording",
    "words",
)
SENTENCES = (
    "In 1871, the Great Fire destroyed the harbor of Chicago.",
    "Isaac Newton discovered the law of gravity.",
    "A codon is a group of three bases that stands for one amino acid.",
    "The heart has four chambers.",
    "Merchants sold metals such as iron, copper, and zinc.",
    "The bridge closed in winter because the road was icy.",
    "The World Health Organization (WHO) published the report in 1995.",
)
COMMON = frozenset({"the", "a", "an", "metals", "codon", "heart", "fire", "merchants", "bridge", "law", "group"})


@pytest.fixture(scope="module")
def base() -> Iterator[dict[str, Any]]:
    """The modules of benchmarks/base, which is no package; they leave sys.modules again, since their names are plain words."""
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(BASE))
    try:
        loaded: dict[str, ModuleType] = {name: __import__(name) for name in NAMES}
        yield loaded
    finally:
        sys.path.remove(str(BASE))
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.fixture(scope="module")
def passages(base: dict[str, Any]) -> list[Any]:
    """Two passages that between them can be asked about in many kinds."""
    passage = base["text"].Passage
    return [
        passage(text=" ".join(part), sentences=tuple(part), module=f"us-history/m{number}", common=COMMON)
        for number, part in enumerate((SENTENCES, SENTENCES[:3], SENTENCES[3:]))
    ]


def found(base: dict[str, Any], passage: Any, kind: str) -> list[tuple[str, str]]:
    asked = base["reading_more"].GENERATORS[kind](passage, random.Random(0))
    return [(base["wording"].KINDS[kind].phrasings[0].format(**one.slots), one.answer) for one in asked]


@pytest.mark.parametrize(
    ("kind", "question", "answer"),
    [
        ("when", "When did the Great Fire destroy the harbor of Chicago?", "1871"),
        ("who", "Who discovered the law of gravity?", "Isaac Newton"),
        ("what-is", "What is a codon?", "a group of three bases that stands for one amino acid"),
        ("how-many", "How many chambers does the heart have?", "four"),
        ("list", "Which examples of metals are given?", "iron, copper, and zinc"),
        ("why", "Why did the bridge close in winter?", "because the road was icy"),
        ("stands-for", "What does WHO stand for?", "World Health Organization"),
        ("short-for", "What is the abbreviation for World Health Organization?", "WHO"),
    ],
)
def test_a_sentence_becomes_its_question(base: dict[str, Any], passages: list[Any], kind: str, question: str, answer: str) -> None:
    pairs = dict(found(base, passages[0], kind))
    assert pairs.get(question) == answer


def test_generators_depend_on_their_seed_only(base: dict[str, Any], passages: list[Any]) -> None:
    def run() -> list[Any]:
        return [base["make"].ask(kind, passages[0], passages[2], random.Random(3)) for kind in base["wording"].KINDS]

    assert run() == run()


def test_extractive_answers_stand_in_the_passage(base: dict[str, Any], passages: list[Any]) -> None:
    count = 0
    for seed in range(40):
        for kind, entry in base["wording"].KINDS.items():
            for one in base["make"].ask(kind, passages[0], passages[2], random.Random(seed)) if entry.extractive else ():
                assert one.answer.lower() in passages[0].text.lower(), (kind, one)
                count += 1
    assert count > 200


def test_every_kind_has_enough_wordings_and_a_third_is_held_out(base: dict[str, Any]) -> None:
    wording = base["wording"]
    tables = [entry.phrasings for entry in wording.KINDS.values()] + [wording.LAYOUTS, base["labels"].HEADS, base["labels"].LINES]
    for table in tables:
        assert len(table) == len(set(table)) >= 9
        assert 3 * len(wording.wordings(table, True)) == len(table)
        assert not set(wording.wordings(table, True)) & set(wording.wordings(table, False))
    kinds = [entry.held_out for entry in wording.KINDS.values()]
    assert len(kinds) >= 24
    assert 0.2 <= sum(kinds) / len(kinds) <= 0.4


def test_training_never_shows_held_out_kinds_wordings_and_frames(
    base: dict[str, Any], passages: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, invented, wording = base["make"], base["invented"], base["wording"]
    used: list[tuple[str, str]] = []

    def spy(kind: str, slots: dict[str, str], draw: random.Random, *, unseen: bool = False) -> str:
        chosen = wording.phrase(kind, slots, draw, unseen=unseen)
        assert not unseen
        used.append((kind, chosen))
        return chosen

    monkeypatch.setattr(make, "phrase", spy)
    draw = random.Random(0)
    for _ in range(60):
        make.questions(passages[0], passages[2], draw, count=5)
    assert used
    assert not [kind for kind, _ in used if wording.KINDS[kind].held_out]
    kept_back = {frame.name for frame in invented.frames(unseen=True)} | {f"facts {sort}" for sort in base["facts"].KEPT_BACK}
    assert kept_back
    assert not kept_back & {make.made_up(draw).frame for _ in range(400)}
    assert {make.made_up(draw, unseen=True).frame for _ in range(200)} <= kept_back


def test_prompts_use_only_the_layouts_asked_for(base: dict[str, Any]) -> None:
    wording = base["wording"]
    for unseen in (False, True):
        expected = {one.format(passage="PASSAGE", question="QUESTION?") for one in wording.wordings(wording.LAYOUTS, unseen)}
        for seed in range(80):
            prompt, bare = wording.layout("PASSAGE", "QUESTION?", random.Random(seed), unseen=unseen)
            assert prompt in expected
            assert "PASSAGE" not in bare
            assert "QUESTION?" in bare


def test_invented_answers_stand_in_their_text_and_values_differ(base: dict[str, Any]) -> None:
    assert len(base["invented"].FRAMES) >= 60
    for seed in range(3):
        for frame in base["invented"].FRAMES:
            made = base["invented"].filled(frame, random.Random(seed))
            assert not {"{", "}", "[", "]"} & set(made.text), frame.name
            assert all(answer.lower() in made.text.lower() for _, answer in made.pairs), frame.name
    for seed in range(150):
        for made in (base["facts"].facts_text(random.Random(seed)), base["stories"].story(random.Random(seed))):
            assert all(answer.lower() in made.text.lower() for _, answer in made.pairs), made
            assert not set(made.absent) & {question for question, _ in made.pairs}


def test_labels_are_new_words_and_the_answer_is_a_choice(base: dict[str, Any]) -> None:
    pool = {
        subject: [f"Sentence {number} about {subject} is here to be labelled by somebody." for number in range(9)]
        for subject in "abcd"
    }
    for seed in range(60):
        task = base["labels"].labelling(pool, random.Random(seed))
        assert task.answer in task.choices
        assert len(set(task.choices)) == len(task.choices) >= 2
        shown = "\n".join(message["content"] for message in task.messages)
        assert all(choice in shown for choice in task.choices)


def test_sentences_end_where_they_end(base: dict[str, Any]) -> None:
    cut = base["text"].sentences
    assert cut("Dr. Smith left the U.S. Army. He was tired.") == ["Dr. Smith left the U.S. Army.", "He was tired."]
    assert cut("It melts at 10.5 °C. It then boils.") == ["It melts at 10.5 °C.", "It then boils."]
    assert cut("“Stop!” Then he left.") == ["“Stop!”", "Then he left."]


def test_holes_of_the_conversion_are_mended(base: dict[str, Any]) -> None:
    tidy = base["text"].tidy_paragraph
    assert tidy("Cells grow (). They divide (see ).") == "Cells grow. They divide."
    assert tidy("The curve is shown in . It rises.") == "It rises."
    assert tidy("Trade grew, as shown in , for years.") == "Trade grew, for years."
    assert tidy("shows the parts. Each part moves.") == "Each part moves."
    assert tidy("Many fell ill with COVID-19 that year.") == ""


@pytest.fixture(scope="module")
def modules(base: dict[str, Any]) -> list[tuple[dict[str, str], bool]]:
    """Every fifteenth module, where the public set is on this machine."""
    try:
        locate("openstax")
    except DataError as problem:
        pytest.skip(str(problem))
    return list(base["text"].modules(itertools.islice(base["text"].openstax_rows("textbooks.jsonl.xz"), 0, None, 15)))


def test_no_module_is_trained_on_and_held_out(base: dict[str, Any], modules: list[tuple[dict[str, str], bool]]) -> None:
    text = base["text"]
    trained = {row["module"] for row, apart in modules if not apart}
    held = {row["module"] for row, apart in modules if apart}
    assert len(trained) > 150
    assert held
    assert not trained & held
    assert all(text.held_out(key) for key in held)
    assert not any(text.held_out(key) for key in trained)
    assert not any(text.held_out_for_choosing(key) and text.held_out(key) for key in trained | held)
    assert not any(book in key for key in trained | held for book in text.UNSEEN_BOOKS)
    assert not any(text.UNSEEN_TOPIC.search(row["text"]) for row, _ in modules)
