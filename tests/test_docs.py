"""The pages say what is: links lead somewhere, commands parse, run files are valid, rows are read, examples run, tables are current."""

from __future__ import annotations

import ast
import atexit
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import PIL.Image
import pytest
import typer

from burnish import api, cli, config, runs
from burnish.config_schema import RunConfig, descriptions
from burnish.data.formats import FORMATS, examples
from burnish.data.records import Record, Table, columns_of
from burnish.errors import ConfigError
from burnish.evaluate import compare
from burnish.models import adapt
from burnish.objectives import OBJECTIVES
from burnish.prepare import registries
from burnish.run_file import parse_override
from burnish.scores import SCORES, resolve
from burnish.techniques import TECHNIQUES
from burnish.train import TaskLoss
from burnish.types import Answer, Expected, Labelled, Message, Origin, Task, content
from burnish.usecases import USECASES, find, write
from loop import cut as cut_into_batches
from loop import eight_sequences, loss_and_gradient, moving, run
from pages import (
    CONTRIBUTING,
    DOCS,
    GENERATED,
    PAGES,
    README,
    ROOT,
    Block,
    blocks,
    blocks_of,
    own_files,
    prose,
    tree_paths,
    with_table,
)
from stub import load_stub
from test_structure import ROWS, tree_block

HOSTS = {"127.0.0.1", "arxiv.org", "aclanthology.org", "creativecommons.org", "github.com", "doi.org"}
"""Where an address on a page may lead: papers, licences, data, this very machine. Never to a registry of packages."""


# ---------------------------------------------------------------------------------------------------------------- links and places


def slug(heading: str) -> str:
    """Return the anchor of a heading, as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in prose(page).splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if urlsplit(target).scheme:
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.exists() or not place.is_relative_to(ROOT):
            wrong.append(target)
        elif anchor and anchor not in anchors(place):
            wrong.append(f"{target} (no such heading)")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_place_of_one_machine_or_an_address_to_fetch_from(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(
        r"(?<![\w.~])/(?:home|root|Users|work|mnt|opt|tmp)/\S*|[A-Z]:\\\S+|(?:\.\./)+shared\S*|--\w*-?index-url", text
    )
    assert set(re.findall(r"https?://([\w.-]+)", text)) <= HOSTS


# ------------------------------------------------------------------------------------------------------------------------ commands


def command_lines() -> list[tuple[str, str]]:
    """Return (place, command) for every `burnish …` on the pages, in blocks and inline."""
    found = []
    for block in blocks("sh", "console"):
        lines = [line.strip().removeprefix("$ ") for line in block.text.replace("\\\n", " ").splitlines()]
        found += [(str(block), line) for line in lines if line.startswith("burnish ")]
    for page in (page for page in PAGES if page.name != "CHANGELOG.md"):
        found += [(page.name, " ".join(span.split())) for span in re.findall(r"`(burnish\s[^`]+)`", prose(page))]
    return found


def parsed(command: str, *, named_only: bool = False) -> tuple[str, list[str]]:
    """Return the verb and overrides of a command, after the command line's own parser has taken it; raises what that raises.

    With `named_only` a verb alone will do: a sentence may speak of it without its arguments.
    """
    verb, *rest = shlex.split(command, comments=True)[1:]
    parser = typer.main.get_command(cli.app)
    if verb == "data":
        parser, verb, rest = parser.commands["data"], rest[0], rest[1:]  # type: ignore[attr-defined]
    assert verb in parser.commands, f"{command}: there is no verb {verb!r}"  # type: ignore[attr-defined]
    if rest or not named_only:
        parser.commands[verb].make_context(verb, list(rest))  # type: ignore[attr-defined]
    return verb, [part for part in rest if verb in ("check", "tune") and "=" in part]


def test_every_command_on_the_pages_is_one_that_the_command_line_takes() -> None:
    commands = command_lines()
    assert len(commands) > 20
    for place, command in commands:
        try:
            _, overrides = parsed(command, named_only=place.endswith(".md"))
        except Exception as error:
            pytest.fail(f"{place}: {command}: {error}")
        for name in (".".join(parse_override(text).path) for text in overrides):
            table = name.split(".")[0]
            assert name in descriptions() or name in RunConfig.model_fields or table in ("objective", "technique"), (
                f"{place}: {name}"
            )


@pytest.mark.parametrize(
    "command", ["burnish tun run.toml", "burnish tune run.toml --resum", "burnish evaluate", "burnish data got x"]
)
def test_a_wrong_command_would_be_seen(command: str) -> None:
    with pytest.raises(Exception):  # noqa: B017  (whatever the parser raises)
        parsed(command)


def test_readme_has_every_verb() -> None:
    text = README.read_text(encoding="utf-8")
    verbs = [command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback]
    missing = [verb for verb in [*verbs, "data get"] if f"| `burnish {verb}" not in text]
    assert not missing, f"not in README's table of verbs: {missing}"


# -------------------------------------------------------------------------------------------------------------- run files and rows

NEEDED = {"data": {"source": "rows.jsonl"}}
"""Below each run file of the pages, so that an excerpt need not repeat where the rows are."""


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_run_files_on_the_pages_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {**own_files(CONTRIBUTING), **own_files(block.page)}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        sys.modules.pop(name.removesuffix(".py"), None)  # two pages may call their files alike
    (tmp_path / "run.toml").write_text(block.text, encoding="utf-8")
    own_rows = "task" in tomllib.loads(block.text)  # each task names its own
    with added(monkeypatch, block):
        config.load(Path("run.toml"), registries=registries(), defaults=None if own_rows else NEEDED)


def test_a_wrong_run_file_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[train]\nbatchsize = 8\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"train\.batch"):
        config.load(tmp_path / "run.toml", registries=registries(), defaults=NEEDED)


def test_a_wrong_run_file_on_a_page_has_the_problems_that_the_page_shows(tmp_path: Path) -> None:
    wrong = blocks("toml invalid")
    assert wrong
    for block in wrong:
        (tmp_path / "run.toml").write_text(block.text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            config.load(tmp_path / "run.toml", registries=registries())
        (shown,) = [one.text for one in blocks("console") if str(caught.value).replace(f"{tmp_path}/", "") in one.text]
        assert shown.startswith("$ burnish check run.toml\nError: run.toml")


def rows_on_the_page() -> list[tuple[str, str, dict[str, Any]]]:
    """Return (place, format, row) for each example row of docs/data.md, under the heading that is its format's name."""
    found = []
    for block in (block for block in blocks_of(DOCS / "data.md") if block.language == "jsonl"):
        found += [(f"{block}", block.heading.strip("`"), json.loads(line)) for line in block.text.splitlines()]
    return found


def test_every_format_has_an_example_row_that_is_read() -> None:
    assert {name for _, name, _ in rows_on_the_page()} == set(FORMATS)
    for place, name, row in rows_on_the_page():
        made = examples(table([row]), format=name)
        assert made.examples and not made.problems, (place, made.problems)
        assert all(isinstance(one, FORMATS[name].gives) for one in made.examples), place


def table(rows: list[dict[str, Any]]) -> Table:
    for row in rows:
        if "image" in row:  # the page's example names a picture, which has to be there
            (place := folder_of_pictures() / row["image"]).parent.mkdir(exist_ok=True)
            PIL.Image.new("RGB", (20, 10), "grey").save(place)
    records = [Record(row, Origin("rows.jsonl", number)) for number, row in enumerate(rows, 1)]
    return Table(
        rows=records, columns=columns_of(records), problems=[], warnings=[], fingerprint="", files=("rows.jsonl",),
        folders={"rows.jsonl": folder_of_pictures()},
    )  # fmt: skip


@cache
def folder_of_pictures() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="burnish-pages-"))
    atexit.register(shutil.rmtree, folder)
    return folder


# --------------------------------------------------------------------------------------------------------------- generated tables


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, made in GENERATED.items() for name in made])
def test_tables_say_what_the_code_says(page: Path, name: str) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_table(text, name, GENERATED[page][name]()) == text, "run: python tests/pages.py"


def test_the_run_directory_is_described_file_by_file() -> None:
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    names = [getattr(runs.Run(Path("r")), key).name for key, value in vars(runs.Run).items() if isinstance(value, property)]
    assert len(names) > 8
    assert [name for name in names if name not in text] == []


def test_the_layers_on_the_page_are_those_that_the_test_enforces() -> None:
    (block,) = [one for one in blocks_of(CONTRIBUTING) if one.language == "text" and "cli" in one.text.split()]
    shown = [frozenset(line.split()) for line in block.text.strip().splitlines()]
    real = [frozenset(row) - {"__init__", "__main__"} for row in reversed(ROWS)]
    expected = "\n".join(" ".join(name for name in row if not name.startswith("__")) for row in reversed(ROWS))
    assert shown == real, f"the block of layers should be:\n{expected}"


def test_readme_tree_has_a_line_for_every_file() -> None:
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("the files are those of a git checkout, and this is none")
    files = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    shown = tree_paths(tree_block(README.read_text(encoding="utf-8")))
    # A folder's line stands for its __init__.py; a folder without entries of its own stands for all that is in it.
    whole = {name for name in shown if name.endswith("/") and not any(other != name and other.startswith(name) for other in shown)}
    named = shown | {f"{name}__init__.py" for name in shown if name.endswith("/")}
    missing = sorted(name for name in files if name not in named and not any(name.startswith(folder) for folder in whole))
    gone = sorted(name for name in shown if not (ROOT / name).exists())
    assert not missing, "no line in README's tree: " + ", ".join(missing)
    assert not gone, "in README's tree, but not there: " + ", ".join(gone)


# ------------------------------------------------------------------------------------------------------------------ Python examples


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_on_the_pages_calls_what_there_is(block: Block) -> None:
    """Every call of burnish.NAME has a function of that name that takes those arguments."""
    text = f"{{{block.text}}}" if re.match(r'"\w+": ', block.text) else block.text  # a line of a registry stands inside its dict
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] == "burnish":
            function = getattr(api, ast.unparse(node.func).removeprefix("burnish."))
            inspect.signature(function).bind(*node.args, **{key.arg: key.value for key in node.keywords if key.arg})


def made_by(heading: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the example under a heading of CONTRIBUTING: the file's names, and the registry lines as a dict."""
    file, line = (one.text for one in blocks_of(CONTRIBUTING) if one.language == "python" and one.heading == heading)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(file, heading, "exec"), names)
    exec(
        compile(
            f"from burnish.data.formats import Format\nfrom burnish.scores.parts import *\nadded = {{{line}}}", heading, "exec"
        ),
        names,
    )
    return names, names["added"]


REGISTRIES: dict[str, dict[str, Any]] = {
    "A data format": FORMATS,
    "An objective": OBJECTIVES,
    "A technique": TECHNIQUES,
    "A score": SCORES,
    "A use case": USECASES,
}


class added:  # noqa: N801  (reads as a word in a with statement)
    """The registry line under a block's heading, in force for a while; a class because a context has a beginning and an end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, block: Block) -> None:
        self.heading = block.heading if block.page.name == "CONTRIBUTING.md" and block.heading in REGISTRIES else ""
        self.monkeypatch = monkeypatch

    def __enter__(self) -> None:
        for name, entry in made_by(self.heading)[1].items() if self.heading else ():
            self.monkeypatch.setitem(REGISTRIES[self.heading], name, entry)

    def __exit__(self, *_: object) -> None: ...


def test_the_example_of_a_format_reads_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ((name, entry),) = made_by("A data format")[0], made_by("A data format")[1].items()
    monkeypatch.setitem(FORMATS, name, entry)
    (block,) = [one for one in blocks_of(CONTRIBUTING) if one.language == "json" and one.heading == "A data format"]
    made = examples(table([json.loads(block.text)]), format=name)
    assert not made.problems and [type(one) for one in made.examples] == [entry.gives]
    empty = examples(table([dict.fromkeys(json.loads(block.text), "")]), format=name)
    assert not empty.examples and len(empty.problems) > 1, "all problems of a row come together"


def test_the_example_of_an_objective_learns_and_may_be_cut_anywhere(tmp_path: Path) -> None:
    ((_, objective),) = made_by("An objective")[1].items()
    model = load_stub(tmp_path)
    adapt(model, TECHNIQUES["full"], {})
    sequences = eight_sequences(model)
    tasks = {"main": TaskLoss(objective, {"gamma": 2.0})}
    whole, _ = loss_and_gradient(model, cut_into_batches(sequences, 100_000), tasks=tasks)
    split, _ = loss_and_gradient(model, cut_into_batches(sequences, 1), tasks=tasks)
    assert split.losses["nll"] == pytest.approx(whole.losses["nll"], rel=1e-5)
    same, _ = loss_and_gradient(model, cut_into_batches(sequences, 100_000), tasks={"main": TaskLoss(objective, {"gamma": 0.0})})
    sft, _ = loss_and_gradient(model, cut_into_batches(sequences, 100_000))
    assert same.losses["nll"] == pytest.approx(sft.losses["nll"], rel=1e-6), "with gamma 0 it is sft"
    steps = run(model, cut_into_batches(sequences, 100_000), steps=6, rate=1e-2, tasks=tasks)
    assert steps[-1].losses["nll"] < 0.8 * steps[0].losses["nll"]


def test_the_example_of_a_technique_moves_what_it_says(tmp_path: Path) -> None:
    ((_, technique),) = made_by("A technique")[1].items()
    model = load_stub(tmp_path)
    adapt(model, technique, {})
    assert moving(model) and all("norm" in name for name in moving(model))
    before = {name: parameter.detach().clone() for name, parameter in model.network.named_parameters()}
    run(model, cut_into_batches(eight_sequences(model), 100_000), steps=1, rate=1e-2)
    after = dict(model.network.named_parameters())
    assert {name for name in before if not after[name].equal(before[name])} == set(moving(model))


def asked(expected: str, line: int) -> Task:
    return Task(messages=(Message("user", content("?")),), expected=Expected(texts=(expected,)), origin=Origin("rows.jsonl", line))


def test_the_example_of_a_score_is_compared_with_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, score),) = made_by("A score")[1].items()
    monkeypatch.setitem(SCORES, name, score)
    tasks = [asked(text, line) for line, text in enumerate(("Paris is.", "No idea.", "Rome was."), 1)]
    right = [Answer(task.expected.texts[0]) for task in tasks]
    report = compare({"base": [Answer("")] * 3, "tuned": right}, tasks, {name: resolve(name)})
    assert report[name]["tuned"]["mean"] == score.best and report[name]["base"]["mean"] == 0.0
    assert report[name]["n"] == 3


def test_the_examples_that_live_in_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in own_files(CONTRIBUTING).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        sys.modules.pop(name.removesuffix(".py"), None)
    made = examples(table([{"subject": "Late", "body": "Where is it?", "team": "post"}]), format="my_rows:ticket")
    assert not made.problems and [type(one) for one in made.examples] == [Labelled]
    score = resolve("my_scores:brief")
    statistics = score.statistics([Answer("yes"), Answer("yes " * 50)], [asked("a", 1), asked("b", 2)])
    assert score.combine(statistics).tolist() == [1.0, 0.0]


def test_the_example_of_a_use_case_makes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, make),) = made_by("A use case")[1].items()
    monkeypatch.setitem(USECASES, name, make)
    path = write(find(name), tmp_path / name)
    resolved = config.load(path, registries=registries())
    assert resolved.config.output == f"runs/{name}"
    assert all((path.parent / sample).exists() for sample in make().samples)
