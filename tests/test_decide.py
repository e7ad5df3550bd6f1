"""`burnish decide` from run file to report on the stub: every arm, what is refused, what is reused, what a failing arm leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from burnish import api, retrieval_store
from burnish.decide.arms import ARMS
from burnish.decide.bench import Bench, Setting, gold, help_for
from burnish.decide.bench_open import corpus_fits, open_bench
from burnish.decide.prompts import Help, fit, put
from burnish.decide.protocol import Item, closed_book, divide, refuse_leaks
from burnish.decide.report import page
from burnish.decide.search import INSTRUCTIONS, choose
from burnish.decide.update import changed_facts
from burnish.decide.weights import training_help, write_rows
from burnish.decide.words import sentences
from burnish.errors import DataError, Stopped
from burnish.gather import gather
from burnish.prepare import prepare
from burnish.types import plain
from cli_runs import cli, refused
from stub import make_stub

# By name: once the Python interface is imported, `burnish.decide` is the verb and not the package.
carry_out_module = import_module("burnish.decide.carry_out")

TOWNS = ("Alder", "Birch", "Cedar", "Dorn", "Elm", "Fern", "Gorse", "Hazel", "Iris", "Juniper", "Kelp", "Lime")
THINGS = ("bridge", "tower", "mill", "gate", "square")
COLOURS = ("blue", "green", "red", "grey", "black", "yellow", "brown", "white", "pink", "violet", "orange", "silver")


def squad(path: Path) -> Path:
    """Write questions on documents of their own: what colour something in a town is."""
    documents = []
    for place, town in enumerate(TOWNS):
        text, rows = f"{town} is a town by the sea.", []
        for number, thing in enumerate(THINGS):
            colour = COLOURS[(place * 5 + number * 7) % len(COLOURS)]
            sentence = f" The {thing} of {town} is {colour}."
            rows.append(
                {
                    "id": f"{town}{thing}",
                    "question": f"What colour is the {thing} of {town}?",
                    "answers": [{"text": colour, "answer_start": len(text) + sentence.index(colour)}],
                }
            )
            text += sentence + " People like it and often talk about it when they meet."
        documents.append({"paragraphs": [{"context": text, "qas": rows, "document_id": place}]})
    path.write_text(json.dumps({"data": documents}), encoding="utf-8")
    return path


SOME = ["zero_shot", "few_shot_fixed", "few_shot_nearest", "retrieval_bm25", "retrieval_fused", "tuned", "gold_passage", "majority"]

RUN = """
model = "{model}"
output = "{output}"
score = ["exact_match", "token_f1"]
threads = 1
data = {{source = "{rows}", dev_share = 0.15, test_share = 0.25, near_duplicates = false}}
train = {{epochs = 1, batch = 8, learning_rate = 1e-3}}
evaluate = {{max_tokens = 4, baseline = false, forgetting = false}}
log = {{tensorboard = false}}

[decide]
trials = 1
examples = [1, 2]
passages = [1, 2]
passage_size = 20
probe_rows = 4
facts = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stub, rows with documents and a run file."""
    folder = tmp_path_factory.mktemp("decide")
    model, rows = make_stub(folder / "stub"), squad(folder / "rows.json")
    (folder / "run.toml").write_text(RUN.format(model=model, output=folder / "out", rows=rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def decided(folder: Path) -> dict[str, Any]:
    """A decision made through the command line, once, with an arm that fails."""
    patch = pytest.MonkeyPatch()
    real = carry_out_module.carry_out

    def carry_out(bench: Bench, name: str, *rest: Any) -> Any:
        if name == "few_shot_fixed":
            raise RuntimeError("no memory")
        return real(bench, name, *rest)

    patch.setattr(carry_out_module, "carry_out", carry_out)
    done = cli("decide", folder / "run.toml", f"decide.arms={json.dumps(SOME)}", folder=folder)
    patch.undo()
    assert done.code == 0, done.err
    return {"done": done, "decision": json.loads((folder / "out/decision.json").read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def bench(folder: Path) -> Bench:
    """What all arms stand on, nothing carried out."""
    resolved = api.resolve(folder / "run.toml")
    gathered = gather(resolved.config, folder)
    rows = divide(gathered, resolved.config, base=folder)
    plan = prepare(closed_book(resolved, gathered, folder / "bench"))
    return open_bench(plan, rows, folder / "bench")[0]


# ------------------------------------------------------------------------------------------------------------ rows, prompts, passages


def test_held_out_questions_are_of_new_documents_or_of_seen_ones(bench: Bench) -> None:
    learned = {item.document for item in bench.rows.train}
    asked = {item.id for item in [*bench.rows.train, *bench.rows.dev]}
    strata = {stratum: [item for item in bench.rows.test if item.stratum == stratum] for stratum in ("seen", "new")}
    assert all(item.document in learned for item in strata["seen"]) and strata["seen"]
    assert all(item.document not in learned for item in strata["new"]) and strata["new"]
    assert not asked & {item.id for item in bench.rows.test}
    names = {document.name for document in bench.rows.documents}
    assert {item.document for item in bench.rows.test} <= names and len(names) == len(TOWNS)


def test_an_arm_with_retrieval_differs_by_the_passages_alone(bench: Bench) -> None:
    """Without its passages the prompt is, byte for byte, that of the arm without retrieval; training prompts come from the same function."""
    setting = Setting(instruction="Answer briefly.", passages=2)
    for item in bench.rows.test:
        given = help_for(bench, ARMS["retrieval_bm25"], setting, item)
        assert given.passages
        with_passages, without = (plain(put(item, one).messages[-1].content) for one in (given, replace(given, passages=())))
        for passage in given.passages:
            with_passages = with_passages.replace(f"{passage}\n\n", "", 1)
        assert with_passages == without
        assert put(item, Help()) == item.task
    file = write_rows(bench, ARMS["tuned"], Setting(), bench.rows.train, bench.folder / "rows.jsonl")
    written = [json.loads(line)["messages"] for line in file.read_text(encoding="utf-8").splitlines()]
    expected = [
        [
            *({"role": turn.role, "content": plain(turn.content)} for turn in item.task.messages),
            {"role": "assistant", "content": item.answer},
        ]
        for item in bench.rows.train
    ]
    assert written == expected


def test_training_with_passages_shows_the_right_one_in_most_rows_and_never_always(bench: Bench) -> None:
    arm, setting = ARMS["tuned_on_context"], Setting(passages=2)
    shown = [
        any(item.answer in text for text in training_help(bench, arm, setting, item, place).passages)
        for place, item in enumerate(bench.rows.train * 4)
    ]
    assert 0.6 < sum(shown) / len(shown) < 1.0


def town(item: Item) -> str:
    return item.question.split()[-1].rstrip("?")


def test_gold_passages_hold_the_answer_and_wrong_ones_do_not(bench: Bench) -> None:
    assert bench.index is not None
    for item in bench.rows.test:
        places = gold(bench, item)
        assert any(item.answer in bench.index.passages[place].text for place in places)
        for name, holds in (("gold_passage", True), ("wrong_passages", False)):
            passages = help_for(bench, ARMS[name], Setting(), item).passages
            assert any(f"The {item.question.split()[4]} of {town(item)} is {item.answer}" in text for text in passages) == holds
        hidden = help_for(bench, ARMS["retrieval_bm25"], Setting(passages=3), item, without_document=True).passages
        assert hidden and not any(town(item) in text for text in hidden)


@pytest.mark.parametrize("layout", ["turns", "inline"])
def test_prompts_fit_whatever_is_asked_for(bench: Bench, layout: Any) -> None:
    for item in bench.rows.test[:4]:
        wanted = Help("Answer.", tuple(bench.rows.train), tuple(one.text for one in bench.rows.documents), layout)
        given = fit(item, wanted, tokens=bench.tokens, room=bench.room)
        assert bench.tokens(put(item, given)) <= bench.room
        assert given.passages and given.passages[0] == wanted.passages[0]


def test_the_whole_corpus_is_an_arm_where_it_fits(bench: Bench) -> None:
    short = [replace(one, text=one.text[:60]) for one in bench.rows.documents[:2]]
    small = replace(bench, rows=replace(bench.rows, documents=short))
    assert corpus_fits(small) and not corpus_fits(bench)
    shown = help_for(small, ARMS["whole_corpus"], Setting(), bench.rows.test[0]).passages
    assert shown == tuple(one.text for one in short)


def test_nearest_examples_never_hold_the_question_itself(bench: Bench) -> None:
    for item in bench.rows.train[:6]:
        examples = help_for(bench, ARMS["few_shot_nearest"], Setting(examples=3), item).examples
        assert len(examples) == 3 and item.id not in {one.id for one in examples}


def test_the_leak_canary_fires(bench: Bench) -> None:
    rows = bench.rows
    refuse_leaks(rows.train, rows.dev, rows.test)
    with pytest.raises(DataError, match="held out and nearly the same"):
        refuse_leaks([*rows.train, rows.test[0]], rows.dev, rows.test)
    louder = replace(rows.test[0], question=rows.test[0].question.upper())
    with pytest.raises(DataError, match="nearly the same"):
        refuse_leaks(rows.train, [louder], rows.test)


def test_changed_facts_stand_in_the_changed_documents_alone(bench: Bench) -> None:
    changes, documents = changed_facts(bench, 3)
    assert len(changes) == 3 and len({one.name for one in documents}) == 3
    texts = {one.name: one.text for one in documents}
    for change in changes:
        text = texts[str(change.after.document)]
        assert change.before.answer != change.after.answer
        assert change.after.answer in text and f" {change.before.answer}." not in text
        assert change.neighbours and all(one.document == change.before.document for one in change.neighbours)
        assert all(change.before.answer != one.answer and one.id != change.before.id for one in change.neighbours)


@pytest.mark.parametrize("trials", [1, 2, 5, 20])
def test_a_searched_prompt_keeps_to_its_trials_and_takes_the_best(bench: Bench, trials: int) -> None:
    worth = {"": 0.2, INSTRUCTIONS[0]: 0.1, INSTRUCTIONS[1]: 0.4}

    def measure(setting: Setting) -> float:
        return worth.get(setting.instruction, 0.3) + 0.01 * setting.examples - 0.005 * (setting.layout == "inline")

    best, ledger = choose(bench, ARMS["optimised_prompt"], trials=trials, measure=measure)
    assert len(ledger.trials) <= trials
    assert measure(best) == pytest.approx(max(trial["value"] for trial in ledger.trials))
    if trials == 20:
        assert best.instruction == INSTRUCTIONS[1] and best.examples == max(bench.settings.examples) and best.layout == "turns"


def test_every_arm_has_its_trials_and_of_equals_takes_the_plainest(bench: Bench) -> None:
    seen: list[str] = []

    def measure(setting: Setting) -> float:
        seen.append(setting.told())
        return 0.0

    for name in ("few_shot_fixed", "few_shot_nearest", "retrieval_bm25"):
        seen.clear()
        best, ledger = choose(bench, ARMS[name], trials=3, measure=measure)
        assert len(seen) == len(set(seen)) == len(ledger.trials) == 3
        assert best.told() == seen[0]


# --------------------------------------------------------------------------------------------------------------- a whole decision


def test_a_failing_arm_takes_nothing_from_the_others(decided: dict[str, Any]) -> None:
    decision = decided["decision"]
    assert decision["failed"] == {"few_shot_fixed": "RuntimeError: no memory"}
    assert set(decision["arms"]) == set(SOME) - {"few_shot_fixed", "retrieval_fused"}
    assert "embed" in decision["left_out"]["retrieval_fused"]
    assert "few-shot, fixed: failed" in decided["done"].out


def test_figures_have_rows_and_every_arm_the_same_effort(decided: dict[str, Any]) -> None:
    decision = decided["decision"]
    for name, arm in decision["arms"].items():
        assert arm["scores"]["exact_match"]["n"] == decision["rows"]["test"], name
        assert sum(arm["errors"].values()) == decision["rows"]["test"]
        assert arm["ledger"]["trials"] <= decision["trials"]
        assert arm["ledger"]["labels"] in (0, decision["rows"]["train"])
    assert decision["recommendation"]["label"] == "provisional" and decision["arms"][decision["recommendation"]["arm"]]["offered"]
    assert any("fewer than 100" in sentence for sentence in decision["sentences"])
    assert any("So few rows show differences of about 29 points" in sentence for sentence in decision["sentences"])
    ways = {(way["arm"], way["way"]) for way in decision["update"]["ways"]}
    assert ("retrieval_bm25", "documents indexed anew") in ways and len([arm for arm, _ in ways if arm == "tuned"]) == 2
    assert [size["rows"] for size in decision["data_need"]["sizes"]][-1] == decision["rows"]["train"]


def test_what_is_finished_is_reused_and_other_rows_are_refused(folder: Path, decided: dict[str, Any]) -> None:
    arms = json.dumps([name for name in SOME if name not in ("few_shot_fixed", "retrieval_fused")])
    again = cli("decide", folder / "run.toml", f"decide.arms={arms}", "decide.facts=0", folder=folder)
    assert again.code == 0 and again.err.count("kept from before") == 6
    decision = json.loads((folder / "out/decision.json").read_text(encoding="utf-8"))
    for name, arm in decision["arms"].items():
        assert arm["scores"] == decided["decision"]["arms"][name]["scores"]
    other = cli("decide", folder / "run.toml", "seed=1", folder=folder)
    assert other.code == 2 and "other held-out rows" in other.message


def test_the_page_is_one_file_and_hostile_text_is_text(decided: dict[str, Any]) -> None:
    decision = json.loads(json.dumps(decided["decision"]))
    decision["name"] = "<script>alert(1)</script>"
    decision["failed"] = {"tuned": '"><img src=x onerror=alert(1)>'}
    text = page(decision)
    assert "After an update of 1 fact" in text and "documents indexed anew" in text and "examples added" in text
    assert "<script" not in text and "<img" not in text and "http" not in text.replace("http-equiv", "")
    assert text.count("<svg") >= 3 and "prefers-color-scheme: dark" in text and "width=device-width" in text


# ---------------------------------------------------------------------------------------------------------------------- bad input


def test_what_cannot_be_decided_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ways.jsonl").write_text(json.dumps({"question": "Who?", "paraphrases": ["What person?"]}) + "\n")
    cases = {
        ("decide.arms=['tunned']",): "tuned",
        ("objective=qa",): "classification",
        ("data.dev_share=0.0",): "dev rows",
        ("data.test_share=0.0",): "held out",
        ("decide.margn=0.1",): "margin",
        (f"decide.paraphrases={tmp_path / 'ways.jsonl'}",): "none of its 1 questions",
    }
    for overrides, expected in cases.items():
        done = cli("decide", folder / "run.toml", f"output={tmp_path / expected}", *overrides, folder=tmp_path)
        assert done.code == 2 and expected in done.message, (overrides, done.err)
        assert not (tmp_path / expected / "decision.json").exists()


def test_documents_that_cannot_be_read_are_named_and_counted(folder: Path, tmp_path: Path) -> None:
    """All of them at once: one that is left out in silence would be held against retrieval."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "good.md").write_text("The gate of Alder is blue, as everybody who has been there knows well.")
    for name in ("bad.pdf", "worse.docx"):
        (docs / name).write_bytes(b"neither")
    done = cli("decide", folder / "run.toml", f"output={tmp_path / 'out'}", f"decide.documents={docs}", folder=tmp_path)
    refused(done, "documents that cannot be read", "bad.pdf", "worse.docx", "2 problems")
    assert not (tmp_path / "out/decision.json").exists()


def test_without_documents_there_is_no_retrieval_and_it_is_said(labels: Path) -> None:
    """Rows without contexts, and no documents: prompting and tuning are compared all the same."""
    decision = json.loads((labels / "out/decision.json").read_text(encoding="utf-8"))
    assert "there are no documents" in decision["left_out"]["retrieval_bm25"] and decision["documents"]["documents"] == 0
    assert {"zero_shot", "tuned"} <= decision["arms"].keys() and decision["update"] is None
    empty = labels / "nothing"
    empty.mkdir()
    done = cli("decide", labels / "run.toml", f"output={labels / 'out2'}", f"decide.documents={empty}", folder=labels)
    assert done.code == 2 and "nothing" in done.message


def test_fewer_than_a_hundred_rows_are_allowed_and_provisional(decided: dict[str, Any]) -> None:
    decision = decided["decision"]
    assert decision["rows"]["test"] < 100 and decision["recommendation"]["label"] == "provisional"
    assert any("fewer than 100" in sentence for sentence in decision["sentences"])
    least = 100 * decision["detectable"]["formula_at_20_percent_discordant"]
    assert any(f"differences of about {least:.0f} points" in sentence for sentence in decision["sentences"])


def test_held_out_rows_found_in_training_data_are_refused(tmp_path: Path, folder: Path) -> None:
    """Through the command line: the same question on both sides, however it is spelled, ends it with both places."""
    rows = [{"question": f"What colour is the {thing} of {town}?", "answer": "blue"} for town in TOWNS for thing in THINGS]
    copied = [*rows[50:], {**rows[0], "question": rows[0]["question"].upper()}]
    for side, some in (("train", rows[:40]), ("dev", rows[40:50]), ("test", copied)):
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    sides = "{source = 'train.jsonl', dev = 'dev.jsonl', test = 'test.jsonl', near_duplicates = false}"
    file = tmp_path / "run.toml"
    file.write_text(f'model = "{folder / "stub"}"\noutput = "{tmp_path / "out"}"\ndata = {sides}\nscore = ["exact_match"]\n')
    done = cli("decide", file, folder=tmp_path)
    refused(done, r"test.jsonl:11 .*train.jsonl:1", code=2)
    assert not (tmp_path / "out/decision.json").exists()


def test_tuning_that_brought_the_form_alone_is_told() -> None:
    decision = told(zero_shot=0.2, tuned=0.6)
    for lenient, said in (((0.6, 0.61), True), ((0.3, 0.62), False)):
        for name, value in zip(("zero_shot", "tuned"), lenient, strict=True):
            decision["arms"][name]["lenient"] = {"mean": value}
        assert any("learned the form, not the facts" in sentence for sentence in sentences(decision)) is said


def test_a_base_that_is_perfect_or_hopeless_is_told_first() -> None:
    perfect = sentences(told(zero_shot=1.0, tuned=1.0))
    assert "nothing left to gain" in perfect[0] and "Prompting is enough" in perfect[1]
    hopeless = sentences(told(zero_shot=0.0, tuned=0.01, retrieval_bm25=0.0))
    assert "Nothing works with this model" in hopeless[0] and not any("is enough" in sentence for sentence in hopeless)


def test_an_interrupted_decision_goes_on_where_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the third arm: nothing is reported, and the next start takes the first two from before."""
    call = ("decide", folder / "run.toml", f"output={tmp_path / 'out'}", "decide.facts=0", "decide.data_need=false")
    arms = 'decide.arms=["zero_shot","few_shot_nearest","retrieval_bm25"]'
    real = carry_out_module.carry_out

    def stopped(bench: Bench, name: str, *rest: Any) -> Any:
        if name == "retrieval_bm25":
            raise Stopped("stopped", signal_number=2)
        return real(bench, name, *rest)

    monkeypatch.setattr(carry_out_module, "carry_out", stopped)
    first = cli(*call, arms, folder=folder)
    assert first.code == 130 and not (tmp_path / "out/decision.json").exists()
    monkeypatch.setattr(carry_out_module, "carry_out", real)
    again = cli(*call, arms, folder=folder)
    assert again.code == 0 and again.err.count("kept from before") == 2
    whole = json.loads((tmp_path / "out/decision.json").read_text(encoding="utf-8"))
    assert list(whole["arms"]) == ["zero_shot", "few_shot_nearest", "retrieval_bm25"]


# --------------------------------------------------------------------------------------------- heads, seeds, paraphrases, embeddings


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decision on labels, told by a head where the model is tuned, with two seeds and wordings of the user's; no documents."""
    folder = tmp_path_factory.mktemp("labels")
    model = make_stub(folder / "stub")
    rows = [
        {"text": f"{colour} {thing} of {town}", "label": "cold" if colour in COLOURS[:6] else "warm"}
        for place, town in enumerate(TOWNS)
        for thing, colour in zip(THINGS, COLOURS[place:] + COLOURS[:place], strict=False)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "ways.jsonl").write_text(
        "".join(
            json.dumps({"question": row["text"], "paraphrases": [f"look: {row['text']}", f"{row['text']}, it is"]}) + "\n"
            for row in rows
        )
    )
    text = RUN.format(model=model, output=folder / "out", rows=folder / "rows.jsonl").replace(
        '"exact_match", "token_f1"', '"accuracy"'
    )
    arms = ["zero_shot", "few_shot_nearest", "retrieval_bm25", "tuned", "tuned_on_context", "linear", "random_weights"]
    more = f'seeds = 2\nparaphrases = "{folder / "ways.jsonl"}"\narms = {json.dumps(arms)}\n'
    (folder / "run.toml").write_text(text.replace("threads = 1", 'threads = 1\nobjective = "classification"') + more)
    done = cli("decide", folder / "run.toml", folder=folder)
    assert done.code == 0, done.err
    return folder


def test_a_head_is_a_tuned_arm_beside_what_the_base_writes(labels: Path) -> None:
    decision = json.loads((labels / "out/decision.json").read_text(encoding="utf-8"))
    assert not decision["failed"] and "a head reads the text alone" in decision["left_out"]["tuned_on_context"]
    tuned = decision["arms"]["tuned"]
    assert tuned["scores"]["accuracy"]["mean"] > decision["arms"]["zero_shot"]["scores"]["accuracy"]["mean"]
    report = json.loads((Path(tuned["folder"]) / "report.json").read_text())
    assert report["run"]["objective"] == "classification"
    assert tuned["consistency"]["samples"] is None and tuned["consistency"]["calibration"]["n"] > 0, "a head says its own certainty"
    assert decision["arms"]["random_weights"]["scores"]["accuracy"]["n"] == decision["rows"]["test"]
    assert decision["data_need"]["sizes"][-1]["tuned"]["mean"] == pytest.approx(tuned["seeds"][0])


def marked(objective: str, town: str, thing: str, colour: str) -> dict[str, Any]:
    text = f"{colour} {thing} of {town}"
    if objective == "regression":
        return {"text": text, "number": float(TOWNS.index(town))}
    return {"text": text, "spans": [{"start": text.index(town), "end": len(text), "label": "town"}]}


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "score"), [("ner", "span_f1"), ("regression", "absolute_error")])
def test_tags_and_numbers_are_told_by_a_head_too(objective: str, score: str, labels: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    ways = [(town, thing, COLOURS[(place * 5 + n) % 12]) for place, town in enumerate(TOWNS) for n, thing in enumerate(THINGS)]
    rows.write_text("".join(json.dumps(marked(objective, *way)) + "\n" for way in ways))
    text = RUN.format(model=labels / "stub", output=tmp_path / "out", rows=rows).replace('"exact_match", "token_f1"', f'"{score}"')
    file = tmp_path / "run.toml"
    file.write_text(
        text.replace("threads = 1", f'threads = 1\nobjective = "{objective}"')
        + 'arms = ["zero_shot", "tuned"]\ndata_need = false\n'
    )
    done = cli("decide", file, folder=tmp_path)
    assert done.code == 0, done.err
    decision = json.loads((tmp_path / "out/decision.json").read_text(encoding="utf-8"))
    assert not decision["failed"] and decision["arms"]["tuned"]["scores"][score]["n"] == decision["rows"]["test"]


def test_the_score_of_a_tuned_arm_is_the_mean_over_its_seeds(labels: Path) -> None:
    decision = json.loads((labels / "out/decision.json").read_text(encoding="utf-8"))
    tuned = decision["arms"]["tuned"]
    assert decision["seeds"] == 2 and len(tuned["seeds"]) == 2
    assert tuned["scores"]["accuracy"]["mean"] == pytest.approx(sum(tuned["seeds"]) / 2)
    assert "seeds" not in decision["arms"]["zero_shot"] and len(list((labels / "out/decide/runs").glob("tuned-seed1-*"))) == 1
    again = cli("decide", labels / "run.toml", folder=labels)
    assert again.code == 0 and again.err.count("kept from before") == len(decision["arms"])
    assert json.loads((labels / "out/decision.json").read_text())["arms"]["tuned"]["seeds"] == tuned["seeds"]


def test_wordings_of_the_user_take_the_place_of_those_by_rule(labels: Path) -> None:
    decision = json.loads((labels / "out/decision.json").read_text(encoding="utf-8"))
    found = decision["arms"]["zero_shot"]["consistency"]
    assert found["paraphrases"]["given"] == found["n"] > 0
    assert any("Other wordings of" in note for note in decision["notes"])


def test_looking_by_meaning_with_a_model_made_here(folder: Path, tmp_path: Path) -> None:
    """Whole decision with the arms "dense" and "fused": a tiny sentence-transformers model, saved and opened as any other."""
    embedder = make_embedder(
        tmp_path / "embedder", [f"{town} {thing} {colour}" for town in TOWNS for thing in THINGS for colour in COLOURS]
    )
    arms = 'decide.arms=["zero_shot","retrieval_bm25","retrieval_dense","retrieval_fused","gold_passage"]'
    done = cli(
        "decide", folder / "run.toml", f"output={tmp_path / 'out'}", arms, f"decide.embedder={embedder}", "decide.data_need=false", folder=folder
    )  # fmt: skip
    assert done.code == 0, done.err
    decision = json.loads((tmp_path / "out/decision.json").read_text(encoding="utf-8"))
    assert not decision["failed"] and not decision["left_out"]
    recalls = {name: decision["arms"][name]["recall"]["mean"] for name in ("retrieval_bm25", "retrieval_dense", "retrieval_fused")}
    assert all(value > 0.3 for value in recalls.values()), recalls
    kept = retrieval_store.read(tmp_path / "out/decide/index")
    assert kept.vectors_PF is not None and kept.embedder == str(embedder) and kept.vectors_PF.shape[0] == len(kept)
    wrong = cli("decide", folder / "run.toml", f"output={tmp_path / 'no'}", f"decide.embedder={tmp_path}", folder=folder)
    refused(wrong, "cannot be opened as an embedding model")


def make_embedder(folder: Path, texts: list[str]) -> Path:
    """Write a sentence-transformers model that embeds a text as the mean of random vectors of its words."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.trainers import WordLevelTrainer

    words = Tokenizer(WordLevel(unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    words.train_from_iterator(texts, WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=64)], device="cpu").save(str(folder))
    return folder


# ------------------------------------------------------------------------------------------------------------------------ sentences


def told(**values: float) -> dict[str, Any]:
    """Return a decision with these scores, and the right passage shown to half of the questions."""
    scores = {name: {"score": {"mean": one, "low": one - 0.03, "high": one + 0.03, "n": 300}} for name, one in values.items()}
    arms = {name: {"scores": one, "offered": ARMS[name].offered, "recall": {"mean": 0.5}} for name, one in scores.items()}
    best = max((name for name in values if ARMS[name].offered), key=lambda name: values[name])
    found = {
        "arm": best,
        "best": best,
        "label": "proven",
        "behind": {},
        "margin": 0.03,
        "flips": [],
        "reasons": (),
        "chance": 1.0,
        "rows": 300,
    }
    return {
        "score": "score",
        "higher_is_better": True,
        "recommendation": found,
        "arms": arms,
        "rows": {"test": 300},
        "queries": 1.0,
        "updates": 1.0,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"zero_shot": 0.8, "tuned": 0.7}, "Prompting is enough"),
        ({"zero_shot": 0.3, "retrieval_bm25": 0.5, "gold_passage": 0.9}, "Fix retrieval first"),
        ({"zero_shot": 0.3, "tuned": 0.6, "tuned_with_retrieval": 0.5, "tuned_on_context": 0.7}, "do not glue"),
        ({"zero_shot": 0.3, "retrieval_bm25": 0.3, "gold_passage": 0.3}, "documents do not hold the answers"),
        ({"zero_shot": 0.01, "tuned": 0.0}, "Nothing works with this model"),
        ({"tuned": 0.6, "linear": 0.8}, "A classical model"),
        ({"tuned": 0.6, "random_weights": 0.4}, "knew already is worth 20 points"),
    ],
)
def test_sentences_say_what_the_figures_say(values: dict[str, float], said: str) -> None:
    assert any(said in sentence for sentence in sentences(told(**values)))
    unmoved = sentences(told(zero_shot=0.97, retrieval_bm25=0.5, gold_passage=0.97))
    assert not any("Fix retrieval" in sentence or "do not hold" in sentence for sentence in unmoved), (
        "documents are not needed at all"
    )
    calm = sentences(told(zero_shot=0.5, tuned=0.7, retrieval_bm25=0.55, tuned_on_context=0.8, gold_passage=0.6))
    assert not any(
        word in sentence for sentence in calm for word in ("Fix retrieval", "do not glue", "do not hold", "Nothing works")
    )
