"""Every verb of the command line: what it prints for people, its one JSON value for programs, its exit code, and help.

What scripts rely on from the first release: the names of verbs, options and overrides, `name` in every list, the shape of report.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from burnish import __version__, api, runs
from burnish.data.estimate import measure_matmul
from burnish.listing import LISTS
from cli_runs import cli, environment, process, write_labelled, write_rows, write_run
from stub import make_stub

VERBS = (
    "init",
    "doctor",
    "check",
    "tune",
    "pretrain",
    "evaluate",
    "generate",
    "chat",
    "rate",
    "merge",
    "ls",
    "demo",
    "data get",
    "data synthesize",
)


@pytest.fixture(autouse=True)
def quick_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing this machine takes two seconds each time; one test does it."""
    monkeypatch.setattr("burnish.prepare.measure_matmul", lambda *_, **__: 1e9)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub, rows, a run file, and its finished run in `out`."""
    folder = tmp_path_factory.mktemp("cli")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl", 40)
    write_labelled(folder / "labelled.jsonl")
    write_run(folder, "./stub", log__tensorboard=True, evaluate__baseline=True)
    done = cli("tune", "run.toml", "--json", folder=folder)
    assert done.code == 0, done.err
    (folder / "tuned.json").write_text(done.out)
    return folder


# ------------------------------------------------------------------------------------------------------------------ help, version


def test_help_of_the_program_and_of_every_verb() -> None:
    for verb in VERBS:
        done = cli(*verb.split(), "--help")
        assert done.code == 0 and done.out.startswith(f"Usage: burnish {verb}"), done.out
        assert "--json" in done.out, f"{verb} has no --json"
    done = cli("--help")
    assert done.code == 0 and all(verb.split()[0] in done.out for verb in VERBS)


def test_without_arguments_the_help_is_shown_and_the_call_counts_as_wrong() -> None:
    done = cli()
    assert done.code == 2 and done.err.startswith("Usage: burnish") and "Error" not in done.err


def test_version_and_an_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    """`python -m burnish`, as torchrun starts it: exit codes reach the shell."""
    for arguments, code, said in ((["--version"], 0, __version__), (["tune", "nowhere.toml"], 2, "no run file 'nowhere.toml'")):
        command = [sys.executable, "-m", "burnish", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code and said in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """burnish ls scores | head -1"""
    ends = os.pipe()
    os.close(ends[0])
    command = [sys.executable, "-m", "burnish", "ls", "scores", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), stdout=ends[1], stderr=subprocess.PIPE, text=True, check=False)
    os.close(ends[1])
    assert done.stderr == "" and done.returncode in (0, 1)


# -------------------------------------------------------------------------------------------------------- one JSON value, each verb


def test_tune_prints_the_report_as_one_json_value(place: Path) -> None:
    printed = json.loads((place / "tuned.json").read_text())
    report = json.loads((place / "out" / "report.json").read_text("utf-8"))
    assert printed == {"output": str(place / "out"), **report}
    for score in report["scores"].values():
        assert {"mean", "low", "high"} == score["base"].keys() == score["tuned"].keys() == score["difference"].keys()
        assert {"n", "groups", "higher_is_better"} <= score.keys()


def test_a_run_leaves_every_file_it_promises(place: Path) -> None:
    run = runs.Run(place / "out")
    for path in (
        run.run_toml,
        run.environment_json,
        run.data_json,
        run.metrics_jsonl,
        run.report_json,
        run.report_html,
        run.status_json,
    ):
        assert path.stat().st_size > 0, path
    assert (run.model / "adapter_model.safetensors").is_file() and (run.model / "manifest.json").is_file()
    assert list(run.events.iterdir()) and runs.read_status(run.path)["state"] == "finished"
    assert not [path for path in run.path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}], "safetensors and JSON only"
    page = run.report_html.read_text("utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page, "the page stands for itself"


def test_tune_for_people_shows_progress_and_scores(place: Path, tmp_path: Path) -> None:
    done = process("tune", "run.toml", f"output={tmp_path / 'out'}", folder=place)
    assert done.code == 0, done.err
    assert "exact_match" in done.out and "bits_per_byte" in done.out and "step" not in done.out.split("\n")[0]
    for word in ("step 6/6", "loss", "tokens/s", "left", "dev exact_match", "report.html"):
        assert word in done.err, word
    assert "Warning" not in done.err, "a library's warning is not for the user"


def test_evaluate_prints_the_shape_of_the_report(place: Path) -> None:
    """Base beside tuned on the run's own held-out rows, and the same figures as at its end."""
    done = cli("evaluate", "out", "--json", folder=place)
    assert done.code == 0, done.err
    report = json.loads((place / "out" / "report.json").read_text("utf-8"))
    assert done.json["schema"] == report["schema"] and done.json["headline"] == "exact_match"
    for name, score in report["scores"].items():
        again = done.json["scores"][name]
        assert (again["n"], again["groups"]) == (score["n"], score["groups"])
        for arm in ("base", "tuned", "difference"):
            assert again[arm]["mean"] == pytest.approx(score[arm]["mean"], abs=1e-6), (name, arm)


def test_evaluate_on_rows_given_with_a_score_and_a_limit(place: Path) -> None:
    done = cli(
        "evaluate",
        "out",
        "--data",
        "rows.jsonl",
        "--score",
        "token_f1",
        "--score",
        "stop_rate",
        "--limit",
        "5",
        "--json",
        folder=place,
    )
    assert done.code == 0, done.err
    assert list(done.json["scores"]) == ["token_f1", "stop_rate"] and done.json["scores"]["token_f1"]["n"] == 5
    for arguments in (["stub"], ["stub", "--column", "text=text", "--column", "label=label", "--format", "labelled"]):
        rows = "rows.jsonl" if len(arguments) == 1 else "labelled.jsonl"
        done = cli("evaluate", *arguments, "--data", rows, "--limit", "4", "--max-tokens", "4", "--json", folder=place)
        assert done.code == 0, done.err
        assert all("model" in score and "base" not in score for score in done.json["scores"].values()), "a model alone has no base"


def test_evaluate_for_people_is_a_table(place: Path) -> None:
    done = cli("evaluate", "out", folder=place)
    assert done.code == 0 and "exact_match" in done.out and "{" not in done.out


def test_check_prints_the_data_report(place: Path) -> None:
    done = cli("check", "run.toml", f"output={place / 'elsewhere'}", "--json", folder=place)
    assert done.code == 0, done.err
    assert done.json["rows"] == 40 and set(done.json["sides"]) == {"train", "dev", "test"}
    assert done.json["estimate"], "memory, steps and time"
    assert not (place / "elsewhere").exists()


def test_check_for_people_measures_this_machine_and_names_the_next_step(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.prepare.measure_matmul", measure_matmul)
    people = cli("check", "run.toml", folder=place)
    assert people.code == 0 and "Nothing stands in the way. Next: burnish tune run.toml" in people.out


def test_generate_prints_answers(place: Path) -> None:
    done = cli("generate", "out", "--prompt", "colour 1 of the hill?", "--prompt", "and 2?", "--json", folder=place)
    assert done.code == 0, done.err
    assert [answer["prompt"] for answer in done.json["answers"]] == ["colour 1 of the hill?", "and 2?"]
    assert all({"prompt", "text", "stopped", "tokens"} == answer.keys() for answer in done.json["answers"])
    rows = cli("generate", "out", "--data", "rows.jsonl", "--limit", "3", "--json", folder=place)
    assert [answer["origin"] for answer in rows.json["answers"]] == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"]
    people = cli("generate", "out", "--prompt", "colour 1 of the hill?", folder=place)
    assert people.out == done.json["answers"][0]["text"] + "\n", "one prompt: the answer and nothing else"


def test_generate_is_the_same_from_python(place: Path) -> None:
    prompts = ["colour 1 of the hill?", "a longer question about the colour of the old mill?"]
    arguments = [part for prompt in prompts for part in ("--prompt", prompt)]
    printed = cli("generate", "out", *arguments, "--max-tokens", "12", "--json", folder=place).json["answers"]
    assert printed == api.generate(str(place / "out"), prompts, max_tokens=12)


def test_generate_draws_the_same_with_the_same_seed_and_other_with_another(place: Path) -> None:
    def drawn(seed: int, *more: str) -> str:
        options = ["--temperature", "1.5", "--seed", str(seed), "--max-tokens", "24", *more]
        done = cli("generate", "out", "--prompt", "colour?", *options, "--json", folder=place)
        assert done.code == 0, done.err
        return done.json["answers"][0]["text"]

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1, "--top-k", "2") != drawn(1) != drawn(1, "--top-p", "0.1"), "no option is accepted and ignored"
    whole = drawn(1)
    assert len(whole) > 8 and drawn(1, "--stop", whole[4:6]) == whole[: whole.index(whole[4:6])].strip()


def test_chat_reads_a_pipe(place: Path) -> None:
    typed = "colour 1 of the hill?\nand of the lake?\n"
    done = cli("chat", "out", "--max-tokens", "6", "--json", folder=place, typed=typed)
    assert done.code == 0, done.err
    messages = done.json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[0]["content"] == "colour 1 of the hill?"
    first = api.generate(str(place / "out"), ["colour 1 of the hill?"], max_tokens=6)[0]["text"]
    assert messages[1]["content"].strip() == first, "asked in the form that was taught, as generate does"
    people = cli("chat", "out", "--max-tokens", "6", folder=place, typed=typed)
    assert people.code == 0 and messages[1]["content"].strip() in people.out


def test_doctor_tells_what_a_bug_report_needs() -> None:
    """Pain 24: an installation that broke tells what it is made of."""
    done = cli("doctor", "--json")
    assert done.code == 0
    assert {
        "burnish",
        "python",
        "packages",
        "device",
        "memory_gb",
        "disk_free_gb",
        "extras",
        "caches",
        "offline",
        "problems",
    } <= done.json.keys()
    assert done.json["offline"] is True and str(Path.home()) not in done.out.replace(str(Path.home()) + "x", ""), (
        "no name of a person"
    )
    people = cli("doctor")
    assert people.code == 0 and "python" in people.out and "torch" in people.out


@pytest.mark.parametrize("what", list(LISTS))
def test_every_list_is_json_objects_with_a_name(place: Path, what: str) -> None:
    done = cli("ls", what, "--json", folder=place)
    assert done.code == 0, done.err
    assert isinstance(done.json, list)
    names = [entry["name"] for entry in done.json]
    assert len(names) == len(set(names)) and all(isinstance(name, str) and name for name in names)
    assert names or what == "runs", "the runs of this folder are not below runs/"
    people = cli("ls", what, folder=place)
    assert people.code == 0
    assert not names or names[0][:20] in people.out


@pytest.mark.parametrize("what", ["objectives", "techniques"])
def test_what_can_be_learned_is_listed_with_its_options_and_paper(what: str) -> None:
    """Also for people: no option or paper is in the JSON alone, and what does not go together is said beside a technique."""
    from burnish.objectives import OBJECTIVES
    from burnish.techniques import TECHNIQUES

    said = " ".join(cli("ls", what).out.split())
    for entry in LISTS[what]():
        assert re.search(r"\d{4}", entry["paper"]) and "Source:" not in entry["about"], entry["name"]
        assert " ".join(entry["paper"].split()) in said and all(" ".join(one.split()) in said for one in entry["options"])
    registry = {"objectives": OBJECTIVES, "techniques": TECHNIQUES}[what]
    assert {entry["name"] for entry in LISTS[what]()} == set(registry)
    if what == "techniques":
        (prompt,) = [entry for entry in LISTS[what]() if entry["name"] == "prompt"]
        assert {"classification", "mlm", "reward"} <= set(prompt["not_with"]) and "sft" not in prompt["not_with"]
        assert "not with: mlm, classification" in said


def test_lists_show_the_names_that_scripts_rely_on() -> None:
    names = {what: {entry["name"] for entry in make()} for what, make in LISTS.items()}
    promised = (
        "exact_match token_f1 accuracy macro_f1 label_parse_rate span_f1 rouge_l chrf bleu perplexity bits_per_byte json_valid"
    )
    assert {*promised.split(), "json_field_f1", "tool_call", "stop_rate"} <= names["scores"]
    assert {"full", "lora"} <= names["techniques"] and "sft" in names["objectives"] and "tiny" in names["models"]


def test_ls_runs_shows_the_runs_below_runs(place: Path) -> None:
    (place / "runs").mkdir(exist_ok=True)
    target = place / "runs" / "mine"
    if not target.exists():
        target.symlink_to(place / "out")
    (entry,) = cli("ls", "runs", "--json", folder=place).json
    assert entry["state"] == "finished" and entry["step"] == 6
    assert {"name": "runs/mine", "kind": "run"} in cli("ls", "models", "--json", folder=place).json


# ------------------------------------------------------------------------------------------------------------- init, data, bundled


def test_init_of_a_use_case_and_of_own_rows(place: Path, tmp_path: Path) -> None:
    made = cli("init", "support", "job", "--json", folder=tmp_path)
    assert made.code == 0 and made.json["run_file"] == "job/run.toml" and (tmp_path / "job" / "support.jsonl").is_file()
    own = cli("init", "--data", place / "labelled.jsonl", "own", "--json", folder=tmp_path)
    assert own.code == 0, own.err
    assert own.json["format"] == "labelled" and "accuracy" in own.json["score"] and own.json["why"], "what was guessed, and why"
    people = cli("init", "--data", place / "rows.jsonl", "talk", folder=tmp_path)
    assert people.out.startswith("Guessed: ") and "burnish tune run.toml" in people.out
    done = cli("check", "run.toml", f"model={place / 'stub'}", "--json", folder=tmp_path / "own")
    assert done.code == 0, done.err


def test_data_get_copies_a_public_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ.get("BURNISH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "banking77").is_dir():
        pytest.skip("the public data sets are not here: set BURNISH_DATA to a folder that holds banking77")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    done = cli("data", "get", "banking77", "--from", folder, "--json", folder=tmp_path)
    assert done.code == 0, done.err
    assert done.json["name"] == "banking77" and Path(done.json["path"]).is_relative_to(tmp_path / "cache")
    assert "public:banking77" in cli("data", "get", "banking77", folder=tmp_path).out


def test_the_bundled_model_is_tuned_offline_with_settings_left_alone(tmp_path: Path) -> None:
    """What `init` made and two steps: dtype, threads, schedule and intervals as they come."""
    assert cli("init", "support", "job", folder=tmp_path).code == 0
    few = ["train.steps=2", "data.limit=40", "evaluate.limit=4", "evaluate.every=2"]
    done = cli("tune", "run.toml", *few, "--json", folder=tmp_path / "job")
    assert done.code == 0, done.err
    assert done.json["scores"]["accuracy"]["n"] > 0 and "baseline" in done.json["scores"]["accuracy"]
    (answer,) = cli("generate", "runs/job", "--prompt", "hello", "--json", folder=tmp_path / "job").json["answers"]
    assert answer["tokens"] > 0


@pytest.mark.slow
def test_the_demo_ends_with_a_gain_that_is_no_accident(tmp_path: Path) -> None:
    done = cli("demo", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "runs" / "demo" / "report.json").read_text("utf-8"))
    score: dict[str, Any] = report["scores"][report["headline"]]
    assert done.json["scores"] == report["scores"] and done.json["output"] == "runs/demo"
    assert score["difference"]["low"] > 0 and score["n"] >= 200 and score["groups"] >= 50 and "baseline" in score


def test_the_demo_replaces_an_earlier_demo_and_nothing_else(place: Path) -> None:
    """A finished run of one's own is never the price of a demo."""
    done = cli("demo", "--output", "out", folder=place)
    assert done.code == 2 and "holds another run" in done.err and (place / "out" / "report.json").is_file()
