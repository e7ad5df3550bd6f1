"""The report: a verdict that claims no more than the intervals carry, a page that no text of models or data can break out of."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from burnish import report_plot, runs
from burnish.report import page, print_scores, verdict, write_report
from burnish.report_words import figure, outcome, visible

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href=javascript:alert(1)>read on</a>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<link rel=stylesheet href=https://example.org/a.css>",
    "<base href=https://example.org/>",
    "<style>*{display:none}</style>",
    "<form action=https://example.org><button>go</button></form>",
    "![](https://example.org/a.png) [link](https://example.org)",
    "{{ 7 * 7 }}{% raw %}{{ config }}{% endraw %}",
    "<!-- --><!--[if IE]><script>alert(1)</script><![endif]-->",
    "\x00<scr\x00ipt>alert(1)</script>\x1b[2J",
    "\u202egnp.exe \ud800 \u2028",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
)


def estimate(mean: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"mean": mean, "low": low, "high": high}


def score(base: float, tuned: float, *, half: float = 0.03, **more: Any) -> dict[str, Any]:
    """Return a row of scores whose intervals reach `half` to both sides."""
    around = {
        name: estimate(mean, mean - half, mean + half)
        for name, mean in (("base", base), ("tuned", tuned), ("difference", tuned - base))
    }
    return {**around, "n": 368, "groups": 80, "higher_is_better": True, **more}


def full_report(text: str = "My charger stopped.") -> dict[str, Any]:
    """Return a report in which every place that takes text of data or models holds this one."""
    return {
        "schema": 1,
        "run": {
            "name": text,
            "model": text,
            "technique": "lora",
            "objective": "sft",
            "steps": 400,
            "seconds": 168.6,
            "tokens": 216287,
            "tokens_per_second": 1282.8,
            "parameters": 5999872,
            "trainable": 120000,
            "device": text,
            "burnish": "0.1.0",
        },
        "scores": {
            "macro_f1": score(0.2, 0.65, note=text),
            "accuracy": score(0.2, 0.66, baseline=estimate(0.85, 0.8, 0.9)),
            text: score(3.2, 2.1, higher_is_better=False),
            "rouge_l": score(0.31, 0.32),
            "one_group": {**score(0.1, 0.2), "difference": estimate(0.1), "tuned": estimate(0.2), "groups": 1},
        },
        "headline": "accuracy",
        "verdict": text,
        "baseline": {"name": text, "seconds": 1.5},
        "examples": [
            {"prompt": text, "expected": "charging fault", "base": text, "tuned": "Charging fault.", "origin": text},
            {"prompt": "Which?", "expected": text, "base": "", "tuned": text, "origin": "rows.jsonl:7"},
        ],
        "notes": [text],
        "stopped_early": 400,
        "best_step": 300,
    }


def data_of(text: str) -> dict[str, Any]:
    side = {
        "rows": 1075,
        "groups": 235,
        "tokens": 54021,
        "trained_share": 0.082,
        "limit": 512,
        "over_limit": 3,
        "dropped": 3,
        "cut": 0,
    }
    side |= {"length": {"min": 31, "median": 50, "mean": 50.2, "p95": 65, "max": 84}}
    side |= {
        "trained_histogram": [{"from": 0, "to": 0, "rows": 0}, {"from": 1, "to": 1, "rows": 12}, {"from": 2, "to": 3, "rows": 1063}]
    }
    return {
        "rows": 1233,
        "sides": {"train": side, text: {"rows": 158, "groups": 35, "tokens": None}},
        "labels": {"count": 1, "rows": {text: {"train": 5, text: 1}}, "largest_share": 0.4},
        "findings": [{"level": "warning", "rule": text, "message": text, "origins": [text], "count": 1}],
        "example": {
            "origin": text,
            "tokens": 12,
            "trained_tokens": 4,
            "left_out_tokens": 3,
            "pieces": [{"text": text, "trained": False}, {"text": text, "trained": True}],
        },
        "sources": [{"name": text, "format": text, "rows": 1233, "sha256": text}],
        "notes": [],
    }


def write_run(folder: Path, text: str = "My charger stopped.") -> runs.Run:
    """Write the files of a run that stand beside a report, with this text wherever text stands."""
    folder.mkdir(exist_ok=True)
    run = runs.Run(folder)
    for step in range(0, 401, 10):
        if step % 100 == 0:
            runs.log_metrics(run, {"step": step, "dev": {"accuracy": 0.2 + step / 1000, text: 0.5}})
        if step:
            loss = math.nan if step == 200 else 7 * math.exp(-step / 60)
            runs.log_metrics(
                run,
                {"step": step, "loss": loss, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens": 9, "tokens_per_second": 1e3},
            )
    runs.write_json(run.data_json, data_of(text))
    runs.write_json(run.environment_json, {"python": "3.11", "cpu": {"model": text}})
    runs.write_text(run.run_toml, f"model = 'tiny'  # {text}\n".encode(errors="replace").decode())
    return run


class Tags(HTMLParser):
    """Collects the elements of a page: what a browser would make of its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    return tags


# ---------------------------------------------------------------------------------------------------------------------- verdict


@pytest.mark.parametrize(
    ("base", "tuned", "half", "higher", "opening"),
    [
        (0.2, 0.6, 0.03, True, "Better: accuracy rose from 0.200 to 0.600 (+0.400; 95 % interval +0.370 to +0.430)"),
        (0.6, 0.2, 0.03, True, "Worse: accuracy fell from 0.600 to 0.200"),
        (0.2, 0.21, 0.03, True, "No proof that it got better: accuracy rose from 0.200 to 0.210"),
        (0.21, 0.2, 0.03, True, "No proof that it got better: accuracy fell"),
        (0.2, 0.2, 0.0, True, "No proof that it got better: accuracy stayed at 0.200"),
        (9.5, 3.1, 0.4, False, "Better: accuracy fell from 9.500 to 3.100 (lower is better) (-6.400"),
        (3.1, 9.5, 0.4, False, "Worse: accuracy rose"),
    ],
)
def test_verdict_claims_what_the_interval_carries(base: float, tuned: float, half: float, higher: bool, opening: str) -> None:
    said = verdict({"accuracy": score(base, tuned, half=half, higher_is_better=higher)}, "accuracy")
    assert said.startswith(opening)
    assert "368 rows in 80 groups" in said
    assert ("which includes zero" in said) == said.startswith("No proof")


@given(low=st.floats(-2, 2), width=st.floats(0, 2), higher=st.booleans())
def test_better_and_worse_only_where_zero_is_outside(low: float, width: float, higher: bool) -> None:
    row = {**score(0.5, 0.5), "difference": estimate(low + width / 2, low, low + width), "higher_is_better": higher}
    said = outcome(row)
    assert (said == "unproven") == (low <= 0 <= low + width)
    mirrored = {**row, "higher_is_better": not higher}
    assert {said, outcome(mirrored)} in ({"unproven"}, {"better", "worse"})


@pytest.mark.parametrize("missing", [None, math.nan, "nan"])
def test_without_an_interval_nothing_is_proved(missing: Any) -> None:
    row = {**score(0.1, 0.9), "difference": estimate(0.8, missing, missing), "note": "there is only one group"}
    said = verdict({"accuracy": row}, "accuracy")
    assert said.startswith("No proof") and "no interval can be given: there is only one group" in said


@pytest.mark.parametrize(
    ("baseline", "higher", "words"),
    [
        (
            estimate(0.85, 0.8, 0.9),
            True,
            "A classical baseline does better: accuracy 0.850 (0.800 to 0.900), tuned 0.660. Better: accuracy rose",
        ),
        (estimate(0.66, 0.6, 0.7), True, "A classical baseline does as well"),
        (estimate(0.60, 0.5, 0.65), True, "not clearly behind: 0.600 (0.500 to 0.650); the intervals overlap"),
        (estimate(0.40, 0.3, 0.5), True, "A classical baseline is behind: 0.400"),
        (estimate(0.40), True, "not clearly behind"),
        (estimate(0.40, 0.3, 0.5), False, "does better"),
        (estimate(0.90, 0.8, 1.0), False, "is behind"),
        (estimate(None), True, ""),
    ],
)
def test_verdict_is_honest_about_a_classical_baseline(baseline: dict[str, Any], higher: bool, words: str) -> None:
    said = verdict({"accuracy": score(0.2, 0.66, baseline=baseline, higher_is_better=higher)}, "accuracy")
    assert words in said
    assert ("baseline" in said) == bool(words)
    assert said.startswith("A classical baseline does better") == ("does better" in words)


def test_where_the_tuned_model_loses_is_said_first_and_for_every_score(tmp_path: Path) -> None:
    """By the headline or by another score, to the classical row or to the base that merely writes: before any praise, and never in green."""
    better, worse = estimate(0.85, 0.8, 0.9), estimate(0.3, 0.2, 0.4)
    scores = {
        "macro_f1": score(0.2, 0.6, baseline=better, zero_shot=worse),
        "accuracy": score(0.2, 0.66, baseline=worse, zero_shot=better),
        "absolute_error": score(3.0, 2.0, baseline=estimate(1.0, 0.8, 1.2), higher_is_better=False),
    }
    said = verdict(scores, "accuracy")
    first, second, rest = said.split(". ", 2)
    assert first == (
        "A classical baseline does better: macro_f1 0.850 (0.800 to 0.900), tuned 0.600; absolute_error 1.000 (0.800 to 1.200), tuned 2.000"
    )
    assert second.startswith("The base, asked to write the answer (zero-shot), does better: accuracy 0.850")
    assert rest.startswith("Better: accuracy rose")
    html = page(runs.Run(tmp_path), {"scores": scores, "headline": "accuracy", "verdict": said})
    assert '<p class="verdict unproven">' in html and ">zero-shot</span>" in html and "dot zero_shot" in html
    fine = {"accuracy": score(0.2, 0.66, baseline=worse, zero_shot=worse)}
    assert '<p class="verdict better">' in page(runs.Run(tmp_path), {"scores": fine, "headline": "accuracy"})


def test_a_table_with_every_arm_fits_80_columns() -> None:
    beside = estimate(0.85, 0.8, 0.9)
    text = printed(
        {"scores": {"macro_f1": score(0.2, 0.6, baseline=beside, zero_shot=beside)}, "headline": "macro_f1", "verdict": "."}
    )
    assert max(map(len, text.splitlines())) <= 80 and "zero-shot" in text and text.count("0.800–0.900") == 2


def test_verdict_warns_of_few_groups() -> None:
    assert "So few groups" in verdict({"f1": score(0.1, 0.9, groups=6)}, "f1")
    assert "So few groups" not in verdict({"f1": score(0.1, 0.9, groups=60)}, "f1")


def test_verdict_without_base_or_scores() -> None:
    """`evaluate` of a model alone has one arm, a run without held-out rows none."""
    alone = {"model": estimate(0.5, 0.4, 0.6), "n": 1, "groups": 1, "higher_is_better": True}
    assert (
        verdict({"f1": alone}, "f1") == "Measured alone, with no base to compare: f1 0.500 (0.400 to 0.600), on 1 row in 1 group."
    )
    assert verdict({}, None) == "Nothing was measured."


@given(st.floats(-1e12, 1e12))
def test_figures_never_show_a_zero_that_is_none(value: float) -> None:
    shown = figure(value)
    assert (float(shown.replace(",", "")) == 0) == (value == 0)
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=0.5, abs=0)


# --------------------------------------------------------------------------------------------------------------------- terminal


def printed(report: Mapping[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    print_scores(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_fits_80_columns_and_needs_no_colour() -> None:
    """Issue part 9, and peers.md pain 9 ("eval shows only loss"): every figure with its interval, rows and groups."""
    report = full_report()
    del report["scores"]["one_group"], report["scores"]["My charger stopped."]
    text = printed(report | {"verdict": "Better: so it is."})
    assert "\x1b" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:8:2]] == ["accuracy", "macro_f1", "rouge_l"]
    assert "+0.460 better" in text and "+0.430 to +0.490" in text and "+0.010 unproven" in text and "0.800–0.900" in text
    assert "368 rows in 80 groups" in text
    assert lines[-1] == "Better: so it is."


def test_table_of_unlike_rows_counts_each() -> None:
    lines = printed(full_report(), 100).splitlines()
    assert lines[1].rstrip().endswith("groups")
    assert any("(lower is better)" in line for line in lines)
    row = next(place for place, line in enumerate(lines) if line.startswith("one_group"))
    assert lines[row].split()[-1] == "368" and lines[row + 1].split()[-1] == "1"


def test_table_of_a_model_alone() -> None:
    report = {"scores": {"f1": {"model": estimate(0.5, 0.4, 0.6), "n": 9, "groups": 9, "higher_is_better": True}}, "headline": "f1"}
    text = printed(report)
    assert "model" in text and "difference" not in text and "0.400–0.600" in text and "Measured alone" in text


def test_nothing_measured_is_said() -> None:
    assert printed({"scores": {}, "headline": None, "verdict": "No rows were held out."}).strip() == "No rows were held out."


@pytest.mark.parametrize("text", HOSTILE)
def test_terminal_is_not_steered(text: str) -> None:
    shown = printed(full_report(text), 120)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800]", shown)


# ------------------------------------------------------------------------------------------------------------------------ files


def test_report_json_round_trip(tmp_path: Path) -> None:
    """What `burnish evaluate --json` prints and scripts read is what is in the file, NaN as a text."""
    report = full_report()
    report["scores"]["rouge_l"]["base"]["mean"] = math.nan
    write_report(write_run(tmp_path), report)
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert read["scores"]["rouge_l"]["base"]["mean"] == "nan"
    read["scores"]["rouge_l"]["base"]["mean"] = report["scores"]["rouge_l"]["base"]["mean"] = None
    assert read == report
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["data.json", "environment.json", "metrics.jsonl", "report.html", "report.json", "run.toml"]
    )
    assert printed(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))


def test_access_tokens_are_blanked_out(tmp_path: Path) -> None:
    secret = "hf_" + "a1B2" * 8
    write_report(write_run(tmp_path, secret), full_report(secret))
    for name in ("report.json", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert secret not in text and "hf_***" in text


def test_page_has_its_sections(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    html = page(run, full_report())
    tags = parsed(html)
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == [
        "Scores",
        "Notes",
        "Training",
        "Examples before and after",
        "What it was trained on",
        "The run",
        "Resolved run file",
        "Environment",
    ]
    names = [tag for tag, _ in tags.elements]
    assert names.count("details") == len(headings) + 1
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert captions == [
        "Loss on training rows",
        "Dev rows: accuracy",
        "Dev rows: My charger stopped.",
        "Learning rate",
        "Gradient norm",
        "Tokens per second",
    ]
    rows = re.findall(r'<th role="rowheader" scope="row">([\w. ]+)', html)
    assert rows == ["accuracy", "macro_f1", "My charger stopped.", "rouge_l", "one_group"]
    assert names.count("svg") == len(rows) + len(captions) + 1
    assert html.count("✓ right") == 2 and html.count("✗ wrong") == 2
    assert "<mark>My charger stopped.</mark>" in html
    assert "Stopped early at step 400" in html and "kept: step 300" in html


def test_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    tags = parsed(page(write_run(tmp_path), full_report()))
    policy = next(fields["content"] for tag, fields in tags.elements if fields.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert_harmless(tags)


def assert_harmless(tags: Tags) -> None:
    """Fail where a page holds an element or attribute that runs, loads, frames, sends or leads anywhere."""
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "footer",
        "article",
        "details",
        "summary",
        "figure",
    }
    known |= {"figcaption", "h1", "h2", "h3", "p", "strong", "small", "span", "div", "mark", "pre", "ul", "li", "dl", "dt", "dd"}
    known |= {"table", "thead", "tbody", "tr", "th", "td", "svg", "line", "text", "circle", "polyline", "rect"}
    assert {tag for tag, _ in tags.elements} <= known
    for tag, fields in tags.elements:
        assert not [
            name for name in fields if name.startswith("on") or name in {"src", "href", "style", "srcdoc", "action", "xlink:href"}
        ], tag
        assert tag != "meta" or fields.get("http-equiv") in (None, "Content-Security-Policy")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_data_or_models_breaks_out(tmp_path: Path, text: str) -> None:
    """The corpus as model output, row, run name, label, score name, note, path and setting: the page's elements stay the same."""
    write_report(write_run(tmp_path / "hostile", text), full_report(text))
    html = (tmp_path / "hostile" / "report.html").read_bytes().decode("utf-8")
    tags = parsed(html)
    assert_harmless(tags)
    write_report(write_run(tmp_path / "harmless", "something else"), full_report("something else"))
    harmless = parsed((tmp_path / "harmless" / "report.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in tags.elements] == [tag for tag, _ in harmless.elements]
    assert "<script" not in html.lower() and "49" not in "".join(t for t in tags.text if "7 * 7" in t)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", html)
    assert text.count("<") == 0 or "&lt;" in html


def test_text_is_shown_as_it_is(tmp_path: Path) -> None:
    """Nothing is lost on the way: other scripts, joined emoji and mathematics stand on the page as they do in the data."""
    texts = ["می‌خواهم", "हिन्दी क्‍ष", "👩‍🔬 done", "a < b && c > d", "  indented\n\tcode()"]
    report = full_report()
    report["examples"] = [{"prompt": text, "expected": text, "base": "no", "tuned": text, "origin": "a:1"} for text in texts]
    shown = "".join(parsed(page(write_run(tmp_path), report)).text)
    for text in texts:
        assert shown.count(text) == 3


def test_characters_that_deceive_are_written_out() -> None:
    assert visible("a\u202eb\x1b[0m\x00") == "a\\u202eb\\x1b[0m\\x00"
    assert visible("line\n\ttab") == "line\n\ttab"


def without(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in report:
        yield key, {name: item for name, item in report.items() if name != key}


def test_missing_pieces_are_left_out(tmp_path: Path) -> None:
    bare = page(runs.Run(tmp_path), {})
    assert re.findall(r"<h2>(.*?)</h2>", bare) == ["Scores", "The run"]
    assert "Nothing was measured." in bare and "No scores" in bare
    for key, report in without(full_report()):
        assert "<h1>" in page(write_run(tmp_path / key), report), key
    assert "Undefined" not in bare and "None" not in bare


def test_a_run_without_dev_rows_or_baseline(tmp_path: Path) -> None:
    run = runs.Run(tmp_path)
    for step in range(1, 4):
        runs.log_metrics(run, {"step": step, "loss": 3.0 / step})
    report = {
        "run": {"name": "plain"},
        "scores": {"perplexity": score(20.0, 9.0, higher_is_better=False)},
        "headline": "perplexity",
    }
    html = page(run, report)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", html) == ["Loss on training rows"]
    assert "lower is better" in html and '<span class="word better">' in html and "aseline" not in html.split("<main>")[1]


def test_metrics_of_any_objective_are_drawn(tmp_path: Path) -> None:
    run = runs.Run(tmp_path)
    for step in range(1, 4):
        runs.log_metrics(run, {"step": step, "loss": 1.0, "reward_margin": step * 0.1, "note": "text is no curve", "skipped": True})
    assert "<figcaption>Reward margin</figcaption>" in page(run, {})
    assert "Skipped" not in page(run, {}) and "no curve" not in page(run, {})


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Nothing is left out silently: a damaged file costs its section, not the report, and the page says so."""
    run = write_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("no json\n")
    (tmp_path / "data.json").write_text("{")
    (tmp_path / "environment.json").write_text("[1]")
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    write_report(run, full_report())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("metrics.jsonl:1", "data.json is no JSON", "environment.json holds no JSON object", "run.toml could not be read"):
        assert words in html


def test_null_intervals_stand_as_dashes_with_their_note(tmp_path: Path) -> None:
    lonely = {**score(0.1, 0.2), "difference": estimate(0.1), "tuned": estimate(None), "note": "fewer than two groups"}
    html = page(runs.Run(tmp_path), {"scores": {"f1": lonely}, "headline": "f1"})
    assert '<span class="range">–</span>' in html and "Note: fewer than two groups." in html
    assert '<p class="verdict unproven">' in html


@pytest.mark.parametrize(
    ("expected", "given", "mark"),
    [
        ("late, refund", "Refund,  late.", "✓ right"),
        ("card_arrival", "card arrival", "✓ right"),
        ("C++", "C", "✗ wrong"),
        ("late", "", "✗ wrong"),
        ("", "late", ""),
    ],
)
def test_answers_are_marked(tmp_path: Path, expected: str, given: str, mark: str) -> None:
    report = {
        "scores": {"accuracy": score(0, 1)},
        "headline": "accuracy",
        "examples": [{"prompt": "?", "expected": expected, "tuned": given}],
    }
    assert re.findall(r"[✓✗] \w+", page(runs.Run(tmp_path), report)) == [mark] * bool(mark)
    free = report | {"scores": {"rouge_l": score(0, 1), "exact_match": score(0, 1)}, "headline": "rouge_l"}
    assert "✗" not in page(runs.Run(tmp_path), free)


# ------------------------------------------------------------------------------------------------------------------------ plots

numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(numbers, max_size=30), st.booleans())
def test_any_numbers_can_be_drawn(values: list[float], positive: bool) -> None:
    """Also NaN, infinities, the largest and smallest numbers, and one point; nothing is drawn outside the axes."""
    points = tuple(enumerate(abs(value) if positive else value for value in values))
    svg = report_plot.curves([report_plot.Curve("loss", "tuned", points)], title="Loss")
    assert bool(svg) == bool(points)
    if svg:
        drawing = ElementTree.fromstring(svg)
        for line in drawing.iter("polyline"):
            for pair in line.attrib["points"].split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= report_plot.WIDTH and 0 <= y <= 230


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.integers(2, 9))
def test_ticks_are_round_and_hold_the_values(one: float, other: float, count: int) -> None:
    low, high = sorted((one, other))
    ticks = report_plot.nice_ticks(low, high, count=count)
    gaps = {f"{(after - before) / (ticks[1] - ticks[0]):.3f}" for before, after in pairwise(ticks)}
    assert gaps == {"1.000"} and 2 <= len(ticks) <= count + 3
    slack = 1e-6 * max(abs(low), abs(high), ticks[1] - ticks[0])
    assert ticks[0] <= low + slack and ticks[-1] >= high - slack


@given(st.floats(1e-9, 1e9), st.floats(1, 1e12))
def test_logarithmic_ticks_hold_the_values(low: float, factor: float) -> None:
    ticks = report_plot.log_ticks(low, low * factor)
    assert ticks == sorted(set(ticks)) and 2 <= len(ticks) <= 10
    assert ticks[0] <= low * 1.000001 and ticks[-1] >= low * factor * 0.999999


@given(st.floats(-1e8, 1e8), st.floats(-1e8, 1e8))
def test_no_two_ticks_have_one_label(one: float, other: float) -> None:
    ticks = report_plot.nice_ticks(*sorted((one, other)))
    labels = [report_plot.label(tick) for tick in ticks]
    assert len(set(labels)) == len(labels), labels


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (1500, "1,500"),
        (20000, "20k"),
        (1250000, "1.25M"),
        (0.000125, "0.000125"),
        (3e-5, "3e-5"),
        (-2, "-2"),
    ],
)
def test_labels_read_as_people_write(value: float, shown: str) -> None:
    assert report_plot.label(value) == shown


def test_a_loss_over_decades_is_logarithmic_and_says_so() -> None:
    falling = report_plot.Curve("loss", "tuned", tuple((step, 7 * 0.9**step) for step in range(80)))
    flat = report_plot.Curve("loss", "tuned", tuple((step, 3 - step / 80) for step in range(80)))
    assert "(log scale)" in report_plot.curves([falling], title="Loss")
    assert "(log scale)" not in report_plot.curves([flat], title="Loss")


def test_a_loss_that_is_no_number_is_seen() -> None:
    """peers.md pain 2: a NaN in a curve is a break and a cross with its step, not a line drawn through it."""
    points = tuple((step, math.nan if step == 5 else 1.0 / step) for step in range(1, 10))
    svg = report_plot.curves([report_plot.Curve("loss", "tuned", points)], title="Loss")
    assert svg.count("<polyline") == 2 and svg.count('class="broken"') == 1 and "step 5: loss is nan" in svg


@given(st.integers(601, 5000), st.integers(0, 5000))
def test_a_thinned_curve_keeps_its_spikes(length: int, place: int) -> None:
    points = [(float(step), math.sin(step)) for step in range(length)]
    points[place % length] = (float(place % length), 99.0)
    kept = report_plot.thinned(points)
    assert (float(place % length), 99.0) in kept and len(kept) <= 620
    assert kept == sorted(kept) and set(kept) <= set(points)


@pytest.mark.parametrize("text", [visible(text) for text in HOSTILE])
def test_names_in_drawings_are_only_text(text: str) -> None:
    """Every drawing with this name has the elements that it has with any other."""
    drawings = [
        [
            report_plot.curves([report_plot.Curve(name, name, ((1, 2.0), (2, math.nan), (3, 1.0)))], title=name, mark=(2, name)),
            report_plot.intervals([report_plot.Interval(name, name, 0.5, 0.4, 0.6)], title=name),
            report_plot.bars([(name, 3)], title=name),
        ]
        for name in (text, "loss")
    ]
    elements, usual = ([[one.tag for one in ElementTree.fromstring(svg).iter()] for svg in svgs] for svgs in drawings)
    assert elements == usual
    assert set(ElementTree.fromstring(drawings[0][0]).attrib) == {"viewBox", "role", "aria-label"}


def test_drawings_say_in_words_what_they_show() -> None:
    curve = report_plot.Curve("loss", "tuned", ((1, 7.0), (400, 0.5)))
    assert 'aria-label="Loss: loss goes from 7 at step 1 to 0.5 at step 400"' in report_plot.curves([curve], title="Loss")
    row = report_plot.Interval("tuned", "tuned", 0.66, 0.58, 0.72)
    svg = report_plot.intervals([row, report_plot.Interval("base", "base", 0.1)], title="accuracy")
    assert "tuned: 0.66, 95 % interval 0.58 to 0.72" in svg and svg.count('class="bar') == 1 and svg.count("<circle") == 2
    assert report_plot.bars([("1", 0), ("2–3", 4)], title="t").count("<rect") == 2
    assert report_plot.bars([], title="t") == report_plot.intervals([], title="t") == report_plot.curves([], title="t") == ""
