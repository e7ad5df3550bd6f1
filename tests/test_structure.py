"""The shape of the package, from the files themselves: layers, forbidden calls, sizes, names, and a README that knows every file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "burnish"
FILES = sorted(PACKAGE.rglob("*.py"))

ROWS: tuple[tuple[str, ...], ...] = (
    ("types", "errors", "devices", "memory", "disk", "locks", "atomic", "environment", "signals", "named_code", "__init__"),
    ("run_file", "pictures"),
    ("config",),
    ("techniques", "objectives", "scores", "baseline", "data", "retrieval", "assets", "rewards", "advantages"),
    ("usecases",),
    ("models", "optim", "learning_rate"),
    ("sampling", "train", "reference", "averaging"),
    ("reading",),
    ("runs", "checkpoint"),
    ("evaluate", "rollouts", "synthesize", "teacher"),
    ("gather", "loaded"),
    ("prepare",),
    ("report", "export", "rate", "merge"),
    ("forgetting",),
    ("finish",),
    ("tune",),
    ("terminal",),
    ("decide", "serve", "chat", "find_rate"),
    ("api",),
    ("doctor", "listing", "starting"),
    ("cli", "__main__"),
)
"""From the bottom to the top. A module imports from rows below its own, and within its own room (its folder, or its name before _)."""

STRANGERS = ("techniques", "objectives", "scores", "data", "retrieval")
"""They know nothing of each other, though they share a row."""

MAY_STAND_TOGETHER = {
    ("baseline", "scores"),
    ("atomic", "disk"),
    ("atomic", "errors"),
    ("disk", "errors"),
    ("named_code", "errors"),
    ("locks", "errors"),
    ("locks", "disk"),
    ("devices", "errors"),
    ("environment", "__init__"),
    ("__main__", "cli"),
    ("export", "merge"),
}
"""Imports within a row, each one deliberate: (who imports, what)."""


def room(path: Path) -> str:
    """Return the room of a file: its folder in the package, or its own name (config_layers is in the room of config)."""
    name = path.relative_to(PACKAGE).as_posix().split("/")[0].removesuffix(".py")
    known = {entry for row in ROWS for entry in row}
    if name in known:
        return name
    return next((entry for entry in sorted(known, key=len, reverse=True) if name.startswith(f"{entry}_")), name)


def row_of(name: str) -> int | None:
    """Return the number of a room's row, None for a room that stands in none."""
    return next((number for number, row in enumerate(ROWS) if name in row), None)


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed source of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything that a file imports, wherever in the file; what only types need is left out."""
    skipped = {id(node) for block in ast.walk(tree(path)) if _is_typing_only(block) for node in ast.walk(block)}
    for node in ast.walk(tree(path)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def _is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def own_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, room) of each import of the package's own modules; names of the package's __init__ count as that."""
    for line, name in imported(path):
        if name == "burnish" or not name.startswith("burnish."):
            continue
        part = name.split(".")[1]
        is_module = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
        yield line, room(PACKAGE / f"{part}.py") if is_module else "__init__"


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_package_is_there() -> None:
    assert len(FILES) > 40, "the tests below would prove nothing on an empty folder"


def test_every_module_stands_in_a_row() -> None:
    homeless = sorted({short(path) for path in FILES if row_of(room(path)) is None})
    assert not homeless, f"no row for {homeless}: give them one in ROWS, here and in DESIGN"


def layer_faults(path: Path) -> list[str]:
    """Return the imports of a file that go upwards, sideways between strangers, or into another room of its own row."""
    mine, faults = room(path), []
    for line, other in own_rooms(path):
        if other == mine:
            continue
        height, target = row_of(mine), row_of(other)
        assert height is not None and target is not None
        beside = target == height and ((mine, other) in MAY_STAND_TOGETHER or mine == "__init__")
        below = target < height and not (mine in STRANGERS and other in STRANGERS)
        if not (beside or below) and mine != "__init__":
            faults.append(f"{short(path)}:{line}: {mine} imports {other}")
    return faults


def test_imports_go_downwards_only() -> None:
    faults = [fault for path in FILES for fault in layer_faults(path)]
    assert not faults, "\n".join(["against the layer rule:", *faults])


def test_the_layer_rule_sees_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: upwards, between strangers, inside a function, and not for what only types need."""
    (tmp_path / "train.py").write_text("import numpy\nfrom burnish.tune import tune\n")
    (tmp_path / "tune.py").write_text("from burnish.train import train\nfrom burnish import __version__\n")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "text.py").write_text("def f():\n    from burnish.data import read\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "split.py").write_text("if TYPE_CHECKING:\n    from burnish.tune import Tuned\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    found = [fault for path in sorted(tmp_path.rglob("*.py")) for fault in layer_faults(path)]
    assert found == ["scores/text.py:2: scores imports data", "train.py:2: train imports tune"]


def foreign(path: Path) -> set[str]:
    """Return the first names of what a file imports from outside the package and the standard library."""
    first = {name.split(".")[0] for _, name in imported(path)}
    return {name for name in first if name not in sys.stdlib_module_names and name != "burnish"}


@pytest.mark.parametrize(
    ("folder", "own", "others"),
    [
        ("objectives", {"types", "errors", "objectives"}, {"torch"}),
        ("scores", {"types", "scores", "errors", "named_code"}, None),
    ],
)
def test_pure_rooms_import_little(folder: str, own: set[str], others: set[str] | None) -> None:
    """Objectives are functions of types and torch, scores of types: that is what lets both be tested, and replaced, alone."""
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        assert {name for _, name in own_rooms(path)} <= own, short(path)
        assert others is None or foreign(path) <= others, short(path)
        assert others is not None or not foreign(path) & {"torch", "transformers", "peft"}, short(path)


def test_train_knows_no_data() -> None:
    """The loop takes batches from anywhere, so it may not know how they are made."""
    assert "data" not in {name for _, name in own_rooms(PACKAGE / "train.py")}


# ------------------------------------------------------------------------------------------------------------- what is never called

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "torch.load",
    "torch.save",
    "yaml.load",
    "os.system",
    "os.popen",
    "numpy.load",
    "np.load",
}
FORBIDDEN_WORDS = {("shell", True), ("trust_remote_code", True), ("allow_pickle", True), ("weights_only", False)}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, what) for everything in a file that may run code out of data."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in FORBIDDEN_IMPORTS)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in FORBIDDEN_CALLS:
                yield node.lineno, name
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if (keyword.arg, value) in FORBIDDEN_WORDS:
                    yield node.lineno, f"{keyword.arg}={value}"


def test_nothing_runs_code_out_of_data() -> None:
    """safetensors and JSON only, no remote code: held where it could be broken."""
    found = [f"{short(path)}:{line}: {what}" for path in FILES for line, what in dangers(tree(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "eval(x)",
        "subprocess.run(c, shell=True)",
        "load(n, trust_remote_code=True)",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_dangers_are_seen(source: str) -> None:
    assert list(dangers(ast.parse(source)))


def test_safe_calls_are_no_danger() -> None:
    assert not list(dangers(ast.parse("re.compile(x)\nload(n, trust_remote_code=False)\nast.literal_eval(x)")))


# -------------------------------------------------------------------------------------------------------------- import without torch


def modules_after(code: str) -> set[str]:
    """Return the first names of all modules that a fresh process holds after running `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"PIL", "torch", "transformers", "peft", "sklearn", "scipy", "pyarrow", "datasets", "tensorboard", "huggingface_hub"}


@pytest.mark.parametrize("module", ["burnish", "burnish.cli", "burnish.config", "burnish.scores"])
def test_import_is_light(module: str) -> None:
    """The command line answers --help at once: nothing heavy is imported before it is needed."""
    path = PACKAGE / module.removeprefix("burnish.")
    if module != "burnish" and not (path.is_dir() or path.with_suffix(".py").is_file()):
        pytest.skip(f"{module} is not written yet")
    assert not modules_after(f"import {module}") & HEAVY


# -------------------------------------------------------------------------------------------------------------------- size and names


@pytest.mark.parametrize("path", FILES, ids=short)
def test_file_is_small_and_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400, f"{short(path)} has {len(lines)} lines: divide it"
    assert ast.get_docstring(tree(path)), f"{short(path)} has no module docstring"
    assert path.name not in {"utils.py", "helpers.py", "misc.py", "common.py"}, f"{short(path)}: name it after what it does"


def test_only_exceptions_inherit() -> None:
    """Data are frozen dataclasses, behaviour is functions; the exceptions are pydantic tables of run files and requests, typing's own forms, and
    torch's autograd functions, which are declared so."""
    allowed = re.compile(r"^(.*Error|.*Exception|Stopped|BaseModel|Table|Asked|NamedTuple|TypedDict|Protocol|.*Enum|Function)$")
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                bases = [dotted(base).split(".")[-1] for base in node.bases]
                odd = [base for base in bases if base and not allowed.match(base) and base != "Row"]
                assert not odd, f"{short(path)}:{node.lineno}: {node.name} inherits from {', '.join(odd)}"


# --------------------------------------------------------------------------------------------------------------------------- the docs


def tree_block(readme: str) -> str:
    """Return the README's tree of files: the text block that names the package's folder."""
    blocks = re.findall(r"^```text\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    return next((block for block in blocks if "src/burnish" in block), "")


def readme_lines(block: str) -> dict[str, str]:
    """Return {name: what is said of it} for the entries of a tree block."""
    found = {}
    for line in block.splitlines():
        match = re.match(r"^[\s│├└─|`+-]*([\w./-]+)\s+(\S.*)$", line)
        if match:
            found[match[1]] = match[2]
    return found


def test_readme_names_every_file_in_a_line() -> None:
    block = tree_block((ROOT / "README.md").read_text(encoding="utf-8"))
    assert block, "README.md has no ```text block with the tree of src/burnish"
    lines = readme_lines(block)
    names = [path.name if path.name != "__init__.py" else f"{path.parent.name}/" for path in FILES if path.parent != PACKAGE]
    names += [path.name for path in FILES if path.parent == PACKAGE and path.name != "__init__.py"]
    missing = sorted({name for name in names if name not in lines})
    assert not missing, f"not in README's tree, each with a few words of what it is: {missing}"
    there = {path.name for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")}
    stale = [name for name in lines if name.endswith(".py") and name not in there]
    assert not stale, f"in README's tree, but no such file: {stale}"


def registry(folder: str, name: str) -> list[str]:
    """Return the keys of a literal registry dict in a room's __init__, read from its source."""
    path = PACKAGE / folder / "__init__.py" if (PACKAGE / folder).is_dir() else PACKAGE / f"{folder}.py"
    if not path.is_file():
        return []
    for node in ast.walk(tree(path)):
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == name:
            value = node.value if isinstance(node, ast.AnnAssign | ast.Assign) else None
            assert isinstance(value, ast.Dict), f"{short(path)}: {name} is not a literal dict"
            return [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]
    return []


REGISTRIES = [
    ("objectives", "OBJECTIVES"),
    ("techniques", "TECHNIQUES"),
    ("scores", "SCORES"),
    ("data/formats", "FORMATS"),
    ("usecases", "USECASES"),
    ("export", "TARGETS"),
]


@pytest.mark.parametrize(("folder", "name"), REGISTRIES)
def test_every_registered_name_is_documented(folder: str, name: str) -> None:
    """A name that a user can write is in README or docs; the registry itself is a literal, so that it can be read at a glance."""
    keys = registry(folder, name)
    assert keys, f"{folder}: no literal dict {name}"
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    missing = [key for key in keys if not re.search(rf"(?<![\w-]){re.escape(str(key))}(?![\w-])", text)]
    assert not missing, f"{name}: in neither README nor docs: {missing}"
