"""The pages of the use cases say what their figures say; their rows are what the wordings make, small, and free of the generator's marks."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from burnish.assets import FOLDER
from burnish.usecases import USECASES, find

ROOT = Path(__file__).parent.parent
PLACES = [str(ROOT / "benchmarks" / "usecases"), str(ROOT / "benchmarks" / "usecases" / "rows")]
MADE = ("write", "phrases")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's own modules, imported from their folders and forgotten again."""
    before = set(sys.modules)
    sys.path[:0] = PLACES
    try:
        yield {name: importlib.import_module(name) for name in ("usecase_page", "usecase_cases", "write", "phrases")}
    finally:
        sys.path[:] = [place for place in sys.path if place not in PLACES]
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(PLACES[0]):
                del sys.modules[name]


def test_every_page_and_plot_is_made_of_its_figures(modules: dict[str, ModuleType]) -> None:
    page = modules["usecase_page"]
    found = page.measured()
    assert {file.stem for file in page.FIGURES.glob("*.json")} == set(found), "figures of no case"
    for name, figures in found.items():
        text = (page.DOCS / "usecases" / f"{name}.md").read_text(encoding="utf-8")
        assert text == page.page(name, figures), "write it anew: benchmarks/usecases/make.py --write"
        assert (page.IMAGES / f"{name}.svg").read_text(encoding="utf-8") == page.plot(name, figures)
    assert (page.DOCS / "usecases.md").read_text(encoding="utf-8") == page.gallery(found)
    assert {file.stem for file in (page.DOCS / "usecases").glob("*.md")} == set(found), "a page without figures"


def test_figures_are_of_the_rows_and_the_run_that_the_use_case_has(modules: dict[str, ModuleType]) -> None:
    for name, figures in modules["usecase_page"].measured().items():
        run = find(name).run
        assert figures["headline"] == run["score"][0] and list(figures["scores"]) == list(run["score"])
        assert figures["run"]["model"] == run["model"] or isinstance(run["model"], dict)
        assert figures["run"]["technique"] == run["technique"]["name"]
        assert len(figures["examples"]) == 3 and figures["milliseconds"]["tuned"] > 0
        for row in figures["scores"].values():
            assert row["n"] > 0 and row["groups"] > 1, "how many rows are behind a figure"
            assert row["tuned"]["low"] <= row["tuned"]["mean"] <= row["tuned"]["high"]


def test_where_tuning_loses_is_said_first(modules: dict[str, ModuleType]) -> None:
    page = modules["usecase_page"]
    value = {"mean": 0.5, "low": 0.4, "high": 0.6}
    row = {
        "zero_shot": value,
        "tuned": {"mean": 0.7, "low": 0.6, "high": 0.8},
        "classical": {"mean": 0.8, "low": 0.7, "high": 0.9},
        "difference": {"mean": 0.2, "low": 0.1, "high": 0.3},
        "n": 40,
        "groups": 20,
        "higher_is_better": True,
    }
    found = {"headline": "f", "best_prompt": "zero_shot", "classical": "a linear model", "scores": {"f": row}}
    told, better = page.verdict(found)
    assert better and told.startswith("**A classical row does better here**")
    row["difference"] = {"mean": 0.2, "low": -0.1, "high": 0.5}
    told, better = page.verdict(found)
    assert not better and told.startswith("**Tuning is not proven to help here**")
    row["higher_is_better"], row["difference"] = False, {"mean": -0.2, "low": -0.3, "high": -0.1}
    assert page.verdict(found)[1], "less is better"


def test_each_case_belongs_to_a_use_case_with_a_guide(modules: dict[str, ModuleType]) -> None:
    assert set(modules["usecase_cases"].CASES) == {name for name in USECASES if find(name).guide is not None}
    for name in modules["usecase_cases"].CASES:
        assert all(words.strip() for _, words in find(name).guide.sections())  # pyright: ignore[reportOptionalMemberAccess]


def test_words_name_figures_that_there_will_be(modules: dict[str, ModuleType]) -> None:
    """A placeholder of a page names a score of the run, an arm of the table and, before an @, a slice of the rows."""
    cases, page = modules["usecase_cases"].CASES, modules["usecase_page"]
    for name, case in cases.items():
        run = find(name).run
        kinds = {row.get(run["data"]["columns"]["slice"]) for rows in modules["write"].MAKERS[name]().values() for row in rows}
        for words in re.findall(r"\{([^{}]+/[a-z_]+)\}", case.not_right):
            part, _, rest = " ".join(words.split()).rpartition("@")
            score, arm = rest.split("/")
            assert score in run["score"] and arm in page.ARMS and (not part or part in kinds), (name, words)


def test_the_bundled_rows_are_what_the_wordings_make(modules: dict[str, ModuleType]) -> None:
    assert set(modules["write"].MAKERS) <= set(modules["usecase_cases"].CASES)
    for make in modules["write"].MAKERS.values():
        for name, rows in make().items():
            assert (FOLDER / "samples" / name).read_text(encoding="utf-8") == modules["phrases"].lines_of(rows), (
                "write them anew: benchmarks/usecases/rows/write.py"
            )


def test_the_rows_are_small_different_and_hold_no_mark_of_the_generator(modules: dict[str, ModuleType]) -> None:
    assert sum(file.stat().st_size for file in (FOLDER / "samples").rglob("*") if file.is_file()) < 3_000_000
    for make in modules["write"].MAKERS.values():
        for name, rows in make().items():
            texts = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows]
            assert len(set(texts)) == len(texts), f"{name}: a row stands there twice"
            bare = [re.sub(r"\n +", "\n", text.replace("\\n", "\n")) for text in texts]  # the indentation of code is no mark
            marks = [text for text in bare if re.search(r"\{\w+\}|\([^()\"]*\|[^()\"]*\)|  (?!#)| [,.;?!](?=[\s\"])", text)]
            assert not marks, (name, marks[:3])
            if "group" in rows[0]:
                groups = {row["group"] for row in rows}
                assert len(groups) >= 40, f"{name}: an interval is drawn over groups"
