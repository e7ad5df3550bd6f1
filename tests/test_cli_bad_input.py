"""Each mistake a user can make: one clear message, its exit code, no traceback, and nothing created, changed or lost.

User pains 1 (rows that train on nothing), 8 (rows dropped without a word) and 21 (hours of work before a mistake shows). A message
says what happened, what was expected and how to put it right; the tests look for all three.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish import api, runs
from cli_runs import cli, process, refused, tree, write_labelled, write_rows, write_run
from stub import make_stub


@pytest.fixture(scope="module")
def shared_stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("bad") / "stub")


@pytest.fixture(autouse=True)
def quick_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing this machine takes two seconds each time."""
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)


@pytest.fixture
def place(shared_stub: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with the stub and good rows; whatever fails in it may leave nothing behind."""
    (tmp_path / "stub").symlink_to(shared_stub)
    write_rows(tmp_path / "rows.jsonl")
    yield tmp_path
    assert not (tmp_path / "out").exists(), "a run that could not start left a folder"


def dialog(*turns: str, **more: Any) -> str:
    roles = ("user", "assistant") * len(turns)
    messages = [
        {"role": role, "content": text, **(more if role == "assistant" else {})} for role, text in zip(roles, turns, strict=False)
    ]
    return json.dumps({"messages": messages})


def tune(place: Path, *overrides: str, model: str = "./stub", **changes: Any) -> Any:
    """Tune a run file that has a mistake, and prove that nothing changed on the disk."""
    write_run(place, model, **changes)
    before = tree(place)
    done = cli("tune", "run.toml", *overrides, folder=place)
    assert tree(place) == before
    return done


# --------------------------------------------------------------------------------------------------------------------- the run file


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"train__stepz": 3}, [r"run\.toml:\d+: train\.stepz: unknown key", "Did you mean 'steps'"]),
        ({"technique__name": "lorra"}, [r"run\.toml:\d+", "lorra", "Did you mean 'lora'"]),
        ({"technique__rnk": 4}, [r"run\.toml:\d+", "rnk", "Did you mean 'rank'"]),
        ({"objective__name": "sff"}, ["no objective is called 'sff'", "Did you mean 'sft'"]),
        ({"score": ["acuracy"]}, [r"run\.toml:\d+", "no score is called 'acuracy'", "Did you mean 'accuracy'"]),
        ({"data__format": "mesages"}, ["mesages", "Did you mean 'messages'"]),
        ({"train__batch": "four"}, [r"run\.toml:\d+: train\.batch: a whole number expected"]),
        ({"train__epochs": 2}, ["steps", "epochs"]),
        ({"data__max_length": 4096}, [r"data\.max_length = 4096", "512 tokens at most"]),
        ({"dtype": "float16"}, ["dtype", "bfloat16"]),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_what_was_meant(place: Path, changes: dict[str, Any], parts: list[str]) -> None:
    refused(tune(place, **changes), *parts)


def test_wrong_toml_is_shown_with_its_line(place: Path) -> None:
    (place / "run.toml").write_text('model = "./stub"\n\n[data]\nsource = rows.jsonl\n')
    refused(cli("tune", "run.toml", folder=place), r"run\.toml:4: not valid TOML", "source = rows.jsonl")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.step=9", ["command line: train.step: unknown key", "Did you mean 'train.steps'"]),
        ("train.steps", ["an override is KEY=VALUE", "train.steps=200"]),
        ("train.steps=many", ["command line: train.steps: a whole number expected", "many"]),
    ],
)
def test_a_wrong_override_is_named(place: Path, override: str, parts: list[str]) -> None:
    refused(tune(place, override), *parts)


def test_a_missing_run_file_names_the_one_that_is_there(place: Path) -> None:
    write_run(place, "./stub")
    refused(cli("tune", "rnu.toml", folder=place), "no run file 'rnu.toml'", "Did you mean 'run.toml'")
    refused(cli("check", ".", folder=place), "is a folder; a run file was expected")


def test_run_file_and_rows_are_told_in_one_message(place: Path) -> None:
    """One round of repairs, not one per mistake: two wrong values and two wrong rows; and a model that is not there."""
    (place / "rows.jsonl").write_text(f'{dialog("good?", "yes")}\n{{"messages": []}}\nnot json\n')
    parts = ["score.0", "train.bath", r"rows\.jsonl:2", r"rows\.jsonl:3: not valid JSON"]
    refused(tune(place, score=["acuracy"], train__bath=2), *parts)
    refused(tune(place, model="./nowhere"), "nowhere", r"rows\.jsonl:2", r"rows\.jsonl:3")
    write_run(place, "./nowhere")
    refused(cli("check", "run.toml", folder=place), "nowhere", r"rows\.jsonl:2", r"rows\.jsonl:3")


# ------------------------------------------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("tny", ["model = 'tny' is not known", "Did you mean 'tiny'", "folder", "owner/name"]),
        ("./nowhere", ["there is no such model folder", "config.json"]),
        ("someone/some-model", ["not in the local cache and the hub cannot be reached", "model = 'tiny'"]),
    ],
)
def test_a_model_that_is_not_there(place: Path, model: str, parts: list[str]) -> None:
    """No network: the hub cannot be asked, which is said together with what works without it."""
    refused(tune(place, model=model), *parts)


def test_a_gated_model_says_where_to_ask(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def gated(*_: Any, **__: Any) -> None:
        raise OSError("You are trying to access a gated repo.\n401 Client Error.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", gated)
    refused(tune(place, model="someone/gated-model"), "gated or private", "Ask for access", "HF_TOKEN")


def test_a_full_cache_is_said_with_its_remedy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", full)
    refused(tune(place, model="someone/large-model"), "no space left in the model cache", "HF_HUB_CACHE")


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json"]),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 1000), ["could not be opened", "damaged or missing"]),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), ["no \\*.safetensors", "convert it"]),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), ["could not be opened", "damaged or missing"]),
    ],
)
def test_a_damaged_model_folder(place: Path, damage: Callable[[Path], Any], parts: list[str]) -> None:
    """The corrected folder is then tuned without --resume: the attempt left no run behind."""
    damage(Path(shutil.copytree(place / "stub", place / "damaged")))
    refused(tune(place, model="./damaged"), "damaged", *parts)


def test_a_damaged_bundled_model_is_found_before_it_is_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish import assets

    copy = Path(shutil.copytree(assets.FOLDER / "tiny", place / "assets" / "tiny"))
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(100_000)
        file.write(b"damaged")
    monkeypatch.setattr(assets, "FOLDER", place / "assets")
    assets.bundled_model.cache_clear()
    try:
        refused(tune(place, model="tiny"), "model.safetensors", "missing or damaged", "Install burnish again")
    finally:
        assets.bundled_model.cache_clear()


# -------------------------------------------------------------------------------------------------------------------------- the rows


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", [r"bad\.jsonl: the file is empty", "expected rows"]),
        (bytes(range(256)) * 40, [r"bad\.jsonl: the file is binary, not text"]),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, [r"bad\.jsonl: the file is a picture"]),
        (b"PAR1" + b"x" * 100, [r"bad\.jsonl: the file is a Parquet file", "ending"]),
        (dialog("caf\u00e9?", "oui").encode().replace(b"\\u00e9", b"\xe9"), [r"bad\.jsonl:1: not valid UTF-8", "0xe9", "iconv"]),
        (b"question,answer\nwhat,that\n" * 3, [r"bad\.jsonl:1: not valid JSON"]),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}\n', [r"bad\.jsonl:1", "content is missing"]),
        (b'{"messages": [{"role": "usr", "content": "a"}]}\n', [r"bad\.jsonl:1", "usr"]),
        (b'{"colour": "blue", "size": 3}\n', ["cannot tell what the rows mean", "data.format", "colour: text", "size: number"]),
    ],
)
def test_a_file_that_cannot_be_read_as_rows(place: Path, content: bytes, parts: list[str]) -> None:
    (place / "bad.jsonl").write_bytes(content)
    refused(tune(place, data__source="bad.jsonl"), *parts)


def test_a_missing_file_names_the_one_that_is_there(place: Path) -> None:
    parts = [r"no such file or folder", "looked at .*rowz.jsonl", r"Did you mean 'rows\.jsonl'"]
    refused(tune(place, data__source="rowz.jsonl"), *parts)


@pytest.mark.parametrize("verb", ["evaluate", "generate"])
def test_a_missing_file_of_data_is_found_before_weights_are_read(place: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "load", lambda name: pytest.fail("weights were read first"))
    refused(cli(verb, "stub", "--data", "rowz.jsonl", folder=place), "no such file or folder", r"Did you mean 'rows\.jsonl'")


def test_rows_of_another_format_say_which_columns_were_expected(place: Path) -> None:
    write_labelled(place / "labelled.jsonl")
    refused(tune(place, data__source="labelled.jsonl", data__format="messages"), "'messages'", "label", "text", "data.columns")


def test_an_objective_that_cannot_learn_from_these_rows_says_so(place: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"a {n}"}, {"role": "assistant", "content": "b"}], "rating": 1} for n in range(20)
    ]
    (place / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(
        tune(place, data__source="rated.jsonl", data__format="rated"), "cannot learn from Rated", r"rated\.jsonl:\d+", "burnish ls"
    )


def test_rows_that_train_on_nothing_are_refused_with_their_lines(place: Path) -> None:
    """Pain 1: all labels masked, a loss of 0.0, and a run that looks healthy."""
    lines = [dialog(f"question {n}", f"answer {n}", weight=0) for n in range(24)]
    (place / "masked.jsonl").write_text("\n".join(lines) + "\n")
    refused(tune(place, data__source="masked.jsonl"), r"masked\.jsonl:\d+", "train|learn")


def test_a_few_rows_over_the_context_are_counted_and_many_are_refused(place: Path) -> None:
    """Pain 8: rows are never dropped without a word; one of 300 is told, one of 25 ends the run."""
    long = dialog("and the rest?", "word salad " * 400)
    rows = write_rows(place / "long.jsonl").read_text()
    (place / "long.jsonl").write_text(rows + long + "\n")
    parts = [r"longer than the limit of 512 tokens", r"long\.jsonl:25", "More than 1 % would be lost", "cut"]
    refused(tune(place, data__source="long.jsonl", data__dev_share=0.0, data__test_share=0.0), *parts)

    (place / "many.jsonl").write_text(write_rows(place / "many.jsonl", 300).read_text() + long + "\n")
    write_run(place, "./stub", data__source="many.jsonl", data__dev_share=0.0, data__test_share=0.0)
    done = cli("check", "run.toml", "--json", folder=place)
    assert done.code == 0, done.err
    told = [finding for finding in done.json["findings"] if "longer than the limit" in finding["message"]]
    assert len(told) == 1 and "many.jsonl:301" in json.dumps(told), done.json["findings"]


def test_unknown_public_and_hub_data(place: Path) -> None:
    refused(tune(place, data__source="public:bankin77"), "public:bankin77", "Did you mean 'banking77'")
    refused(cli("data", "get", "bankin77", folder=place), "there is no such set", "Did you mean 'banking77'")


# ------------------------------------------------------------------------------------------------------------------- where it writes


def test_an_output_that_is_a_file_or_is_used_by_something_else(place: Path) -> None:
    (place / "letter.txt").write_text("dear")
    (place / "photos").mkdir()
    (place / "photos" / "cat.png").write_bytes(b"cat")
    refused(tune(place, "output=letter.txt"), "letter.txt is a file", "output=DIR")
    refused(tune(place, "output=photos"), r"photos is not empty and holds no run \(cat.png\)", "output=DIR")
    refused(tune(place, "output=letter.txt/run"), "letter.txt", "output=DIR|Move it away")


def test_a_read_only_folder(place: Path) -> None:
    """For a superuser no mode is read-only; the system's own tree refuses everybody."""
    locked = Path("/sys") if os.geteuid() == 0 else place / "locked"
    if locked.name == "locked":
        locked.mkdir(mode=0o500)
    elif not locked.is_dir():
        pytest.skip("there is no folder here that refuses the superuser")
    refused(tune(place, f"output={locked / 'run'}"), f"cannot write {locked}", "read-only for this user", "output=DIR")


def test_init_into_a_folder_in_use(place: Path) -> None:
    (place / "used").mkdir()
    (place / "used" / "notes.txt").write_text("mine")
    before = tree(place)
    refused(cli("init", "support", "used", folder=place), r"used is not empty \(notes.txt\)", "nothing was written", "new folder")
    refused(cli("init", "--data", "rows.jsonl", "used", folder=place), r"used is not empty", "nothing was written")
    refused(cli("init", "--data", "rowz.jsonl", "new", folder=place), "no such file", r"Did you mean 'rows\.jsonl'")
    refused(cli("init", "suport", "new", folder=place), "no use case 'suport'", "Did you mean 'support'")
    refused(cli("init", "support", folder=place), "Give a use case and a folder")
    assert tree(place) == before and not (place / "new").exists()


# ----------------------------------------------------------------------------------------------------------------------- other verbs


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["evaluate", "stub"], ["is not a run directory", "--data FILE"]),
        (["evaluate", "nowhere"], ["model = 'nowhere' is not known"]),
        (
            ["evaluate", "stub", "--data", "rows.jsonl", "--score", "exact_mach"],
            ["unknown score 'exact_mach'", "Did you mean 'exact_match'"],
        ),
        (["evaluate", "stub", "--data", "rows.jsonl", "--score", "span_f1"], ["span_f1", "nothing to compare"]),
        (["evaluate", "stub", "--data", "rows.jsonl", "--limit", "0"], ["--limit"]),
        (["generate", "stub"], ["Give either a prompt or a data file"]),
        (["generate", "stub", "--prompt", "a", "--data", "rows.jsonl"], ["Give either a prompt or a data file"]),
        (["generate", "stub", "--data", "rows.jsonl", "--column", "text"], ["--column text", "NAME=COLUMN"]),
        (["generate", "stub", "--prompt", "a", "--top-p", "2"], ["--top-p"]),
        (["generate", "stub", "--prompt", "word " * 900], ["512", "long|tokens"]),
        (["ls", "scoers"], ["no list 'scoers'", "Did you mean 'scores'"]),
        (["ls"], ["Missing argument", "scores"]),
        (["tun", "run.toml"], ["No such command 'tun'", "tune"]),
        (["tune", "run.toml", "--resum"], ["No such option: --resum", "--resume"]),
        (["tune"], ["Missing argument", "RUN.toml"]),
    ],
)
def test_a_wrong_call(place: Path, arguments: list[str], parts: list[str]) -> None:
    write_run(place, "./stub")
    before = tree(place)
    refused(cli(*arguments, folder=place), *parts)
    assert tree(place) == before


def test_with_json_the_error_is_the_one_json_value(place: Path) -> None:
    for arguments in (["tune", "nowhere.toml"], ["ls", "scoers"], ["evaluate", "stub"], ["ls"], ["init", "suport", "x"]):
        done = cli(*arguments, "--json", folder=place)
        error = done.json["error"]
        assert done.code == 2 and error["exit_code"] == 2 and error["kind"].endswith("Error") and error["message"] in done.err


def test_rows_held_out_of_data_that_changed_are_not_scored(place: Path) -> None:
    """Held out now may be learned then: a score on such rows would be too good to be true."""
    output = api.tune(write_run(place, "./stub", output=str(place / "done"), train__steps=2))
    with (place / "rows.jsonl").open("a") as file:
        file.write(dialog("one more?", "yes") + "\n")
    refused(cli("evaluate", output, folder=place), r"rows\.jsonl changed since", "--data FILE")


def test_an_unforeseen_fault_is_one_message_with_its_details_in_a_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(api, "check", broken)
    done = cli("check", write_run(place, "./stub"), folder=place)
    assert done.code == 1 and "Traceback" not in done.err
    assert "which is a fault in burnish: ZeroDivisionError: a fault of ours" in done.err and "burnish doctor" in done.err
    log = Path(done.err.split("Please report it with ")[1].split(" ")[0])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_a_run_without_memory_says_what_to_lower(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 17, as far as it can be foreseen: which value to lower, and that the result stays the same."""

    def hungry(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(api, "check", hungry)
    refused(cli("check", write_run(place, "./stub"), folder=place), "memory is not enough", "train.tokens", code=1)


def test_a_mistake_in_a_process_of_its_own_ends_with_code_2(place: Path) -> None:
    """What a shell sees."""
    write_run(place, "./stub", train__bath=3)
    refused(process("tune", "run.toml", folder=place), "train.bath", "Did you mean 'batch'")
    assert runs.list_runs(place) == []
