"""Public sets by name: only verified bytes are read, a fetch is complete or absent, and every error says the next command."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import re
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.data import public
from burnish.data.formats import FORMATS, examples
from burnish.data.public import cache, download, get, licence_text, locate
from burnish.data.public_sets import PUBLIC
from burnish.data.public_types import Part, PublicFile, PublicSet
from burnish.data.sources import read
from burnish.errors import DataError, RunError, SpaceError

ROWS = b'{"text": "hello", "label": "greet"}\n{"text": "", "label": "none"}\n{"text": "bye", "label": "leave"}\n'


def pinned(data: bytes, path: str) -> PublicFile:
    return PublicFile(hashlib.sha256(data).hexdigest(), len(data), path)


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small set `mini` and a rewritten one `part`, and a cache in the test's own folder."""
    entry: dict[str, Any] = {
        "title": "Mini",
        "repository": "someone/mini",
        "commit": "c0ffee",
        "licence": "MIT",
        "attribution": "Someone, 2020",
        "files": {"rows.jsonl": pinned(ROWS, "data/rows of mini.jsonl"), "sub/more.txt": pinned(b"more", "more.txt")},
        "parts": {
            "": Part(("rows.jsonl",), "labelled", {"text": "text", "label": "label"}, leave_out_empty=("text",)),
            "faulty": Part(("rows.jsonl",), "labelled", {}, faulty=frozenset({"2"}), fault="no text"),
        },
    }
    monkeypatch.setitem(PUBLIC, "mini", PublicSet(**entry, verbatim=True))
    monkeypatch.setitem(PUBLIC, "part", PublicSet(**entry))
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BURNISH_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with both sets as they lie on somebody's disk."""
    for name in ("mini", "part"):
        (tmp_path / "from" / name / "sub").mkdir(parents=True)
        (tmp_path / "from" / name / "rows.jsonl").write_bytes(ROWS)
        (tmp_path / "from" / name / "sub" / "more.txt").write_bytes(b"more")
        (tmp_path / "from" / name / "LICENCE.txt").write_text("the licence as it came")
    return tmp_path / "from"


def served(url: str, size: int) -> bytes:
    assert url.startswith("https://raw.githubusercontent.com/someone/mini/c0ffee/")
    return {"rows%20of%20mini.jsonl": ROWS, "more.txt": b"more"}[url.rsplit("/", 1)[1]]


def test_registered_sets_are_complete() -> None:
    """Each entry has what is needed to read it, to fetch it and to give credit; formats and columns exist."""
    for name, entry in PUBLIC.items():
        assert entry.licence and entry.attribution and entry.title and "" in entry.parts, name
        for part in entry.parts.values():
            assert set(part.files) <= set(entry.files) and part.format in FORMATS, name
            assert set(part.columns) <= {*FORMATS[part.format].columns, "group"}, name
            assert set(part.options) <= set(FORMATS[part.format].options), name
            assert bool(part.faulty) == bool(part.fault), name
        for file in entry.files.values():
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0, name
            assert not entry.verbatim or "*" not in file.path, name
    assert len(PUBLIC) >= 23


def test_copied_from_a_folder_and_read_by_name(folder: Path) -> None:
    target = get("part", folder=folder)
    assert target == cache() / "part" and (target / "LICENCE.txt").read_text() == "the licence as it came"
    table = read("public:part")
    assert [row.values["text"] for row in table.rows] == ["hello", "bye"]
    assert "1 row(s) with empty text left out" in table.warnings[0]
    assert str(table.rows[1].origin) == "public:part/rows.jsonl:3"
    made = examples(table)
    assert made.format == "labelled" and "registered" in made.guessed and not made.problems


def test_the_folder_of_the_set_itself_will_do(folder: Path) -> None:
    assert get("mini", folder=folder / "mini").is_dir()


def test_known_faulty_rows_are_left_out_and_counted(folder: Path) -> None:
    get("part", folder=folder)
    table = read("public:part/faulty")
    assert len(table.rows) == 2 and "1 row(s) left out, known to be faulty in this set (no text)" in table.warnings[0]
    with pytest.raises(DataError, match="Did you mean 'faulty'"):
        read("public:part/fauty")


def test_data_folder_goes_before_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_DATA", str(folder))
    assert locate("part") == folder / "part"


def test_changed_bytes_are_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "part" / "rows.jsonl").write_bytes(ROWS + b"\n")
    monkeypatch.setenv("BURNISH_DATA", str(folder))
    with pytest.raises(DataError, match=r"sha256 is .* expected .* the file was changed"):
        read("public:part")
    with pytest.raises(DataError, match="cannot be taken from"):
        get("part", folder=folder)
    assert not (cache() / "part").exists()


def test_missing_set_says_the_command() -> None:
    with pytest.raises(DataError, match=r"burnish data get part --from FOLDER"):
        read("public:part")
    with pytest.raises(DataError, match=r"Run: burnish data get mini \("):
        read("public:mini")


def test_download_of_published_bytes() -> None:
    target = get("mini", fetch=served)
    assert (target / "rows.jsonl").read_bytes() == ROWS and (target / "sub" / "more.txt").read_bytes() == b"more"
    text = (target / "LICENCE.txt").read_text()
    assert text == licence_text(PUBLIC["mini"]) and "Someone, 2020" in text and "MIT" in text and "c0ffee" in text


def test_a_set_that_is_there_is_not_fetched_again(folder: Path) -> None:
    get("mini", folder=folder)
    assert get("mini", fetch=lambda url, size: pytest.fail("fetched again")).is_dir()
    (cache() / "mini" / "rows.jsonl").write_bytes(b"damaged")
    assert (get("mini", fetch=served) / "rows.jsonl").read_bytes() == ROWS


def test_sets_that_were_rewritten_are_not_downloaded() -> None:
    with pytest.raises(DataError, match=r"someone/mini \(MIT\).*--from FOLDER"):
        get("part", fetch=served)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left"), DataError("gone"), b"wrong"])
def test_a_fetch_is_complete_or_absent(failure: Any) -> None:
    """Ctrl-C, a full disk, a lost connection or wrong bytes at the second file leave nothing behind."""

    def fetch(url: str, size: int) -> bytes:
        if url.endswith("more.txt"):
            if isinstance(failure, bytes):
                return failure
            raise failure
        return served(url, size)

    with pytest.raises((KeyboardInterrupt, SpaceError, DataError)) as caught:
        get("mini", fetch=fetch)
    assert list(cache().iterdir()) == []
    if isinstance(failure, OSError):
        assert isinstance(caught.value, SpaceError) and caught.value.exit_code == 3 and "BURNISH_CACHE" in str(caught.value)


def test_a_cache_that_cannot_be_written(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError, match="BURNISH_CACHE"):
        get("mini", folder=folder)


def test_places_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BURNISH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "burnish" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "burnish" / "data"


# -------------------------------------------------------------------------------------------------------------------- download


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.org/rows")
            self.end_headers()
        elif self.path == "/here":
            self.send_response(302)
            self.send_header("Location", "/rows")
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ROWS)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_download_from_a_server(server: str) -> None:
    assert download(f"{server}/rows", len(ROWS), schemes=("http",)) == ROWS
    assert download(f"{server}/here", len(ROWS), schemes=("http",)) == ROWS


@pytest.mark.parametrize(
    ("path", "size", "message"),
    [
        ("/rows", len(ROWS) - 1, "is larger than the registered"),
        ("/rows", len(ROWS) + 1, "bytes came, expected"),
        ("/missing", 10, "cannot be fetched"),
        ("/away", 10, "leads on to http://example.org; not followed"),
    ],
)
def test_downloads_that_are_refused(server: str, path: str, size: int, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        download(server + path, size, schemes=("http",))


def test_download_is_https_only(server: str) -> None:
    with pytest.raises(DataError, match="expected an address with https://"):
        download(f"{server}/rows", 10)


def test_download_has_a_time_limit(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1e9, 2e9])
    monkeypatch.setattr(public, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(DataError, match="took longer than"):
        download(f"{server}/rows", len(ROWS), schemes=("http",))


# ------------------------------------------------------------------------------------------------------------------- real sets

PLACES = [os.environ.get("BURNISH_DATA"), Path(__file__).resolve().parents[2] / "shared" / "data"]
REAL = next((Path(place) for place in PLACES if place and Path(place).is_dir()), None)
NAMES = [f"{name}/{part}".rstrip("/") for name, entry in PUBLIC.items() for part in entry.parts]


@pytest.mark.skipif(REAL is None, reason="the real data sets are not here; set BURNISH_DATA")
@pytest.mark.parametrize("name", NAMES)
def test_every_registered_set_works_without_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data = "public:NAME"`: verified, read, and every row becomes an example."""
    if not (REAL / name.split("/")[0]).is_dir():  # type: ignore[operator]
        pytest.skip(f"{name} is not among the data")
    monkeypatch.setenv("BURNISH_DATA", str(REAL))
    table = read(f"public:{name}")
    made = examples(table)
    assert not made.problems and len(made.examples) >= len(table.rows) > 0
    assert made.format == table.format and all(isinstance(one, FORMATS[made.format].gives) for one in made.examples)
