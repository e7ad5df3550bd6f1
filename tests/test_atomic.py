"""Files and folders are complete or absent: reliability promises R2, R3, R4, proved by dying at every system call of a write."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import atomic, disk
from burnish.errors import RunError, SpaceError, UsageError

SOURCE = Path(__file__).resolve().parent.parent / "src"


class Death(BaseException):
    """The process is gone: no handler of ours may run on."""


class Calls:
    """The file operations of a process. At the k-th one it dies (every later one fails too), or that one reports an error.

    `lose()` then does what a loss of power may do: files that were never fsynced keep half their bytes, renames whose folder was
    never fsynced did not happen.
    """

    NAMES = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate")

    def __init__(self, root: Path, *, at: int, error: int | None = None) -> None:
        self.root, self.at, self.error, self.count = root, at, error, 0
        self.synced = {file.stat().st_ino for file in root.rglob("*") if file.is_file()}
        self.renames: list[tuple[Path, Path, bytes | None]] = []

    @property
    def happened(self) -> bool:
        return self.count >= self.at

    @contextmanager
    def active(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in self.NAMES:
                patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            opened = self._wrapped("io", io.open)
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            yield

    def _wrapped(self, name: str, real: Callable) -> Callable:
        def call(*arguments, **options):
            if name in ("open", "io") and "dir_fd" not in options and not Path(arguments[0]).is_relative_to(self.root):
                return real(*arguments, **options)  # the interpreter reading a module
            self.count += 1
            if self.count == self.at and self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
            if self.count >= self.at and self.error is None:
                if name == "write" and self.count == self.at:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise Death
            if name == "fsync":
                return self._fsync(arguments[0])
            if name in ("rename", "replace"):
                source, target = Path(arguments[0]), Path(arguments[1])
                self.renames.append((source, target, target.read_bytes() if target.is_file() else None))
            result = real(*arguments, **options)
            if (name == "open" and arguments[1] & os.O_CREAT) or (name == "io" and set("wxa") & set(str(arguments[1:2]))):
                self.synced.discard(os.stat(arguments[0]).st_ino)  # noqa: PTH116  a new file may have the inode of a deleted one
            return result

        return call

    def _fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISDIR(status.st_mode):
            self.synced.add(status.st_ino)
            return
        folder = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.renames = [entry for entry in self.renames if entry[1].parent.resolve() != folder]

    def lose(self, *, contents: bool, renames: bool) -> None:
        if contents:
            for file in self.root.rglob("*"):
                if file.is_file() and file.stat().st_ino not in self.synced:
                    os.truncate(file, file.stat().st_size // 2)
        for source, target, before in reversed(self.renames if renames else []):
            if target.exists() and not source.exists():
                target.rename(source)
                if before is not None:
                    target.write_bytes(before)


LOSSES = [{"contents": False, "renames": False}, {"contents": True, "renames": False}, {"contents": True, "renames": True}]


def every_death(prepare: Callable[[], Path], act: Callable[[Path], object], check: Callable[[Path, bool], None]) -> int:
    """Die at every call of `act` under every loss; `check(folder, completed)` judges what is left. Returns the number of calls."""
    at = 1
    for loss in LOSSES:
        for at in itertools.count(1):
            folder = prepare()
            calls = Calls(folder, at=at)
            completed = False
            with calls.active():
                try:
                    act(folder)
                    completed = True
                except Death:
                    pass
            calls.lose(**loss)
            check(folder, completed)
            if completed:
                break
    return at - 1


def fill_with(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(text.encode() * 50)
        (folder / "inner").mkdir()
        (folder / "inner" / "config.json").write_text(json.dumps({"text": text}))

    return fill


def content_of(folder: Path) -> str:
    assert atomic.verify(folder) == []
    return json.loads((folder / "inner" / "config.json").read_text())["text"]


# ------------------------------------------------------------------------------------------------------------------ folders


def test_a_written_folder_verifies_and_states_what_it_holds(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    atomic.write_directory(target, fill_with("one"), manifest={"step": 3, "of": "test"})
    manifest = atomic.read_manifest(target)
    assert atomic.verify(target) == []
    assert manifest["facts"] == {"step": 3, "of": "test"}
    assert set(manifest["files"]) == {"weights.bin", "inner/config.json"}
    assert manifest["files"]["weights.bin"]["size"] == 150
    assert [entry.name for entry in target.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("replaces", [False, True])
def test_r2_death_at_any_call_leaves_the_old_folder_or_the_new_one(tmp_path: Path, replaces: bool) -> None:
    number = iter(range(10_000))
    template = tmp_path / "template"
    atomic.write_directory(template / "model", fill_with("old"), manifest={})

    def prepare() -> Path:
        folder = tmp_path / str(next(number))
        shutil.copytree(template, folder) if replaces else folder.mkdir()
        return folder

    def check(folder: Path, completed: bool) -> None:
        atomic.clean(folder)
        assert [entry.name for entry in folder.iterdir()] in ([], ["model"]), "leftovers remain"
        if completed:
            assert content_of(folder / "model") == "new"
        elif replaces or (folder / "model").exists():
            assert content_of(folder / "model") in ("old", "new")

    calls = every_death(prepare, lambda folder: atomic.write_directory(folder / "model", fill_with("new"), manifest={}), check)
    assert calls > 15


def test_r4_an_error_at_any_call_is_reported_and_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    template = tmp_path / "template"
    atomic.write_directory(template / "model", fill_with("old"), manifest={})
    for number, kind in ((errno.ENOSPC, SpaceError), (errno.EDQUOT, SpaceError), (errno.EIO, RunError), (errno.EROFS, UsageError)):
        at = 1
        while True:
            folder = tmp_path / f"{number}-{at}"
            shutil.copytree(template, folder)
            calls = Calls(folder, at=at, error=number)
            with calls.active():
                try:
                    atomic.write_directory(folder / "model", fill_with("new"), manifest={})
                except (RunError, UsageError) as error:
                    assert isinstance(error, kind)
                    assert "model" in str(error)
            if not calls.happened:
                break
            atomic.clean(folder)
            assert content_of(folder / "model") in ("old", "new")
            at += 1
        assert at > 15


def test_r2_sigkill_at_random_instants_leaves_a_complete_folder(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from burnish import atomic
def fill(folder):
    for part in range(3):
        (folder / f"part{part}").write_bytes(os.urandom(50_000))
for number in range(10**6):
    atomic.write_directory(Path(sys.argv[1]) / "model", fill, manifest={"number": number})
    print(number, flush=True)
"""
    generator = random.Random(0)
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split("\n")[:-1]
        atomic.clean(folder)
        assert atomic.verify(folder / "model") == []
        assert atomic.read_manifest(folder / "model")["facts"]["number"] >= (int(rest[-1]) if rest else 0)
        assert [entry.name for entry in folder.iterdir()] == ["model"]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "model"
    atomic.write_directory(folder, fill_with("sealed"), manifest={"step": 7, "note": "é"})
    return folder


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_r3_any_changed_byte_of_any_file_is_found_and_the_file_named(sealed: Path, data: st.DataObject) -> None:
    damaged = sealed.parent / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(sealed, damaged)
    name = data.draw(st.sampled_from(["weights.bin", "inner/config.json", atomic.MANIFEST]))
    file = damaged / name
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "add", "delete"])):
        case "flip":
            content[place] ^= data.draw(st.integers(1, 255))
            file.write_bytes(content)
        case "cut":
            file.write_bytes(content[:place])
        case "add":
            file.write_bytes(content + bytes([data.draw(st.integers(0, 255))]))
        case "delete":
            file.unlink()
    problems = atomic.verify(damaged)
    assert problems
    assert any(name in problem for problem in problems)


def test_r3_even_a_change_of_white_space_in_the_manifest_is_found(sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    text = (copy / atomic.MANIFEST).read_text()
    for changed in (text.replace("\n", "\n ", 1), text.replace(" ", "\t", 1), text[:-1], text + "\n", text.replace("\\u00e9", "é")):
        assert json.loads(changed) == json.loads(text)
        (copy / atomic.MANIFEST).write_text(changed)
        assert "is damaged" in atomic.verify(copy)[0]


def test_sizes_alone_are_compared_where_contents_are_not_asked_for(sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    (copy / "weights.bin").write_bytes(b"x" * 300)
    assert atomic.verify(copy, contents=False) == []
    (copy / "weights.bin").write_bytes(b"x" * 299)
    assert "300 were written" in atomic.verify(copy, contents=False)[0]


def test_a_foreign_pickle_is_a_problem_and_a_foreign_note_is_not(sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    (copy / "README.md").write_text("a note of the user's")
    assert atomic.verify(copy) == []
    (copy / "inner" / "optimizer.PT").write_bytes(b"x")
    assert "optimizer.PT" in atomic.verify(copy)[0]


def test_a_manifest_cannot_name_files_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    atomic.write_directory(tmp_path / "model", fill_with("x"), manifest={})
    (tmp_path / "model" / "weights.bin").unlink()
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "secret")
    assert "leads out" in atomic.verify(tmp_path / "model")[0]


def test_a_newer_schema_says_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "SCHEMA", 2)
        atomic.write_directory(tmp_path / "model", fill_with("x"), manifest={})
    assert "newer burnish" in atomic.verify(tmp_path / "model")[0]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"schema": 1, "sha256": 1, "files": {}}']
)
def test_r3_junk_in_place_of_a_manifest_is_a_folder_that_does_not_exist(tmp_path: Path, content: bytes) -> None:
    (tmp_path / atomic.MANIFEST).write_bytes(content)
    assert "damaged" in atomic.verify(tmp_path)[0]


def test_clean_touches_nothing_but_our_own_leftovers(tmp_path: Path) -> None:
    for name in (".tmp-mine", "tmp-x", ".old-photos", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / f".tmp-status.json-{'0' * 32}").write_text("half")
    assert atomic.clean(tmp_path) == ["removed an unfinished status.json"]
    assert {entry.name for entry in tmp_path.iterdir()} == {".tmp-mine", "tmp-x", ".old-photos", "model"}
    assert atomic.clean(tmp_path / "missing") == []


def test_removing_a_folder_never_leaves_half_of_it_under_its_name(tmp_path: Path) -> None:
    number = iter(range(10_000))

    def prepare() -> Path:
        folder = tmp_path / str(next(number))
        atomic.write_directory(folder / "model", fill_with("old"), manifest={})
        return folder

    def check(folder: Path, completed: bool) -> None:
        atomic.clean(folder)
        assert completed is False or not (folder / "model").exists()
        assert not (folder / "model").exists() or content_of(folder / "model") == "old"

    assert every_death(prepare, lambda folder: atomic.remove_directory(folder / "model"), check) > 3


# -------------------------------------------------------------------------------------------------- errors a user can act on


def test_r4_too_little_space_is_refused_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda path: 2_000_000)
    with pytest.raises(SpaceError, match=r"at least 5\.0 MB needed, 2\.0 MB free: 3\.0 MB missing.*output=DIR") as caught:
        atomic.write_directory(tmp_path / "model", fill_with("x"), manifest={}, needed_bytes=5_000_000)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_r4_a_full_disk_under_a_writer_in_rust_is_recognised_by_its_text(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    def fill(folder: Path) -> None:
        (folder / "part").write_bytes(b"x" * 2_000)
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(SpaceError, match=r"at least 2\.0 kB needed"):
        atomic.write_directory(tmp_path / "model", fill, manifest={})
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_what_fills_a_folder_pass_unchanged(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise ValueError("a mistake in the program")

    with pytest.raises(ValueError, match="a mistake"):
        atomic.write_directory(tmp_path / "model", fill, manifest={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_read_only_folder_is_the_users_to_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"read-only.*output=DIR"):
        atomic.write_directory(tmp_path / "model", fill_with("x"), manifest={})


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="in the way"):
        atomic.write_directory(tmp_path / "file", fill_with("x"), manifest={})
    with pytest.raises(UsageError, match="in the way"):
        atomic.write_directory(tmp_path / "file" / "model", fill_with("x"), manifest={})
    with pytest.raises(UsageError, match="is a folder"):
        atomic.write_file(tmp_path, "x")
    assert (tmp_path / "file").read_text() == "mine"


@given(size=st.integers(0, 10**15))
def test_sizes_are_readable(size: int) -> None:
    number, unit = disk.readable(size).split()
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert abs(float(number) * factor - size) <= 0.051 * factor
    assert len(number) <= 6


# ------------------------------------------------------------------------------------------------------------- single files


def test_r2_death_while_a_file_is_replaced_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    number = iter(range(10_000))

    def prepare() -> Path:
        folder = tmp_path / str(next(number))
        folder.mkdir()
        (folder / "status.json").write_text("old content")
        return folder

    def check(folder: Path, completed: bool) -> None:
        assert (folder / "status.json").read_text() in (["new content"] if completed else ["old content", "new content"])
        atomic.clean(folder)
        assert [entry.name for entry in folder.iterdir()] == ["status.json"]

    assert every_death(prepare, lambda folder: atomic.write_file(folder / "status.json", "new content"), check) >= 5


def test_a_file_holds_text_as_utf8_and_bytes_as_they_are(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / "new" / "a", "ß\n")
    atomic.write_file(tmp_path / "new" / "b", b"\xff")
    assert (tmp_path / "new" / "a").read_bytes() == "ß\n".encode()
    assert (tmp_path / "new" / "b").read_bytes() == b"\xff"


lines = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(written=st.lists(lines, max_size=6), torn=lines, more=st.lists(lines, max_size=3))
def test_lines_come_back_and_a_torn_one_is_dropped_and_never_glued(written: list[str], torn: str, more: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        assert atomic.read_lines(path) == []
        for line in written:
            atomic.append_line(path, line)
        with path.open("ab") as stream:
            stream.write(torn.encode())
        assert atomic.read_lines(path) == written
        for line in more:
            atomic.append_line(path, line)
        assert atomic.read_lines(path) == written + more


def test_a_line_is_one_write_call(tmp_path: Path) -> None:
    calls: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        real = os.write
        patch.setattr(os, "write", lambda descriptor, data: calls.append(bytes(data)) or real(descriptor, data))
        atomic.append_line(tmp_path / "log", "x" * 100_000)
    assert calls == [b"x" * 100_000 + b"\n"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_r4_a_log_on_a_full_disk_is_an_error_of_space() -> None:
    with pytest.raises(SpaceError, match="no space left"):
        atomic.append_line(Path("/dev/full"), "line")


def test_r4_a_line_that_fits_only_in_part_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    atomic.append_line(path, "whole")
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    with pytest.raises(SpaceError):
        atomic.append_line(path, "too long")
    assert path.read_bytes() == b"whole\n"


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"good\n\xff\xfe\ngood\n")
    with pytest.raises(RunError, match=r"log:2: is not UTF-8"):
        atomic.read_lines(tmp_path / "log")
