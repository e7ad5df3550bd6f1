"""What may be asked of files and jobs, by the official client and by clients that are broken or hostile: shapes, limits, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.config_named import parted
from burnish.errors import ConfigError
from burnish.serve import jobs_desk
from burnish.serve.files import shown
from burnish.serve.jobs_graders import graded, linear
from burnish.serve.jobs_plan import EXTRA, resolved, run_values
from burnish.serve.jobs_request import CreateJob
from jobs_server import serving
from stub import make_stub

ROWS = b'{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}\n'
ANSWER = "{{sample.output_text}}"
CHECK = {"type": "string_check", "name": "same", "input": ANSWER, "reference": "{{item.answer}}", "operation": "eq"}
LIKE = {"type": "text_similarity", "name": "like", "input": ANSWER, "reference": "{{item.answer}}", "evaluation_metric": "rouge_l"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requests")
    make_stub(folder / "stub", layers=1)
    return folder


@pytest.fixture
def stub(place: Path) -> Path:
    return place / "stub"


@pytest.fixture(scope="module")
def client(place: Path) -> Iterator[openai.OpenAI]:
    """A server whose runner rests, so that every job stays as it was handed in."""
    patch = pytest.MonkeyPatch()
    patch.setattr(jobs_desk.Runner, "begin", lambda self: None)
    with serving(place, ("stub", place / "stub"), waiting_jobs=1000) as found:
        yield found
    patch.undo()


@pytest.fixture(scope="module")
def rows(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id


def raw(client: openai.OpenAI, method: str, path: str, **rest: Any) -> httpx2.Response:
    return httpx2.request(method, f"{str(client.base_url).rstrip('/')}{path}", timeout=30, **rest)


def refused(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """Assert the error envelope of the OpenAI interface, and return what is in it."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


# -------------------------------------------------------------------------------------------------------------------------- files


def test_a_file_is_given_back_byte_for_byte_and_forgotten_when_deleted(client: openai.OpenAI) -> None:
    content = ROWS + "ä\u2028\n".encode() + bytes(range(256))
    made = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert made.bytes == len(content) and made.filename == "rows.jsonl" and made.status == "processed" and made.object == "file"
    assert client.files.retrieve(made.id) == made and client.files.content(made.id).content == content
    assert client.files.wait_for_processing(made.id, poll_interval=0.01) == made
    assert client.files.delete(made.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="no file of that id"):
            call(made.id)


def test_files_are_listed_a_page_at_a_time(client: openai.OpenAI) -> None:
    made = [client.files.create(file=(f"{number}.jsonl", ROWS), purpose="fine-tune").id for number in range(5)]
    assert [file.id for file in client.files.list(limit=2)][:5] == made[::-1], "the client asks for page after page"
    assert [file.id for file in client.files.list(limit=2, order="asc", after=made[0], purpose="fine-tune")][:4] == made[1:]
    assert client.files.list(purpose="fine-tune-results").data == []
    with pytest.raises(openai.BadRequestError, match="after"):
        client.files.list(after="file-00")


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/evil.jsonl",
        "/etc/cron.d/evil",
        "..\\..\\evil",
        "a\x00b.jsonl",
        "C:\\evil",
        "‮gpj.exe",
        "con",
        "x" * 5000,
        ".",
        "\n\r",
    ],
)
def test_a_name_never_becomes_a_path(client: openai.OpenAI, place: Path, name: str) -> None:
    """The name is words to show; on the disk there are ids that were made here and nothing else."""
    before = {entry for entry in place.rglob("*") if "jobs.sqlite" not in entry.name}
    answer = raw(client, "POST", "/files", files={"file": (name, ROWS)}, data={"purpose": "fine-tune"})
    if answer.status_code == 400:  # a part whose name is no name is no file
        refused(answer, 400)
        return
    new = {entry for entry in place.rglob("*") if "jobs.sqlite" not in entry.name} - before
    assert {entry.name for entry in new} == {answer.json()["id"]} and all(entry.parent.name == "files" for entry in new)
    assert len(answer.json()["filename"]) <= 255 and answer.json()["filename"].isprintable()


@given(st.text())
def test_shown_names_are_printable_and_short(name: str) -> None:
    words = shown(name)
    assert words.isprintable() and 0 < len(words) <= 255 and words.encode()


@pytest.mark.parametrize("id", ["../jobs.sqlite", "..%2Fjobs.sqlite", "%2e%2e/jobs.sqlite", "file-00", "%00", "a" * 3000])
def test_an_id_that_was_not_made_here_finds_nothing(client: openai.OpenAI, rows: str, id: str) -> None:
    for path in (f"/files/{id}", f"/files/{id}/content", f"/fine_tuning/jobs/{id}", f"/fine_tuning/jobs/{id}/events"):
        assert raw(client, "GET", path).status_code in (400, 404, 405), path
        assert b"SQLite" not in raw(client, "GET", path).content


@pytest.mark.parametrize("purpose", ["batch", "assistants", "vision", "user_data", "evals"])
def test_purposes_that_are_not_offered_are_refused(client: openai.OpenAI, purpose: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="only 'fine-tune' is offered") as told:
        client.files.create(file=("rows.jsonl", ROWS), purpose=purpose)
    assert told.value.param == "purpose"


def test_what_is_no_upload_is_refused(client: openai.OpenAI) -> None:
    assert refused(raw(client, "POST", "/files", json={"purpose": "fine-tune"}), 400)["param"] == "file"
    assert refused(raw(client, "POST", "/files", data={"purpose": "fine-tune"}), 400)["param"] == "file"
    assert (
        "empty" in refused(raw(client, "POST", "/files", files={"file": ("a", b"")}, data={"purpose": "fine-tune"}), 400)["message"]
    )
    more = {"purpose": "fine-tune", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    assert "not offered" in refused(raw(client, "POST", "/files", files={"file": ("a", ROWS)}, data=more), 400)["message"]
    torn = b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nabc"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    refused(raw(client, "POST", "/files", content=torn, headers=headers), 400)
    refused(raw(client, "POST", "/files", content=b"nothing", headers={"content-type": "multipart/form-data"}), 400)


@pytest.mark.parametrize("told", [True, False], ids=["said beforehand", "found while reading"])
def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(tmp_path: Path, stub: Path, told: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(3000):
            yield b"x" * 100
        yield b"\r\n--x--\r\n"

    with serving(tmp_path, ("stub", stub), upload_bytes=200_000) as client:
        body: Any = b"".join(pieces()) if told else pieces()
        headers = {"content-type": "multipart/form-data; boundary=x"}
        refused(raw(client, "POST", "/files", content=body, headers=headers), 413)
        assert client.files.list().data == []
        small = client.files.create(file=("a", b"x" * 190_000), purpose="fine-tune")
        assert [entry.name for entry in (tmp_path / "runs" / ".jobs" / "files").iterdir()] == [small.id]


# --------------------------------------------------------------------------------------------------------------------------- jobs


def test_a_job_is_shown_as_it_was_asked_for(client: openai.OpenAI, rows: str, place: Path) -> None:
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2, "batch_size": "auto"}}}
    job = client.fine_tuning.jobs.create(
        model="stub", training_file=rows, method=method, seed=7, suffix="mine", metadata={"team": "a b"}, integrations=None
    )
    assert job.status == "validating_files" and job.object == "fine_tuning.job" and job.seed == 7 and job.result_files == []
    assert job.metadata == {"team": "a b"} and job.model == "stub" and job.training_file == rows and job.validation_file is None
    assert job.method is not None and job.method.dpo is not None and job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2 and job.method.dpo.hyperparameters.batch_size == "auto"
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert [event.message for event in events] == [f"Validating training file: {rows}", f"Created fine-tuning job: {job.id}"]
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    assert (place / "runs" / ".jobs" / "jobs" / job.id / "training.jsonl").read_bytes() == ROWS


def test_the_file_of_a_job_may_be_deleted(client: openai.OpenAI, place: Path) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="stub", training_file=file.id)
    client.files.delete(file.id)
    assert (place / "runs" / ".jobs" / "jobs" / job.id / "training.jsonl").read_bytes() == ROWS


def test_jobs_and_events_are_listed_a_page_at_a_time(client: openai.OpenAI, rows: str) -> None:
    made = [client.fine_tuning.jobs.create(model="stub", training_file=rows, metadata={"n": str(n % 2)}).id for n in range(5)]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)][:5] == made[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2, metadata={"n": "1"})][:2] == [made[3], made[1]]
    without = [job["id"] for job in raw(client, "GET", "/fine_tuning/jobs?metadata=null&limit=1000").json()["data"]]
    assert not set(made) & set(without)
    first = client.fine_tuning.jobs.list_events(made[0], limit=1)
    assert first.has_more and first.data[0].message.startswith("Validating")
    assert len(list(client.fine_tuning.jobs.list_events(made[0], limit=1))) == 2
    second = client.fine_tuning.jobs.list_events(made[0], after=first.data[0].id)
    assert [event.message for event in second.data] == [f"Created fine-tuning job: {made[0]}"] and not second.has_more


def test_states_allow_what_they_allow(client: openai.OpenAI, rows: str) -> None:
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="stub", training_file=rows)
    for call in (jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError, match="is validating_files"):
            call(job.id)
    assert jobs.cancel(job.id).status == "cancelled"
    for call in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError, match="is cancelled"):
            call(job.id)
        with pytest.raises(openai.NotFoundError):
            call("ftjob-00")


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"model": "gpt-9"}, "model", "no model of that name"),
        ({"model": 5}, "model", "string"),
        ({"training_file": "file-00"}, "training_file", "Upload it first"),
        ({"training_file": "../../etc/passwd"}, "training_file", "pattern"),
        ({"training_file": None}, "training_file", ""),
        ({"suffix": "../x"}, "suffix", "letters"),
        ({"suffix": "x" * 65}, "suffix", "64"),
        ({"seed": -1}, "seed", ""),
        ({"seed": True}, "seed", "integer"),
        ({"metadata": {"a": 1}}, "metadata.a", "string"),
        ({"metadata": {"a": "x" * 513}}, "metadata", "512"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "16"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "not offered"),
        ({"method": {"type": "distillation"}}, "method.type", "supervised"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method", "no meaning"),
        ({"method": {"type": "reinforcement"}}, "method", "grader"),
        ({"method": {"type": "supervised"}, "hyperparameters": {"n_epochs": 1}}, None, "one too many"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", '"auto" or a whole number'),
        ({"hyperparameters": {"n_epochs": "three"}}, "hyperparameters.n_epochs", '"auto" or a whole number'),
        ({"hyperparameters": {"batch_size": True}}, "hyperparameters.batch_size", "whole number"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier", "above 0"),
        ({"hyperparameters": {"beta": 0.1}}, "hyperparameters.beta", "Extra"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"epochs": 1}}}}, None, "Extra"),
        ({"lerning_rate": 1}, "lerning_rate", "Extra"),
        ({"burnish": {"data.source": "/etc/passwd"}}, "burnish", "cannot be set by a request"),
        ({"burnish": {"technique": "my_code:function"}}, "burnish", "expected one of"),
        ({"burnish": {"train.steps": -1}}, None, "train.steps"),
        ({"burnish": {"technique": ["lora"]}}, "burnish", "single value"),
        ({"burnish": {"output": "/tmp/x"}}, "burnish", "cannot be set"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused_at_once(
    client: openai.OpenAI, rows: str, change: dict[str, Any], param: str | None, says: str
) -> None:
    before = len(client.fine_tuning.jobs.list(limit=1000).data)
    body = {"model": "stub", "training_file": rows, **change}
    error = refused(raw(client, "POST", "/fine_tuning/jobs", json=body), 404 if change == {"model": "gpt-9"} else 400)
    assert says in error["message"], error
    assert param is None or error["param"] == param, error
    assert len(client.fine_tuning.jobs.list(limit=1000).data) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"\xff", b'"x"', b"[" * 10_000])
def test_a_body_that_is_no_request_is_refused(client: openai.OpenAI, body: bytes) -> None:
    answer = raw(client, "POST", "/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    refused(answer, 400)


def test_more_waiting_jobs_than_allowed_are_refused(tmp_path: Path, stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_desk.Runner, "begin", lambda self: None)
    with serving(tmp_path, ("stub", stub), waiting_jobs=2) as client:
        file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id
        first = client.fine_tuning.jobs.create(model="stub", training_file=file)
        client.fine_tuning.jobs.create(model="stub", training_file=file)
        with pytest.raises(openai.RateLimitError, match="2 jobs are waiting"):
            client.fine_tuning.jobs.create(model="stub", training_file=file)
        client.fine_tuning.jobs.cancel(first.id)
        client.fine_tuning.jobs.create(model="stub", training_file=file)


def test_two_servers_do_not_share_a_folder_of_jobs(tmp_path: Path, stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one answers everything else."""
    monkeypatch.setattr(jobs_desk.Runner, "begin", lambda self: None)
    with serving(tmp_path, ("stub", stub)) as first, serving(tmp_path, ("stub", stub)) as second:
        assert second.files.list().data == [] and not (tmp_path / "runs").exists(), "nothing is made before something is handed in"
        made = first.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
        with pytest.raises(openai.InternalServerError, match="Another server"):
            second.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
        assert [model.id for model in second.models.list()] == ["stub"]
    with serving(tmp_path, ("stub", stub)) as later:
        assert [file.id for file in later.files.list()] == [made.id]


# ------------------------------------------------------------------------------------------------------------- what a run is made of


def values(body: dict[str, Any], *, validated: bool = False) -> dict[str, Any]:
    """Return the run file that a request becomes."""
    from burnish.serve.jobs_plan import method_of

    asked = CreateJob.model_validate({"model": "m", "training_file": "file-0", **body})
    method = method_of(asked.asked)
    made = run_values(method, base="m", output="out", seed=3, validated=validated, extra=asked.burnish or {})
    config = resolved(made).config
    assert config.seed == 3 and str(config.model) == "m"
    return config.model_dump()


def test_hyperparameters_become_fields_of_the_run_file() -> None:
    plain = values({})
    assert plain["objective"]["name"] == "sft" and plain["train"]["epochs"] == 3 and plain["data"]["format"] == "messages"
    given = {"n_epochs": 2, "batch_size": 5, "learning_rate_multiplier": "auto"}
    for body in ({"hyperparameters": given}, {"method": {"type": "supervised", "supervised": {"hyperparameters": given}}}):
        made = values(body, validated=True)
        assert (made["train"]["epochs"], made["train"]["batch"], made["data"]["dev"]) == (2, 5, "validation.jsonl")
        assert made["train"]["learning_rate"] is None
    made = values({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}}})
    assert (made["objective"]["name"], made["objective"]["beta"]) == ("dpo", 0.3) and made["data"]["format"] == "pairs"
    given = {"compute_multiplier": 2, "eval_interval": 7, "eval_samples": 11, "n_epochs": 1}
    made = values({"method": {"type": "reinforcement", "reinforcement": {"grader": CHECK, "hyperparameters": given}}})
    assert made["objective"]["name"] == "grpo" and made["rollout"]["samples"] == 16
    assert (made["evaluate"]["every"], made["evaluate"]["limit"]) == (7, 11)
    assert made["data"]["columns"] == {"prompt": "messages", "completion": "answer"}
    assert made["rollout"]["reward"][0]["score"] == "exact_match(strict=true)"


def test_every_further_field_that_a_request_may_set_is_a_field() -> None:
    """And none of them holds a path, a model, or the name of code."""
    fields = values({})
    for name in EXTRA:
        table, _, key = name.rpartition(".")
        assert table in ("technique", "objective") or key in (fields[table] if table else fields), name
        assert not name.startswith(("model", "output", "data.source", "data.dev_", "data.test", "teacher")) or name in (
            "data.dev_share",
            "data.test_share",
        )


# ------------------------------------------------------------------------------------------------------------------------- graders


def test_graders_become_the_scores_that_they_are() -> None:
    assert graded(CHECK, "g").rewards == {"exact_match(strict=true)": 1.0} and graded(CHECK, "g").reference == "answer"
    assert graded({**LIKE, "evaluation_metric": "bleu"}, "g").rewards == {"bleu": 1.0}
    assert graded({**LIKE, "reference": "{{ item.first }} {x} {{item.last}}"}, "g").reference == "{first} {{x}} {last}"
    own = {"type": "burnish", "name": "n", "score": "last_number(tolerance=0.1)", "reference": "{{item.n}}"}
    assert graded(own, "g").rewards == {"last_number(tolerance=0.1)": 1.0}
    assert parted("last_number(tolerance=0.1)")[0] == "last_number"
    mix = {"type": "multi", "name": "m", "graders": {"same": CHECK, "like": LIKE}, "calculate_output": "0.75 * same + like / 4"}
    assert graded(mix, "g").rewards == {"exact_match(strict=true)": 0.75, "rouge_l": 0.25}


@pytest.mark.parametrize(
    ("grader", "says"),
    [
        ({"type": "python", "name": "p", "source": "def grade(sample, item): return 1"}, "code that came over the network"),
        ({"type": "score_model", "name": "s", "model": "gpt", "input": []}, "judge model"),
        ({"type": "label_model", "name": "s"}, "judge model"),
        ({"type": "string_chek"}, "Did you mean 'string_check'"),
        ({**CHECK, "operation": "ilike"}, "expected 'eq'"),
        ({**CHECK, "input": "{{sample.output_json.a}}"}, "the whole answer"),
        ({**CHECK, "reference": "yes"}, "a field of the row"),
        ({**CHECK, "reference": "{{item.a.b}}"}, "not a field of the row"),
        ({**CHECK, "reference": "{{sample.output_text}}"}, "not a field of the row"),
        ({**CHECK, "strict": True}, "is not known here"),
        ({**LIKE, "evaluation_metric": "fuzzy_match"}, "rouge_l, bleu"),
        ({"type": "burnish", "name": "n", "score": "os:system", "reference": "{{item.a}}"}, "unknown score"),
        ({"type": "burnish", "name": "n", "score": "perplexity", "reference": "{{item.a}}"}, "likelihood"),
        ({"type": "multi", "graders": {}, "calculate_output": "a"}, "a grader by each name"),
        ({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a + b"}, "no grader 'b'"),
        ({"type": "multi", "graders": {"a": CHECK, "b": LIKE}, "calculate_output": "a"}, "does not use"),
        ({"type": "multi", "graders": {"a": CHECK, "b": CHECK}, "calculate_output": "a + b"}, "same score"),
        (
            {"type": "multi", "graders": {"a": CHECK, "b": {**LIKE, "reference": "{{item.x}}"}}, "calculate_output": "a + b"},
            "2 different",
        ),
        ({"type": "multi", "graders": {"a": {"type": "multi"}}, "calculate_output": "a"}, "expected a grader"),
        ("string_check", "expected an object"),
    ],
)
def test_graders_without_a_counterpart_are_refused_with_the_reason(grader: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^g") as told:
        graded(grader, "g")
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("formula", "weights"),
    [("a", {"a": 1}), ("-a + 2*b", {"a": -1, "b": 2}), ("0.5 * (a + b) + a / 2", {"a": 1, "b": 0.5}), ("(1 + 2) * a", {"a": 3})],
)
def test_weighted_sums_are_read(formula: str, weights: dict[str, float]) -> None:
    assert linear(formula, "f") == weights


@pytest.mark.parametrize(
    "formula",
    [
        "a * b",
        "min(a, b)",
        "a + 1",
        "a ** 2",
        "1 / a",
        "a - a",
        "__import__('os')",
        "a if b else a",
        "",
        5,
        "a/0",
        "(" * 500,
        "a;b",
    ],
)
def test_other_formulas_are_refused(formula: Any) -> None:
    with pytest.raises(ConfigError, match="weighted sum"):
        linear(formula, "f")


def test_a_refused_grader_is_told_as_a_parameter(client: openai.OpenAI, rows: str) -> None:
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": {"type": "python", "name": "p", "source": "x"}}}
    with pytest.raises(openai.BadRequestError, match="code that came over the network") as told:
        client.fine_tuning.jobs.create(model="stub", training_file=rows, method=method)
    assert told.value.param == "method.reinforcement.grader"


def test_what_the_routes_say_of_themselves_names_every_field(client: openai.OpenAI) -> None:
    said = raw(client, "GET", "/../openapi.json").json()
    body = json.dumps(said["components"]["schemas"]["CreateJob"])
    assert all(
        f'"{name}"' in body for name in ("model", "training_file", "validation_file", "method", "suffix", "seed", "metadata")
    )
    assert "multipart/form-data" in said["paths"]["/v1/files"]["post"]["requestBody"]["content"]
