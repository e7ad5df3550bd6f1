"""Sending a model to a hub: one commit, private, whole and read again; the token is shown to the hub and to nobody else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.models import load_model
from cli_runs import Done, cli, write_rows
from hub_server import Hub, hub
from stub import cpu, make_stub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the official client's own, of its HTTP library

TOKEN = "hf_" + "Secret0123456789abcdefgh"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hub")
    make_stub(made / "stub")
    write_rows(made / "rows.jsonl", 8)
    return made


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    from huggingface_hub import constants

    with hub() as held:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # The client asks the public hub for a list of programs that may be calling it, unless it has one of today.
        listed = tmp_path_factory.mktemp("client") / "harnesses.json"
        listed.write_text('{"harnesses": []}')
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(listed))
        monkeypatch.setenv("HF_ENDPOINT", held.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield held


def send(folder: Path, output: Path, *more: str) -> Done:
    rows = ("--data", folder / "rows.jsonl", "--rows", 2)
    return cli("export", folder / "stub", "--to", "hub", "--repo", "owner/tuned", "--output", output, *rows, *more)


def test_a_repository_is_private_complete_and_opens(folder: Path, here: Hub, tmp_path: Path) -> None:
    done = send(folder, tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert here.repositories == {"owner/tuned": True} and len(here.commits) == 1 and here.deleted == []
    assert here.tokens == {f"Bearer {TOKEN}"}
    kept = {
        path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name not in ("manifest.json", "export.json")
    }
    assert {name: here.files[name] for name in kept} == kept, "what was sent is what lies here"
    assert {"README.md", "model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json"} <= here.files.keys()
    for name, data in {**here.files, **kept}.items():
        assert TOKEN.encode() not in data, f"{name} holds the token"
        assert name == "manifest.json" or str(folder).encode() not in data, f"{name} holds a place of this machine"
    assert TOKEN not in done.out + done.err
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["repository"] == "owner/tuned" and told["private"] is True and told["url"].endswith("/owner/tuned")
    for name, data in here.files.items():
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / name).write_bytes(data)
    assert load_model(str(tmp_path / "again"), cpu()).parameters() == load_model(str(folder / "stub"), cpu()).parameters()


def test_public_only_by_a_word(folder: Path, here: Hub, tmp_path: Path) -> None:
    assert send(folder, tmp_path / "out", "--public").code == 0
    assert here.repositories == {"owner/tuned": False}


def test_a_repository_that_is_there_is_left_alone(folder: Path, here: Hub, tmp_path: Path) -> None:
    here.repositories["owner/tuned"] = False
    done = send(folder, tmp_path / "out")
    assert done.code == 2 and "exists already, and nothing in it was changed" in done.message
    assert here.files == {} and here.deleted == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fault", "step"),
    [("full", "sending the files"), ("spoils", "fetching it again"), ("forbidden", "making the repository")],
)
def test_what_fails_on_the_way_leaves_no_half_export(fault: str, step: str, folder: Path, here: Hub, tmp_path: Path) -> None:
    """Pain 21: saving fails at the end: the step is named, and neither here nor there does half a model stay."""
    here.faults.add(fault)
    done = send(folder, tmp_path / "out")
    assert done.code == 1 and f"step: {step}" in done.message, done.message
    assert TOKEN not in done.out + done.err, "the hub's own answer held it"
    assert list(tmp_path.iterdir()) == []
    assert here.deleted == ([] if fault == "forbidden" else ["owner/tuned"])


def test_a_file_with_the_token_is_not_sent(folder: Path, here: Hub, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder / "stub", model)
    settings = {"system": f"My key is {TOKEN}."}
    (model / "burnish.json").write_text(json.dumps(settings))
    rows = ("--data", folder / "rows.jsonl", "--rows", 2)
    done = cli("export", model, "--to", "hub", "--repo", "owner/tuned", "--output", tmp_path / "out", *rows)
    assert done.code == 1 and "holds the access token. Nothing was sent." in done.message
    assert here.files == {} and here.repositories == {}


def test_without_a_token_nothing_begins(folder: Path, here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    done = send(folder, tmp_path / "out")
    assert done.code == 2 and "set HF_TOKEN" in done.message and list(tmp_path.iterdir()) == []
