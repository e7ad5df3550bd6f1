"""What the page asks the server: nothing gets in but the page's own files, names lead nowhere, judgements stay, runs are started as files."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from burnish import rate, runs
from burnish.data.formats import examples
from burnish.data.sources import read
from burnish.serve import drafts_kept, page, runs_view
from burnish.serve.drafts_settings import Chosen, applied, from_run
from burnish.serve.run_folders import id_of
from burnish.types import Pair
from burnish.usecases import USECASES, find, write
from page_server import ROWS, ask, finished_run, page_server
from serving import Server
from test_report import HOSTILE

STATIC = page.STATIC
PROMPTS = [f"the order number {number}" for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    finished_run(folder / "runs", "first")
    finished_run(folder / "runs", "<img src=x onerror=alert(1)>", HOSTILE[0])
    with page_server(folder) as found:
        yield found


def head(server: Server, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}", timeout=20) as response:
        return response.headers, response.read()


# ------------------------------------------------------------------------------------------------------------------ the page's files


def test_page_lets_in_nothing_but_its_own_files(server: Server) -> None:
    headers, body = head(server, "/")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'" and policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff" and headers["cross-origin-opener-policy"] == "same-origin"
    html = body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:|https?://", html)


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_no_file_makes_markup_of_text(path: Path, server: Server) -> None:
    """Whatever turns text into markup or code is not in the page's scripts at all; comments of style sheets load nothing."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function|srcdoc",
        text,
    )
    assert not re.search(r"https?://(?!www\.w3\.org/)|@import|url\(", text), "the page asks no other host"
    assert len(text.splitlines()) <= 350
    headers, body = head(server, f"/static/{path.name}")
    assert body.decode() == text and headers["content-type"].startswith(page.KINDS[path.suffix])


@pytest.mark.parametrize(
    "name", ["../page.py", "..%2fpage.py", "%2e%2e/page.py", "....//page.py", "nothing.js", "index.html%00.js", ""]
)
def test_no_other_file_is_served(server: Server, name: str) -> None:
    answer = ask(server, f"/static/{name}")
    assert answer["status"] == 404 and set(answer["error"]) == {"message", "type", "param", "code"}


def test_models_and_their_base(server: Server) -> None:
    found = {one["name"]: one for one in ask(server, "/page/models")["models"]}
    assert found["tuned"]["base"] == "base" and found["base"]["base"] is None
    assert {one["kind"] for one in found.values()} == {"writes"}
    passages = ask(server, "/page/passages", {"question": "Is the counter open on Sunday?"})["passages"]
    assert passages[0]["source"].startswith("hours.md") and "ten to noon" in passages[0]["text"]


# ---------------------------------------------------------------------------------------------------------------------------- runs


def test_runs_are_found_by_ids_that_are_no_paths(server: Server, folder: Path) -> None:
    listed = {one["name"]: one for one in ask(server, "/page/runs")["runs"]}
    first = listed["first"]
    assert first["state"] == "finished" and re.fullmatch("[0-9a-f]{16}", first["id"])
    one = ask(server, f"/page/runs/{first['id']}")
    assert {"progress", "scores", "examples", "data", "report", "decision", "file"} == set(one["parts"])
    assert one["headline"]["score"] == one["report"]["headline"]
    for name in ("first", "..%2ffirst", "%2e%2e", "../first", "0" * 16, "first/../first"):
        assert ask(server, f"/page/runs/{name}")["status"] == 404


def test_metrics_go_on_where_the_page_stopped(server: Server, folder: Path) -> None:
    run_id = id_of(folder / "runs" / "first")
    everything = ask(server, f"/page/runs/{run_id}/metrics")
    later = ask(server, f"/page/runs/{run_id}/metrics?after=300")
    assert everything["last"] == later["last"] == 400
    assert [one for one in everything["records"] if one["step"] >= 300] == later["records"]
    assert any(one.get("loss", 0) is None for one in everything["records"]), "a loss of NaN is no number, and breaks no JSON"


@pytest.mark.parametrize("name", ["report", "decision"])
def test_own_pages_of_a_run_can_do_nothing(server: Server, folder: Path, name: str) -> None:
    headers, _ = head(server, f"/page/runs/{id_of(folder / 'runs' / 'first')}/{name}.html")
    policy = headers["content-security-policy"]
    assert policy.startswith("sandbox;") and "allow-" not in policy and "default-src 'none'" in policy
    assert headers["x-frame-options"] == "SAMEORIGIN"


def test_a_run_that_died_before_it_had_a_folder_is_not_lost(folder: Path) -> None:
    root = folder / "other"
    draft = drafts_kept.make(root)
    output = root / "gone"
    drafts_kept.save(
        draft, {"about": "", "time": "2026-01-01", "started": "2026-01-01", "output": str(output), "settings": {"name": "gone"}}
    )
    (draft / "tune.err").write_text("Reading\n[##   ] step 1/9  loss 1\nError: rows.csv: nothing could be read\n", encoding="utf-8")
    (one,) = runs_view._listed(root)
    assert one["state"] == "failed" and one["message"] == "rows.csv: nothing could be read"
    assert "step 1/9" not in one["log"]


# ---------------------------------------------------------------------------------------------------------------------------- rate


def rating(server: Server, **more: Any) -> str:
    made = ask(
        server, "/page/ratings", {"title": "Tone", "first": "tuned", "second": "base", "prompts": PROMPTS, "max_tokens": 12, **more}
    )
    assert "id" in made, made
    return made["id"]


def following(server: Server, session: str, rater: str) -> Any:
    for _ in range(200):
        found = ask(server, f"/page/ratings/{session}/next?rater={rater}")
        if found.get("state") != "making":
            return found
        time.sleep(0.05)
    raise AssertionError("no answers came")


def test_judging_is_blind_saved_and_read_by_tune(server: Server, folder: Path) -> None:
    """Until the results are asked for nothing says which model is which; each judgement is a line of the format that tune reads."""
    session = rating(server)
    texts: dict[str, tuple[str, str]] = {}
    for number, (choice, edit) in enumerate(
        [("left", None), ("right", None), ("tie", None), ("both_bad", None), ("left", "a better text"), ("skip", None)]
    ):
        found = following(server, session, "ann")
        assert not re.search(r"\b(tuned|base)\b", json.dumps(found)), "a name would give a side away"
        assert found["judged"] == number and found["earlier"] is None
        texts[found["item"]] = (found["left"], found["right"])
        ask(
            server,
            f"/page/ratings/{session}/judgements",
            {"rater": "ann", "item": found["item"], "choice": choice, "edit": edit, "seconds": 1},
        )
    assert following(server, session, "ann")["state"] == "done"
    file = folder / "runs" / "feedback" / session / "feedback.jsonl"
    rows = rate.read_feedback(file)
    assert [row["choice"] for row in rows][2:4] == ["tie", "both_bad"] and len(rows) == 6
    for row in rows[:2]:
        left = texts[row["id"]][0]
        chosen = row["answers"]["ab".index(row["choice"])]["text"]
        assert (chosen == left) == (row is rows[0]), "the choice names the text that stood on that side"
        assert {one["model"] for one in row["answers"]} == {"tuned", "base"}
    made = examples(read(str(file)))
    assert not made.problems and made.format == "feedback" and {type(one) for one in made.examples} == {Pair}
    assert ask(server, f"/page/ratings/{session}/results")["pairs"] == len(made.examples) == 4


def test_sides_are_a_coin_and_the_same_again(server: Server) -> None:
    """Which side is whose follows from item and rater: the same after a reload, balanced over many."""
    session = rating(server)
    first, again, other = (following(server, session, rater) for rater in ("ann", "ann", "bob"))
    assert first == again
    assert {first["left"], first["right"]} == {other["left"], other["right"]}, "every rater judges the same answers"
    sides = [rate.order(f"{number}", rater, answers=2)[0] for number in range(400) for rater in ("ann", "bob")]
    assert 0.45 < sum(sides) / len(sides) < 0.55


def test_raters_agree_and_change_their_minds(server: Server) -> None:
    session = rating(server, prompts=PROMPTS[:3])
    for rater in ("ann", "bob"):
        for _ in range(3):
            found = following(server, session, rater)
            ask(server, f"/page/ratings/{session}/judgements", {"rater": rater, "item": found["item"], "choice": "tie"})
    named = ask(server, f"/page/ratings/{session}/next?rater=ann&item={found['item']}")
    assert named["earlier"] == {"choice": "tie", "edit": None}
    ask(server, f"/page/ratings/{session}/judgements", {"rater": "ann", "item": found["item"], "choice": "left"})
    ask(server, f"/page/ratings/{session}/judgements", {"rater": "ann", "item": found["item"], "choice": "skip"})
    summary = ask(server, f"/page/ratings/{session}/results")["summary"]
    assert summary["judgements"] == 6 and summary["replaced"] == 1 and summary["agreement"]["prompts"] == 3
    assert summary["agreement"]["share"]["mean"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"first": "nobody"}, "no model of that name"),
        ({"second": None, "temperature": 0}, "same answer twice"),
        ({"prompts": []}, "prompts"),
        ({"surprise": 1}, "surprise"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_sessions_that_cannot_be(server: Server, change: dict[str, Any], said: str) -> None:
    answer = ask(server, "/page/ratings", {"first": "tuned", "second": "base", "prompts": PROMPTS, **change})
    assert answer["status"] in (400, 404) and said in answer["error"]["message"]


def test_judgements_that_cannot_be(server: Server) -> None:
    session = rating(server)
    item = following(server, session, "ann")["item"]
    for body in (
        {"item": "0" * 16},
        {"item": item, "choice": "a"},
        {"item": item, "choice": "tie", "edit": "better"},
        {"item": item, "rater": ""},
    ):
        answer = ask(server, f"/page/ratings/{session}/judgements", {"rater": "ann", "choice": "left", **body})
        assert answer["status"] == 400, body
    for name in ("..", "%2e%2e", "rating-zz", f"../feedback/{session}"):
        assert ask(server, f"/page/ratings/{name}/results")["status"] == 404


# ------------------------------------------------------------------------------------------------------------------------- new run


def csv_rows() -> bytes:
    return ("message,team\n" + "".join(f"{row['message']},{row['team']}\n" for row in ROWS)).encode()


@pytest.mark.parametrize(
    "name", ["../../../evil.csv", "/etc/passwd.csv", "a\\..\\b.csv", "<img src=x>.csv", "x" * 400 + ".csv", ".csv"]
)
def test_names_of_uploads_never_become_paths(server: Server, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows lie in a folder of ours under a name of ours, whatever the file was called."""
    from burnish.serve import drafts

    monkeypatch.setattr(drafts, "_from_rows", lambda place, rows, shown: {"place": str(place), "rows": str(rows), "shown": shown})
    made = ask(server, "/page/drafts/upload", form=(name, csv_rows()))
    rows = Path(made["rows"])
    assert rows.parent.parent == folder / "runs" / "drafts" and rows.name == "rows.csv" and rows.read_bytes() == csv_rows()
    assert not list(folder.rglob("*evil*")) and len(made["shown"]) <= 200


@pytest.mark.parametrize("name", ["rows.exe", "rows", "rows.csv.exe", "rows.pkl", "rows.pt"])
def test_files_of_other_kinds_are_refused(server: Server, folder: Path, name: str) -> None:
    before = set((folder / "runs" / "drafts").glob("*")) if (folder / "runs" / "drafts").is_dir() else set()
    answer = ask(server, "/page/drafts/upload", form=(name, b"x"))
    assert answer["status"] == 400 and "not read" in answer["error"]["message"]
    assert set((folder / "runs" / "drafts").glob("*")) == before


BAD = [
    {"name": "../up"},
    {"name": "Ab"},
    {"name": ""},
    {"name": "a" * 65},
    {"name": "a;rm"},
    {"model": "http://example.org/m"},
    {"model": "a\nb"},
    {"technique": "lorra"},
    {"objective": "$(reboot)"},
    {"epochs": 0},
    {"epochs": float("inf")},
    {"batch": 0},
    {"learning_rate": -1},
    {"surprise": 1},
    {"format": "csv; ls"},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_is_chosen_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Chosen.model_validate({"name": "ok", "model": "tiny", **change})


def test_what_is_chosen_stands_in_the_run_file(tmp_path: Path) -> None:
    """Shell characters in a value are text of the run file, and of nothing else."""
    tree = tomllib.loads(
        'model = "tiny"\nscore = ["accuracy"]\n[data]\nsource = "rows.csv"\nformat = "labelled"\n[technique]\nname = "lora"\nrank = 16'
    )
    same = Chosen(name="a", model="tiny", format="labelled")
    assert applied(tree, same, output=tmp_path)["technique"] == {"name": "lora", "rank": 16}
    chosen = Chosen(
        name="a", model="$(touch x)", technique="full", objective="classification", epochs=2, learning_rate=0.1, group="who"
    )
    run = applied(tree, chosen, output=tmp_path / "a")
    assert run["model"] == "$(touch x)" and run["technique"] == {"name": "full"} and run["objective"] == {"name": "classification"}
    assert "score" not in run and run["train"] == {"epochs": 2, "learning_rate": 0.1}
    assert run["data"]["columns"] == {"group": "who"} and run["data"]["format"] == "auto"
    assert tree["technique"]["name"] == "lora", "the tables that were given stay as they are"


@pytest.mark.parametrize("name", list(USECASES))
def test_a_use_case_is_not_changed_by_what_nobody_chose(name: str, tmp_path: Path) -> None:
    """The fields of the page, left as they are, write the same run file, whatever else stands in it."""
    tree = tomllib.loads(write(find(name), tmp_path / name).read_text(encoding="utf-8"))
    chosen = Chosen.model_validate(json.loads(from_run(tree, name="untouched").model_dump_json()))
    assert applied(tree, chosen, output=tmp_path / "untouched") == {**tree, "output": str(tmp_path / "untouched")}


def test_secrets_of_the_server_stay_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.serve import jobs_process

    monkeypatch.setenv("BURNISH_API_KEY", "sk-burnish-canary")
    assert "sk-burnish-canary" not in jobs_process.environment().values()


@pytest.mark.parametrize("draft", ["draft-0000000000000000", "..", "draft-../../x", "draft-zz"])
def test_drafts_are_found_by_ids_alone(server: Server, draft: str) -> None:
    assert ask(server, f"/page/drafts/{draft}")["status"] in (404, 405)


@pytest.mark.slow
def test_from_upload_to_a_finished_run(server: Server, folder: Path) -> None:
    """The way of the page without a browser: rows, guess, check, start, finished; a second start is the same run."""
    made = ask(server, "/page/drafts/upload", form=("team mail.csv", csv_rows()))
    draft = ask(server, f"/page/drafts/{made['id']}")
    assert draft["settings"]["format"] == "labelled" and draft["settings"]["columns"] == {"text": "message", "label": "team"}
    assert draft["settings"]["name"] == "team-mail" and "team mail.csv" in draft["about"]
    refused = ask(server, f"/page/drafts/{made['id']}/start", method="POST")
    assert refused["status"] == 400 and "Check the draft first" in refused["error"]["message"]
    chosen = {**draft["settings"], "model": str(folder / "models" / "base"), "technique": "full", "epochs": 1, "batch": 4}
    ask(server, f"/page/drafts/{made['id']}/check", chosen)
    ready = settled(server, made["id"])
    assert ready["problem"] is None and ready["report"]["rows"] == len(ROWS)
    run = ask(server, f"/page/drafts/{made['id']}/start", method="POST")["run"]
    assert ask(server, f"/page/drafts/{made['id']}/start", method="POST")["run"] == run
    until = time.monotonic() + 240
    while (
        (one := ask(server, f"/page/runs/{run}"))["state"] in ("starting", "running") or one["busy"]
    ) and time.monotonic() < until:
        time.sleep(0.2)
    assert one["state"] == "finished", one.get("log") or one
    assert {"scores", "report", "data"} <= set(one["parts"]) and one["can_serve"]
    assert runs.read_status(folder / "runs" / "team-mail")["pid"] != os.getpid(), "a run is a process of its own"
    name = ask(server, f"/page/runs/{run}/serve", method="POST")["model"]
    assert name in [model["name"] for model in ask(server, "/page/models")["models"]]
    assert not ask(server, f"/page/runs/{run}")["can_serve_base"], "the base is on offer already"
    assert ask(server, f"/page/runs/{run}/base", method="POST")["model"] == "base"
    tuned = next(model for model in ask(server, "/page/models")["models"] if model["name"] == name)
    assert tuned["base"] == "base" and tuned["examples"] and tuned["single"]
    refused = ask(server, f"/page/runs/{run}/resume", method="POST")
    assert refused["status"] == 400


def test_a_check_says_what_stands_in_the_way(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.serve import drafts

    made = ask(server, "/page/drafts", {"usecase": "chat"})
    chosen = ask(server, f"/page/drafts/{made['id']}")["settings"]
    told = "Using 1 thread\nError: run.toml: 2 problems\n  - one\n  - two\n"
    monkeypatch.setattr(drafts, "_carried_out", lambda place, words: (2, "", told))
    taken = ask(server, f"/page/drafts/{made['id']}/check", {**chosen, "name": "first"})
    assert taken["status"] == 400 and "already" in taken["error"]["message"], "the name of a run that is there"
    ask(server, f"/page/drafts/{made['id']}/check", {**chosen, "epochs": 2})
    found = settled(server, made["id"])
    assert found["report"] is None and found["problem"] == "run.toml: 2 problems\n  - one\n  - two"
    assert tomllib.loads((folder / "runs" / "drafts" / made["id"] / "run.toml").read_text(encoding="utf-8"))["train"]["epochs"] == 2
    assert ask(server, f"/page/drafts/{made['id']}/start", method="POST")["status"] == 400
    assert ask(server, f"/page/drafts/{made['id']}", method="DELETE") is None
    assert ask(server, f"/page/drafts/{made['id']}")["status"] == 404


def settled(server: Server, draft: str) -> Any:
    until = time.monotonic() + 60
    while (found := ask(server, f"/page/drafts/{draft}"))["checking"] and time.monotonic() < until:
        time.sleep(0.1)
    return found
