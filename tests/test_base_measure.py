"""The measuring of the bundled base models, without a model: the 3-gram model is one, answers are judged rightly, pages are written."""

from __future__ import annotations

import importlib
import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish import config
from burnish.data.public import locate
from burnish.errors import DataError
from burnish.forgetting_answers import likeliest, says_not_stated
from burnish.prepare import registries
from burnish.scores import SCORES
from burnish.types import Answer

ROOT = Path(__file__).parent.parent
BASE = ROOT / "benchmarks" / "base"
VOCABULARY = 12


@pytest.fixture(autouse=True, scope="module")
def scripts() -> Iterator[None]:
    """Let the tests import the scripts of benchmarks/base, which is no package; their names, plain words, leave sys.modules again."""

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if BASE in Path(getattr(module, "__file__", None) or ".").parents:
                del sys.modules[name]

    forget()
    sys.path.insert(0, str(BASE))
    yield
    sys.path.remove(str(BASE))
    forget()


def script(name: str) -> Any:
    return importlib.import_module(name)


# --------------------------------------------------------------------------------------------------------------- the 3-gram model


def toy_texts(seed: int = 0, *, size: int = 400) -> list[np.ndarray]:
    """Texts in which a token often follows the one before it plus one; token 11 never occurs."""
    draw = np.random.default_rng(seed)
    texts = []
    for _ in range(4):
        steps = np.where(draw.random(size) < 0.8, 1, draw.integers(0, 7, size))
        texts.append(1 + np.cumsum(steps) % 9)
    return texts


def over_vocabulary(model: Any, before: tuple[int, int]) -> np.ndarray:
    tokens = np.arange(VOCABULARY)
    return model.probability(np.tile(before, (VOCABULARY, 1)), tokens)


@pytest.mark.parametrize("size", [3, 20, 400])
def test_probabilities_of_the_3_gram_model_sum_to_one_after_every_context(size: int) -> None:
    learn = script("ngram").learn

    model = learn(toy_texts(size=size), VOCABULARY, start=0)
    for before in [(first, second) for first in range(VOCABULARY) for second in range(VOCABULARY)]:
        found = over_vocabulary(model, before)
        assert found.sum() == pytest.approx(1.0, abs=1e-12)
        assert (found > 0).all(), "also a token that never occurred"


def test_the_3_gram_model_learns_what_follows_what() -> None:
    learn = script("ngram").learn

    model = learn(toy_texts(), VOCABULARY, start=0)
    unseen = toy_texts(seed=1)[0]
    assert model.bits(unseen) / len(unseen) < 2.5 < np.log2(VOCABULARY)
    assert over_vocabulary(model, (3, 4)).argmax() == 5


def test_a_token_that_follows_one_other_only_is_unlikely_elsewhere() -> None:
    """The point of Kneser-Ney: 7 is frequent, but always after 6; 5 is rarer, but after many."""
    learn = script("ngram").learn

    text = np.array([6, 7] * 60 + [1, 5, 2, 5, 3, 5, 4, 5, 8, 5, 9, 5])
    found = over_vocabulary(learn([text], VOCABULARY, start=0), (10, 10))
    assert found[5] > 2 * found[7]


def test_one_level_by_hand() -> None:
    """Contexts and counts so few that the discounts are the fallback ones: 1 -> 2 twice, 1 -> 3 once, after 1 and 1."""
    FALLBACK = script("ngram").FALLBACK
    learn = script("ngram").learn

    model = learn([np.array([1, 1, 2]), np.array([1, 1, 2]), np.array([1, 1, 3])], VOCABULARY, start=0)
    found = over_vocabulary(model, (1, 1))
    assert found[2] == pytest.approx((2 - FALLBACK[2]) / 3 + rest(FALLBACK) * model_below(model, 2))
    assert found[3] == pytest.approx((1 - FALLBACK[1]) / 3 + rest(FALLBACK) * model_below(model, 3))


def rest(discounts: tuple[float, ...]) -> float:
    """What the context (1, 1) leaves to the level below: the discounts of its two tokens over its three occurrences."""
    return (discounts[2] + discounts[1]) / 3


def model_below(model: Any, token: int) -> float:
    """The probability of a token after 1 alone, asked for through a context that never occurred."""
    return float(over_vocabulary(model, (9, 1))[token])


def test_discounts_stay_within_what_there_is_to_take() -> None:
    FALLBACK = script("ngram").FALLBACK
    discounts = script("ngram").discounts

    assert tuple(discounts(np.array([1, 1, 2]))) == FALLBACK
    found = discounts(np.array([1] * 40 + [2] * 15 + [3] * 8 + [4] * 5 + [9]))
    assert found[0] == 0
    assert all(0 < value < count for count, value in enumerate(found) if count)
    assert tuple(discounts(np.array([1] * 40 + [2] * 15 + [3] + [4] * 20))) == FALLBACK, "where the estimate is negative"


def test_a_text_costs_little_after_itself() -> None:
    gzip_bytes = script("ngram").gzip_bytes
    xz_bytes = script("ngram").xz_bytes

    text = bytes(np.random.default_rng(0).integers(97, 123, 4000, dtype=np.uint8))
    assert xz_bytes(text, after=text) < 0.05 * xz_bytes(text)
    assert gzip_bytes(text) < len(text)


# --------------------------------------------------------------------------------------------------------- what counts as right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("the harbour office", True),
        ("Harbour office.", True),
        (" a harbour  office", True),
        ("on Friday", True),
        ("harbour", False),
        ("", False),
        ("the harbour office in town", False),
    ],
)
def test_exact_match_ignores_case_articles_and_punctuation_only(answer: str, right: bool) -> None:
    asked = script("asking").asked

    task = asked("Where does she work?", ["the harbour office", "on Friday"], group="g")
    assert SCORES["exact_match"].statistics([Answer(text=answer)], [task])[0, 0] == float(right)


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ("The passage does not say.", True),
        ("The text doesn’t mention it", True),
        ("Not stated.", True),
        ("It is not mentioned in the passage.", True),
        ("That cannot be answered from the text.", True),
        ("There is no information on this.", True),
        ("six in the evening", False),
        ("Nobody had asked for it", False),
        ("not very old", False),
        ("", False),
    ],
)
def test_what_counts_as_saying_that_a_passage_is_silent(answer: str, refusal: bool) -> None:
    assert says_not_stated(answer) is refusal


def test_every_phrase_of_the_training_text_counts_as_saying_so() -> None:
    ABSENT = script("wording").ABSENT
    ABSENT_ANSWER = script("wording").ABSENT_ANSWER

    assert all(says_not_stated(phrase) for phrase in (*ABSENT, ABSENT_ANSWER))


def test_the_likeliest_choice_in_all_and_per_byte() -> None:
    asked = script("asking").asked

    task = asked("?", ["no"], group="g", choices=["no", "certainly"])
    costs = [Answer(nll=2.0, nll_tokens=1, nll_bytes=2), Answer(nll=4.0, nll_tokens=3, nll_bytes=9)]
    assert likeliest([task], costs, per_byte=False) == ["no"]
    assert likeliest([task], costs, per_byte=True) == ["certainly"]


def test_a_passage_is_found_in_every_layout_and_belongs_to_its_module() -> None:
    modules_of = script("measure_answers").modules_of
    passage_of = script("measure_answers").passage_of
    LAYOUTS = script("wording").LAYOUTS

    passage = "The old mill stood by the river. Nobody had worked there since the great flood of that year."
    for layout in LAYOUTS:
        blocks = [block for block in layout.split("\n\n") if "{passage}" not in block]
        bare = "\n\n".join(blocks or ["{question}"]).format(question="Where did the mill stand?")
        row = {"question": layout.format(passage=passage, question="Where did the mill stand?"), "bare": bare}
        assert passage_of(row) == passage, layout
    held_out = [{"module": "book/a", "text": "Mills"}, {"module": "book/b", "text": f"History\n\n{passage}"}]
    assert modules_of([passage, "Anna sells tea."], held_out) == ["book/b", "Anna sells tea."]


def test_openings_are_prose_of_forty_words_and_the_same_each_time() -> None:
    openings = script("measure_text").openings

    rows = [{"module": str(n), "text": f"Title\n\n## Heading\n\n- {'item ' * 50}\n\n{f'word{n} ' * 60}"} for n in range(20)]
    chosen = openings(rows, count=5)
    assert chosen == openings(rows, count=5)
    assert len(dict(chosen)) == 5
    assert all(text == " ".join([f"word{module}"] * 40) for module, text in chosen)
    assert openings([{"module": "a", "text": "Short."}], count=5) == []


# ------------------------------------------------------------------------------------------------------------------- the pages


def made_up(
    arms: list[str], sets: list[str], *, score: str | None = None, pairs: tuple[tuple[str, str], ...] = ()
) -> list[dict[str, Any]]:
    figures = script("asking").figures
    shares = script("asking").shares

    draw = np.random.default_rng(0)
    table = []
    for name in sets:
        values = {arm: shares(list(draw.random(30) < 0.6)) for arm in arms}
        table += figures(name, values, [str(number // 3) for number in range(30)], pairs=pairs)
    return [row | ({"score": score} if score else {}) for row in table]


@pytest.fixture
def measured() -> dict[str, Any]:
    """The result of a measuring, in full, of made-up figures."""
    both = ["tiny", "tiny-chat"]
    without = [f"{name} without the passage" for name in both]
    facts = {
        "given": "tiny", "parameters": 8_000_000, "context": 2048, "stored": [["model.safetensors", 16_000_000]], "numbers": "cpu, bfloat16",
        "hidden_size": 320, "num_hidden_layers": 6, "num_attention_heads": 5, "num_key_value_heads": 5, "intermediate_size": 896, "vocab_size": 8192,
    }  # fmt: skip
    example = [{"question": "Who | came?\n\nSay.", "expected": "Anna", "given": ""}]
    texts = made_up(["tiny, 512 tokens", "tiny-chat, 512 tokens"], ["held-out modules", "nursing books", "United States Code"])
    parts = {
        "text": {
            "figures": [
                *texts,
                {"set": "held-out modules", "arm": "gzip -9", "mean": 2.7, "low": None, "high": None, "n": 60, "groups": 60},
            ],
            "bytes": {"held-out modules": 700_000, "nursing books": 300_000, "United States Code": 300_001},
        },
        "reading": {
            "figures": made_up([*both, *without], ["generated questions"], pairs=(("tiny-chat", "tiny"),)),
            "kinds": made_up(both, ["when", "who (unseen)"]),
            "refusals": made_up(both, ["generated, answer in the passage"]),
            "examples": example,
            "max_tokens": 32,
        },
        "labels": {"figures": made_up(["tiny, likeliest label"], ["all"])},
        "instructions": {
            "figures": made_up(both, ["held-out instructions"], score="rouge_l", pairs=(("tiny-chat", "tiny"),)),
            "examples": example,
            "max_tokens": 64,
        },
        "choice": {"figures": made_up(["tiny, likeliest answer", "tiny-chat, likeliest answer"], ["all"])},
        "continuations": {"rows": [{"module": "a", "opening": "Once", "continuation": " upon\na time"}], "figures": []},
    }
    given = {"given": {"tiny": "tiny", "tiny-chat": "runs/x/model"}, "limit": None, "seconds": 1.0}
    return {"schema": 1, "models": dict.fromkeys(both, facts), "parts": {name: part | given for name, part in parts.items()}}


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """A run directory with as much of a finished training as the pages read."""
    folder = tmp_path / "run"
    folder.mkdir()
    report = {
        "steps": 4000, "tokens": 40_000_000, "seconds": 9000.0, "tokens_per_second": 4444.0, "technique": "full", "objective": "sft",
        "device": "cpu, weights float32, products bfloat16, 2 threads",
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps({"run": report}), "utf-8")
    sources = [
        {"name": "../runs/base/books.jsonl", "rows": 3203},
        {"name": "public:instruct_rasbt", "rows": 900},
        {"name": "dev.jsonl", "rows": 14},
    ]
    (folder / "data.json").write_text(json.dumps({"sources": sources, "sides": {"train": {"limit": 512}}}), "utf-8")
    (folder / "environment.json").write_text(json.dumps({"cpu": {"model": "A processor", "cores": 2}}), "utf-8")
    run_file = """score = ["bits_per_byte"]
[data]
source = [{source = "../runs/base/books.jsonl", weight = 2.0}, {source = "public:instruct_rasbt"}]
max_length = 512
[train]
batch = 24
optimizer = "muon"
learning_rate = 0.005
schedule = "cosine"
warmup = 0.02
weight_decay = 0.1
beta2 = 0.95
clip = 1.0
"""
    (folder / "run.toml").write_text(run_file, "utf-8")
    metrics = [{"step": 0, "dev": {"bits_per_byte": 3.2}}]
    for step in range(1, 101):
        metrics += [{"step": step, "tokens": step * 400_000, "loss": 3.0}, {"step": step, "dev": {"bits_per_byte": 2 - step / 200}}]
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(record) for record in metrics), "utf-8")
    return folder


def test_a_curve_is_thinned_but_begins_and_ends_where_it_did(finished_run: Path) -> None:
    curve_table = script("training_facts").curve_table
    read_training = script("training_facts").read_training

    training = read_training(finished_run)
    rows = curve_table([training])[2:-1]
    assert 10 <= len(rows) <= 22
    assert rows[0] == "| 0.0 | 3.200 |"
    assert rows[-1] == "| 40.0 | 1.500 |"
    assert len(set(rows)) == len(rows)
    assert curve_table([training, training])[-2] == "| 80.0 | 1.500 |", "a second stretch goes on where the first one ended"
    assert curve_table([replace(training, curve=())]) == []


def test_what_a_model_wrote_is_shown_as_it_is_and_leads_nowhere() -> None:
    as_prose = script("base_page").as_prose
    assert as_prose("see\n*this* <b> | [x](https://example.org/a_b)") == r"see \*this\* \<b\> \| \[x\] (example.org/a\_b)"
    assert as_prose(" \n") == ""


def test_the_page_holds_every_part_with_its_command_and_figures(measured: dict[str, Any], finished_run: Path) -> None:
    SECTIONS = script("base_page").SECTIONS
    cell = script("base_page").cell
    page = script("base_page").page
    read_training = script("training_facts").read_training

    text = page(measured, [read_training(finished_run)])
    for name, part in measured["parts"].items():
        assert f"--only {name} --chat runs/x/model --output" in text
        assert all(cell(row, signed=" minus " in row["arm"]) in text for row in part["figures"])
    assert "- held-out modules: tiny" not in text, "no difference where none was asked for"
    assert "> **Answered:** (nothing)" in text
    assert "| 40.0 | 1.500 |" in text
    assert "\n\n\n" not in text
    assert len(SECTIONS) == text.count("--only ")
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_pages_go_where_they_belong_and_only_figures_of_all_rows_into_them(
    measured: dict[str, Any], finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_page = script("base_page")

    monkeypatch.setattr(script("cards"), "trained_books", lambda: ["- A book (openstax/osbooks-a, 0123456789)"])
    for folder in ("docs", "src/burnish/assets/tiny", "src/burnish/assets/tiny-chat"):
        (tmp_path / folder).mkdir(parents=True)
    runs = {"tiny": [finished_run, finished_run], "tiny-chat": [finished_run]}
    written = base_page.write_pages(measured, tmp_path, runs=runs)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "docs/base_model.md", "src/burnish/assets/tiny/README.md", "src/burnish/assets/tiny-chat/README.md"
    ]  # fmt: skip
    tiny, chat = (path.read_text("utf-8") for path in written[1:])
    assert "8.0 M parameters" in tiny
    assert "openstax/osbooks-a" in tiny
    assert "`books.jsonl`, 3,203 rows, weight 2" in tiny
    assert "Apache-2.0" in chat
    assert "dev.jsonl" not in tiny, "rows that nothing was learned from"
    assert "optimizer muon, peak learning rate 0.005" in tiny
    assert "| tiny-chat |" not in tiny
    assert "tiny without the passage" in tiny
    assert "tiny without the passage" not in chat
    assert "{" not in tiny + chat
    assert "\n\n\n" not in tiny + chat
    assert tiny.index("nursing books") < tiny.index("generated questions") < tiny.index("held-out instructions")
    measured["parts"]["labels"]["limit"] = 10
    with pytest.raises(DataError, match=r"labels: measured with --limit"):
        base_page.write_pages(measured, tmp_path, runs=runs)
    with pytest.raises(DataError, match="finished run"):
        base_page.write_pages(measured | {"parts": {}}, tmp_path, runs=runs | {"tiny": [tmp_path]})


def test_the_list_of_books_leaves_out_what_was_not_trained_on() -> None:
    title = script("cards").title
    trained_books = script("cards").trained_books

    assert title("openstax/osbooks-principles-economics-bundle") == "Principles economics (several books)"
    assert title("openstax/osbooks-us-history") == "US history"
    try:
        folder = locate("openstax")
    except DataError as error:
        pytest.skip(str(error))
    if not (folder / "SOURCES.tsv").is_file():
        pytest.skip("openstax was fetched without SOURCES.tsv")
    books = trained_books()
    assert len(books) == 25
    assert not any("nursing" in line or "python" in line or "anatomy" in line for line in books)


def test_the_nursing_run_file_reads_what_the_script_writes() -> None:
    nursing = script("nursing")

    file = ROOT / "examples" / "nursing.toml"
    assert config.load(file, registries=registries()).config.output == "runs/nursing"
    run = tomllib.loads(file.read_text("utf-8"))
    assert f"python benchmarks/base/nursing.py {run['data']['source'].removeprefix('../')}" in (nursing.__doc__ or "")
    assert run["data"]["columns"] == {"group": "module"}
