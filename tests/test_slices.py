"""Slices: a column names parts of the rows, and each is scored by itself, by the same scores, with its own n and interval."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from burnish import report, report_words, runs
from burnish.data.dialog import Frame, as_task
from burnish.data.formats import FORMATS, examples
from burnish.data.records import Record, Table, columns_of
from burnish.errors import ConfigError
from burnish.evaluate import compare, resolve_scores
from burnish.finish import measured
from burnish.types import Answer, Origin, Rated
from cli_runs import cli
from stub import make_stub

SCORES = resolve_scores(["accuracy", "macro_f1"])


def table(rows: list[dict]) -> Table:
    records = [Record(row, Origin("rows.jsonl", number)) for number, row in enumerate(rows, 1)]
    return Table(rows=records, columns=columns_of(records), problems=[], warnings=[], fingerprint="", files=("rows.jsonl",))


def labelled(count: int) -> list[dict]:
    """Rows of two labels; every third is rare, every fifth says nothing of a slice."""
    return [
        {
            "id": n,
            "text": f"row {n}",
            "label": "ab"[n % 2],
            "kind": "" if n % 5 == 0 else "rare" if n % 3 == 0 else "usual",
            "of": f"g{n // 2}",
        }
        for n in range(count)
    ]


def tasks_of(rows: list[dict]) -> list:
    made = examples(table(rows), format="labelled", columns={"slice": "kind", "group": "of"})
    assert not made.problems
    return [as_task(one, Frame(choices=("a", "b"))) for one in made.examples]


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_slice_can_be_named_in_every_format(name: str) -> None:
    with pytest.raises(ConfigError, match="has no column of that name") as caught:
        examples(table([{"x": 1}]), format=name, columns={"slices": "x"})
    assert "slice" in str(caught.value)


def test_a_row_keeps_its_slice_as_a_task_and_may_have_none() -> None:
    assert [task.slice for task in tasks_of(labelled(6))] == [None, "usual", "usual", "rare", "usual", None]
    rated = Rated(messages=(), rating=0.0, origin=Origin("x", 1), slice="rare")
    assert rated.slice == "rare"


def test_each_slice_is_measured_as_if_it_were_all() -> None:
    tasks = tasks_of(labelled(40))
    base = [Answer("a", stopped=True) for _ in tasks]
    tuned = [Answer(task.expected.texts[0] if task.slice != "rare" else "b", stopped=True) for task in tasks]
    found = measured(tasks, {"base": base, "tuned": tuned}, SCORES, seed=3)
    assert list(found["by_slice"]) == ["rare", "usual"], "rows without a slice are in none"
    for name, part in found["by_slice"].items():
        places = [place for place, task in enumerate(tasks) if task.slice == name]
        alone = compare(
            {"base": [base[p] for p in places], "tuned": [tuned[p] for p in places]}, [tasks[p] for p in places], SCORES, seed=3
        )
        assert part["scores"] == alone and part["rows"] == len(places)
    assert found["by_slice"]["usual"]["scores"]["accuracy"]["tuned"]["mean"] == 1.0
    assert found["by_slice"]["rare"]["scores"]["accuracy"]["tuned"]["mean"] < 0.9, "an average would hide it"
    without = measured([task for task in tasks if task.slice is None], {"base": base[:8], "tuned": tuned[:8]}, SCORES)
    assert "by_slice" not in without


def test_a_score_that_finds_nothing_in_a_slice_is_left_out_there() -> None:
    rows = [
        {"prompt": f"say {n}", "completion": f'{{"n": {n}}}' if n % 2 else f"plain {n}", "kind": "json" if n % 2 else "plain"}
        for n in range(8)
    ]
    made = examples(table(rows), format="prompt_completion", columns={"slice": "kind"}).examples
    tasks = [as_task(one, Frame()) for one in made]
    answers = [Answer(task.expected.texts[0], stopped=True) for task in tasks]
    found = measured(tasks, {"base": answers, "tuned": answers}, resolve_scores(["exact_match", "json_valid"]))
    assert set(found["by_slice"]["json"]["scores"]) == {"exact_match", "json_valid"}
    assert set(found["by_slice"]["plain"]["scores"]) == {"exact_match"}


def test_the_report_shows_slices_in_the_terminal_and_on_the_page(tmp_path: Path) -> None:
    tasks = tasks_of(labelled(40))
    answers = [Answer("a", stopped=True) for _ in tasks]
    found = measured(tasks, {"base": answers, "tuned": answers}, SCORES)
    found["by_slice"]["<rare>"] = found["by_slice"].pop("rare")
    out = io.StringIO()
    report_words.print_scores(found, Console(file=out, width=100, no_color=True))
    assert "<rare>" in out.getvalue() and "slice" in out.getvalue()
    page = report.page(runs.Run(tmp_path), {"run": {}, **found})
    assert "<h2>Slices</h2>" in page and "&lt;rare&gt;" in page and "<rare>" not in page
    assert "<h2>Slices</h2>" not in report.page(
        runs.Run(tmp_path), {"run": {}, **{k: v for k, v in found.items() if k != "by_slice"}}
    )


def test_slices_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)
    stub = make_stub(tmp_path / "stub")
    rows = labelled(60)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = [
        f'model = "{stub}"', 'output = "runs/a"', 'score = "accuracy"',
        "[data]", 'source = "rows.jsonl"', 'format = "labelled"', "test_share = 0.4", 'columns = {slice = "kind", group = "of"}',
        "[train]", "steps = 2", "[evaluate]", "max_tokens = 4", "forgetting = false",
    ]  # fmt: skip
    (tmp_path / "run.toml").write_text("\n".join(run), encoding="utf-8")
    done = cli("tune", "run.toml", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "runs/a/report.json").read_text(encoding="utf-8"))
    assert set(told["by_slice"]) == {"rare", "usual"}
    assert all("baseline" in part["scores"]["accuracy"] for part in told["by_slice"].values())
    again = cli("evaluate", "runs/a", "--json", folder=tmp_path)
    assert again.code == 0 and again.json["by_slice"] == told["by_slice"]
    given = cli("evaluate", "runs/a", "--data", "rows.jsonl", "--json", folder=tmp_path)
    assert given.code == 0, given.err

    wrong = "\n".join(run).replace('slice = "kind"', 'slice = "id"')
    (tmp_path / "wrong.toml").write_text(wrong, encoding="utf-8")
    refused = cli("check", "wrong.toml", folder=tmp_path)
    assert refused.code == 2 and "60 different values" in refused.err
