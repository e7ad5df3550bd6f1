"""A server with everything that the page shows, for tests: two small models, runs of every state, and texts that would like to be markup."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish import runs
from burnish.report import write_report
from burnish.retrieval import Document, build
from burnish.retrieval import search as look_in
from burnish.serve.settings import Settings
from burnish.types import Origin
from serving import Server, offered, running, write_adapter
from stub import make_stub
from test_report import full_report, write_run

ROWS = [
    {"message": f"{what} number {number} is missing", "team": team}
    for number in range(12)
    for what, team in (("parcel", "delivery"), ("invoice", "billing"))
]


def models(folder: Path) -> dict[str, Path]:
    """Write a base and a tuned model of it, and return their folders by the names that they are served under."""
    base = make_stub(folder / "base")
    return {"base": base, "tuned": write_adapter(base, folder / "tuned", 1, settings={"base": str(base)})}


def finished_run(root: Path, name: str, text: str = "My charger stopped.") -> runs.Run:
    """Write a finished run with a report in which this text stands wherever text stands."""
    root.mkdir(parents=True, exist_ok=True)
    run = write_run(root / name, text)
    report = full_report(text)
    write_report(run, report)
    runs.write_text(run.path / "decision.html", run.report_html.read_text(encoding="utf-8"))
    runs.write_status(run, "finished", step=400, steps=400)
    return run


@contextmanager
def page_server(folder: Path, **settings: Any) -> Iterator[Server]:
    """Run a server for the models of a folder, with its runs in the folder's `runs` and one document to look in."""
    index = build_index()
    allowed = Settings(
        runs=folder / "runs", look=lambda question: [one.passage for one in look_in(index, question, limit=2)], **settings
    )
    with running(offered(allowed, **models(folder / "models")), allowed) as server:
        yield server


def build_index() -> Any:
    """Return an index of one short document."""
    return build([Document("hours.md", "The counter is open on Sunday from ten to noon.", Origin("hours.md", 1))])


def ask(server: Server, path: str, body: Any = None, *, method: str | None = None, form: tuple[str, bytes] | None = None) -> Any:
    """Ask a route, as the page does, and return its JSON; of a refusal {"status", "error"}."""
    data, headers = None, {}
    if form is not None:
        name, content = form
        headers["Content-Type"] = "multipart/form-data; boundary=xyz"
        disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        data = b"--xyz\r\n" + disposition.encode() + b"\r\n\r\n" + content + b"\r\n--xyz--\r\n"
    elif body is not None:
        headers["Content-Type"], data = "application/json", json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}{path}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            text = response.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.loads(error.read())}
