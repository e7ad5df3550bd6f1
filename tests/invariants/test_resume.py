"""Stopped anywhere and resumed = never stopped: the same weights, optimizer, random state, metrics and scores, bit for bit.

Promises R1, R5, R6 and R11; user pains 2 (a run that goes on with NaN) and 16 (resume that is not exact, or trains other rows). Runs
stop inside this process: a signal is raised while a step, an evaluation or the final measurement is told to the watcher, so that the
moment is exact. Real processes are killed in `test_kill`.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish import api, checkpoint, runs
from burnish.errors import Stopped, UsageError
from burnish.tune import Watch
from cli_runs import cli, last_checkpoint, metrics, refused, result, tree, write_rows, write_run
from stub import make_stub

STEPS = 9
COMMON: dict[str, Any] = {"train__steps": STEPS, "evaluate__every": 3, "save__every": 4}
CASES: dict[str, dict[str, Any]] = {
    "lora with dropout, padded": {"technique__dropout": 0.2},
    "lora with dropout, packed": {"technique__dropout": 0.2, "train__packing": True},
    "full, several micro-batches": {"technique__name": "full", "train__tokens": 160},
    "full, packed, sources by weight": {
        "technique__name": "full",
        "train__packing": True,
        "data__source": [{"source": "rows.jsonl", "weight": 0.5}, {"source": "more.jsonl", "weight": 2.0}],
    },
}
"""Fourteen training rows and four per step: every run crosses the borders of epochs; an evaluation stands after steps 3, 6 and 9."""


class Crash(Exception):
    """A death without a word: nothing is saved, as after SIGKILL."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub and its rows, shared by all runs."""
    folder = tmp_path_factory.mktemp("resume")
    make_stub(folder / "stub")
    write_rows(folder / "rows.jsonl")
    write_rows(folder / "more.jsonl", 10, first=50)
    return folder


def at_step(number: int, act: Callable[[], None]) -> Watch:
    """Return a watcher that acts when a step is told, which is before its evaluation and its checkpoint."""
    return Watch(step=lambda record: act() if record["step"] == number else None)


def at_words(words: str, act: Callable[[], None]) -> Watch:
    return Watch(say=lambda text: act() if words in text else None)


def sends(number: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


def crash() -> None:
    raise Crash


def interrupted(run: Path, output: Path, watches: Sequence[Watch], *overrides: str) -> Path:
    """Begin a run, let each watcher end it once, and resume it to its end."""
    for number, watch in enumerate([*watches, Watch()]):
        if number < len(watches):
            with pytest.raises((Stopped, Crash)):
                api.tune(run, f"output={output}", *overrides, resume=number > 0, watch=watch)
        else:
            api.tune(run, f"output={output}", *overrides, resume=True, watch=watch)
    return output


@cache
def uninterrupted(place: Path, case: str) -> dict[str, Any]:
    """Return everything that an undisturbed run of a case left."""
    output = place / f"whole-{list(CASES).index(case)}"
    api.tune(write_run(place, "./stub", name="whole.toml", output=str(output), **COMMON, **CASES[case]))
    return result(output)


def case_file(place: Path, case: str = "lora with dropout, padded") -> Path:
    return write_run(place, "./stub", name="case.toml", **COMMON, **CASES[case])


# --------------------------------------------------------------------------------------------------------------- stopped anywhere


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    case=st.sampled_from(list(CASES)),
    steps=st.lists(st.integers(1, STEPS), min_size=1, max_size=2, unique=True).map(sorted),
    number=st.sampled_from([signal.SIGTERM, signal.SIGINT]),
)
def test_stopped_at_any_steps_and_resumed_is_the_same_run(place: Path, case: str, steps: list[int], number: int) -> None:
    """Pain 16, R1: technique, layout and mixture do not matter, nor whether an evaluation was under way (steps 3, 6 and 9)."""
    output = place / "stopped"
    shutil.rmtree(output, ignore_errors=True)
    interrupted(case_file(place, case), output, [at_step(step, sends(number)) for step in steps])
    assert result(output) == uninterrupted(place, case)


@pytest.mark.parametrize("case", list(CASES))
def test_crashed_between_checkpoints_and_resumed_is_the_same_run(place: Path, tmp_path: Path, case: str) -> None:
    """R2: steps 5 to 7 are made again from the checkpoint of step 4 (or the better one of step 6), and leave one line each."""
    output = interrupted(case_file(place, case), tmp_path / "out", [at_step(7, crash)])
    assert result(output) == uninterrupted(place, case)


def test_a_stop_says_what_is_saved_and_how_to_go_on(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(Stopped) as stopped:
        api.tune(case_file(place), f"output={output}", watch=at_step(2, sends(signal.SIGINT)))
    assert stopped.value.exit_code == 130
    assert "Stopped after step 2 of 9" in str(stopped.value) and f"burnish tune {output}/run.toml --resume" in str(stopped.value)
    status = runs.read_status(output)
    assert status["state"] == "stopped" and checkpoint.find(output / "checkpoints").step == 2


def test_the_command_that_a_stop_names_goes_on(place: Path, tmp_path: Path) -> None:
    """The run file in the run directory is the same run, from wherever it is called."""
    case, output = "lora with dropout, padded", tmp_path / "out"
    with pytest.raises(Stopped):
        api.tune(case_file(place, case), f"output={output}", watch=at_step(5, sends(signal.SIGTERM)))
    done = cli("tune", output / "run.toml", "--resume", folder=tmp_path)
    assert done.code == 0, done.err
    assert "Resuming after step 5" in done.err
    now, whole = result(output), uninterrupted(place, case)
    assert {**now, "answers": None} == {**whole, "answers": None}
    # The rows are named from the run file, which is another one here; the answers to them are the same.
    assert [row["tuned"] for row in rows_of(now)] == [row["tuned"] for row in rows_of(whole)]


def rows_of(left: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in left["answers"].splitlines()]


def test_stopped_inside_an_evaluation_then_crashed_leaves_each_record_once(place: Path, tmp_path: Path) -> None:
    """The checkpoint of a stop inside an evaluation stands before it; what a resumed run wrote of it is not kept twice."""
    case = "lora with dropout, padded"
    output = interrupted(case_file(place, case), tmp_path / "out", [at_step(3, sends(15)), at_step(4, crash)])
    assert result(output) == uninterrupted(place, case)


def test_crashed_after_the_first_evaluation_leaves_its_record_once(place: Path, tmp_path: Path) -> None:
    case = "lora with dropout, padded"
    output = interrupted(case_file(place, case), tmp_path / "out", [at_step(1, crash)])
    assert [line["step"] for line in metrics(output) if "dev" in line] == [0, 3, 6, 9]
    assert result(output) == uninterrupted(place, case)


@pytest.mark.parametrize("words", ["step 0: dev", "Measuring the tuned"])
def test_stopped_before_the_first_step_or_while_measuring_the_result(place: Path, tmp_path: Path, words: str) -> None:
    case = "lora with dropout, padded"
    output = interrupted(case_file(place, case), tmp_path / "out", [at_words(words, sends(15))])
    assert result(output) == uninterrupted(place, case)


def test_a_run_that_stopped_early_does_not_train_on_when_its_end_is_made_again(place: Path, tmp_path: Path) -> None:
    run = write_run(
        place, "./stub", name="early.toml", train__steps=30, evaluate__every=2, evaluate__patience=2, score=["exact_match"]
    )
    whole = api.tune(run, f"output={tmp_path / 'whole'}")
    last = last_checkpoint(whole).name
    assert last == "checkpoint-6", "exact_match stays 0: steps 4 and 6 are no better than step 2"
    output = interrupted(run, tmp_path / "out", [at_words("Measuring the tuned", crash)])
    assert result(output) == result(whole)


# ------------------------------------------------------------------------------------------------------- where there is nothing to do


@pytest.fixture(scope="module")
def stopped_run(place: Path) -> Path:
    """A run that stands after step 5 of 9, to be copied."""
    output = place / "stopped-at-5"
    with pytest.raises(Stopped):
        api.tune(case_file(place), f"output={output}", watch=at_step(5, sends(signal.SIGTERM)))
    return output


@pytest.fixture
def stopped(stopped_run: Path) -> Path:
    """A copy of the stopped run, at the same depth, so that paths in it lead where they led."""
    copy = stopped_run.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(stopped_run, copy))


def test_resume_of_a_finished_run_says_so_and_succeeds(place: Path, tmp_path: Path) -> None:
    run = case_file(place)
    output = api.tune(run, f"output={tmp_path / 'out'}")
    before = tree(output)
    done = cli("tune", run, f"output={output}", "--resume", "--json")
    assert done.code == 0 and "finished already; nothing to resume" in done.err
    assert done.json["scores"] == json.loads((output / "report.json").read_text())["scores"]
    assert tree(output) == before


def test_resume_without_a_run_begins_anew_and_says_so(place: Path, tmp_path: Path) -> None:
    case = "lora with dropout, padded"
    done = cli("tune", case_file(place, case), f"output={tmp_path / 'out'}", "--resume")
    assert done.code == 0 and "no complete checkpoint to resume from; starting from the beginning" in done.err
    assert result(tmp_path / "out") == uninterrupted(place, case)


def test_resume_without_a_complete_checkpoint_begins_anew(place: Path, stopped: Path) -> None:
    """R3: every damaged checkpoint is named; the metrics of the lost course are not mixed with the new one's."""
    saved = list((stopped / "checkpoints").glob("checkpoint-*"))
    for path in saved:
        (path / "manifest.json").write_text("{}")
    done = cli("tune", case_file(place), f"output={stopped}", "--resume")
    assert done.code == 0 and "starting from the beginning" in done.err
    assert len(saved) >= 2 and all(f"Passed over {path}" in done.err for path in saved), done.err
    assert result(stopped) == uninterrupted(place, "lora with dropout, padded")


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(place: Path, stopped: Path) -> None:
    file = last_checkpoint(stopped) / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    done = cli("tune", case_file(place), f"output={stopped}", "--resume")
    assert done.code == 0 and "Resuming after step 4" in done.err and "its content changed" in done.err
    assert result(stopped) == uninterrupted(place, "lora with dropout, padded")


def test_a_used_folder_is_refused_without_resume(place: Path, stopped: Path) -> None:
    before = tree(stopped)
    refused(cli("tune", case_file(place), f"output={stopped}"), "already holds a run", r"stopped at step 5", "--resume")
    assert tree(stopped) == before


# ------------------------------------------------------------------------------------------------------------ what may not change


OWN = '"""An objective of one\'s own, the same as sft."""\nfrom burnish.objectives.likelihood import SFT as mine\n'


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["train.batch=8"], r"train\.batch: 4 -> 8"),
        (
            ["train.learning_rate=0.5", "technique.dropout=0.1"],
            r"technique\.dropout: 0\.2 -> 0\.1\n.*train\.learning_rate: 0\.002 -> 0\.5",
        ),
        (["objective.name=own:mine"], r'objective\.name: "sft" -> "own:mine"'),
        (["seed=6"], "seed: 5 -> 6"),
        (["train.steps=12"], r"train\.steps: 9 -> 12"),
        (["data.system=Be brief."], r'data\.system: not set -> "Be brief\."'),
        (["model=./other"], "model"),
    ],
)
def test_resume_refuses_a_changed_run_and_names_what_changed(
    place: Path, stopped: Path, overrides: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R11: nothing of the run is touched, so that undoing the change is enough."""
    (place / "own.py").write_text(OWN)
    if not (place / "other").exists():
        make_stub(place / "other", seed=1)
    monkeypatch.chdir(place)
    before = tree(stopped)
    refused(cli("tune", case_file(place), f"output={stopped}", "--resume", *overrides), "cannot be resumed", named, "Undo them")
    assert tree(stopped) == before


def test_resume_refuses_a_changed_row(place: Path, stopped: Path) -> None:
    rows = place / "rows.jsonl"
    content = rows.read_text()
    rows.write_text(content.replace("blue 0", "blue 1", 1))
    try:
        refused(
            cli("tune", case_file(place), f"output={stopped}", "--resume"), "the data: its content is not what the run began with"
        )
    finally:
        rows.write_text(content)


def test_resume_refuses_other_weights_under_the_same_name(place: Path, tmp_path: Path) -> None:
    """An adapter continued on another base would be silently wrong."""
    model = Path(shutil.copytree(place / "stub", tmp_path / "model"))
    run = write_run(place, model, name="own-model.toml", **COMMON)
    with pytest.raises(Stopped):
        api.tune(run, f"output={tmp_path / 'out'}", watch=at_step(2, sends(15)))
    make_stub(model, seed=3)
    with pytest.raises(UsageError, match="the model: its weights are not those the run began with"):
        api.tune(run, f"output={tmp_path / 'out'}", resume=True)


# ---------------------------------------------------------------------------------------------------------------- what may change


def test_intervals_of_saving_and_logging_may_change(place: Path, stopped: Path) -> None:
    case = "lora with dropout, padded"
    done = cli("tune", case_file(place, case), f"output={stopped}", "--resume", "save.every=2", "save.keep=3", "log.every=3")
    assert done.code == 0, done.err
    now, whole = result(stopped), uninterrupted(place, case)
    assert {key: now[key] for key in ("model", "scores", "last checkpoint")} == {
        key: whole[key] for key in ("model", "scores", "last checkpoint")
    }
    assert [line["step"] for line in metrics(stopped) if "loss" in line] == [1, 2, 3, 4, 5, 6, 9]


def test_the_folder_of_a_run_may_be_moved(place: Path, stopped: Path, tmp_path: Path) -> None:
    """Deeper in the tree than it was: the paths in its own run file no longer lead to the rows, and need not."""
    case, moved = "lora with dropout, padded", tmp_path / "some" / "other" / "place"
    moved.parent.mkdir(parents=True)
    stopped.rename(moved)
    done = cli("tune", case_file(place, case), f"output={moved}", "--resume")
    assert done.code == 0, done.err
    assert result(moved) == uninterrupted(place, case)


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_under_a_constant_schedule_may_be_lengthened(place: Path, tmp_path: Path, finished: bool) -> None:
    """The warm-up, a share of the steps, stays what it was when the run began."""
    more = {"train__schedule": "constant", "technique__dropout": 0.2, "train__warmup": 0.0, "evaluate__every": 3, "save__every": 4}
    short, long = (write_run(place, "./stub", name=f"{n}.toml", train__steps=n, **more) for n in (6, 12))
    whole = api.tune(long, f"output={tmp_path / 'whole'}")
    output = tmp_path / "out"
    if finished:
        api.tune(short, f"output={output}")
    else:
        with pytest.raises(Stopped):
            api.tune(short, f"output={output}", watch=at_step(5, sends(15)))
    api.tune(long, f"output={output}", resume=True)
    assert result(output) == result(whole)
    assert runs.read_status(output)["state"] == "finished" and runs.read_status(output)["step"] == 12


def test_a_lengthened_run_keeps_the_intervals_it_began_with(place: Path, tmp_path: Path) -> None:
    """The interval of evaluations follows from the steps where nobody set it; a longer run is not refused for that."""
    run = write_run(place, "./stub", name="constant.toml", train__steps=5, train__schedule="constant", evaluate__every=None)
    with pytest.raises(Stopped):
        api.tune(run, f"output={tmp_path / 'out'}", watch=at_step(3, sends(15)))
    done = cli("tune", run, f"output={tmp_path / 'out'}", "--resume", "train.steps=10")
    assert done.code == 0, done.err
    assert [line["step"] for line in metrics(tmp_path / "out") if "dev" in line] == list(range(11))


# ------------------------------------------------------------------------------------------------------------------- not a number


def test_a_weight_that_is_nan_stops_the_run_and_names_the_rows(place: Path, tmp_path: Path) -> None:
    """Pain 2, R6: never applied, never hidden behind a loss of 0, nothing saved that holds it but what the user gave."""
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(place / "stub", tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    # Only rows with this letter meet it: a model that is broken altogether is refused when it is loaded.
    letter = api.load(place / "stub").model.tokenizer.convert_tokens_to_ids("w")
    tensors["model.embed_tokens.weight"][letter] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    run = write_run(place, model, name="nan.toml", data__dev_share=0.0)
    done = cli("tune", run, f"output={tmp_path / 'out'}", "--json")
    message = done.json["error"]["message"]
    assert done.code == 1 and "not finite" in message and "rows.jsonl:" in message and "was not applied" in message, message
    status = runs.read_status(tmp_path / "out")
    assert status["state"] == "failed" and "not finite" in status["message"]
    assert not (tmp_path / "out" / "model").exists() and not (tmp_path / "out" / "report.json").exists()
    found = checkpoint.find(tmp_path / "out" / "checkpoints")
    assert found.path is not None and not any(
        bool(tensor.isnan().any()) for tensor in load_file(found.path / "adapter_model.safetensors").values()
    )


def test_a_failure_that_is_nobodys_error_is_recorded_as_a_failed_run(place: Path, tmp_path: Path) -> None:
    with pytest.raises(Crash):
        api.tune(case_file(place), f"output={tmp_path / 'out'}", watch=at_step(2, crash))
    assert runs.read_status(tmp_path / "out")["state"] == "failed"
