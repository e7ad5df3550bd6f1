"""The pages as the tests read them: their blocks, the files in their examples, README's tree, and the tables made from the code.

`python tests/pages.py` writes the generated tables of the pages anew; everything else on them is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish import config
from burnish.config_schema import TABLES, RunConfig, TaskConfig, descriptions
from burnish.data.formats import FORMATS
from burnish.data.public import PUBLIC
from burnish.objectives import OBJECTIVES
from burnish.run_file_write import value_literal
from burnish.techniques import TECHNIQUES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language, its text and the heading it stands under."""

    page: Path
    line: int
    language: str
    text: str
    heading: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Return all fenced blocks of these languages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def blocks_of(page: Path) -> Iterator[Block]:
    heading, start, language, inside = "", 0, "", None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if inside is not None and line.strip() == "```":
            yield Block(page, start, language, "\n".join(inside) + "\n", heading)
            inside = None
        elif inside is not None:
            inside.append(line)
        elif line.startswith("```"):
            start, language, inside = number, line.removeprefix("```").strip(), []
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    assert inside is None, f"{page.name}:{start}: a block without its end"


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def own_files(page: Path) -> dict[str, str]:
    """Return the files of a page's Python blocks: those that begin with a comment that is a file's name."""
    named = [(block, re.match(r"# (\w+\.py)\n", block.text)) for block in blocks_of(page) if block.language == "python"]
    return {match[1]: block.text for block, match in named if match}


def tree_paths(block: str) -> set[str]:
    """Return the paths of a tree whose levels are indented by two spaces and whose folders end with a slash."""
    found, above = set(), []
    for line in block.splitlines():
        name = line.split()[0] if line.strip() else ""
        if not name:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        assert len(line.split()) > 1, f"README's tree: {name} has no words of what it is"
        above[depth:] = [name]
        found.add("".join(above))
    return found


# --------------------------------------------------------------------------------------------------------------- generated tables


def values_of(schema: dict[str, Any]) -> str:
    """Return in words what a field takes, from its JSON schema."""
    kinds = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    if "const" in kinds[0]:
        return f'`"{kinds[0]["const"]}"`'
    if "enum" in kinds[0]:
        return ", ".join(f'`"{value}"`' for value in kinds[0]["enum"])
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    words = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true, false",
        "string": "text",
        "array": "list",
        "object": "table",
    }
    said = []
    for part in kinds:
        # The largest seed is that of torch and no bound that a user meets.
        limits = [f"{word} {part[name]:g}" for name, word in bounds.items() if name in part and abs(part[name]) < 2**62]
        said.append(" ".join([words[part.get("type", "object")], *limits]))
    return " or ".join(dict.fromkeys(said))


def fields_table() -> str:
    """Return the table of all fields of a run."""
    schema, defaults = config.schema(), RunConfig().model_dump(mode="json", by_alias=True)
    lines = ["| field | takes | default | meaning |", "|---|---|---|---|"]
    for name, meaning in descriptions().items():
        parent, _, key = name.rpartition(".")
        table = {**TABLES, "task.NAME": TaskConfig}.get(parent)
        found = (schema["$defs"][table.__name__] if table else schema)["properties"][key]
        if parent == "task.NAME":
            default = None if key in ("data", "objective", "score") else TaskConfig().model_dump()[key]
        else:
            default = defaults[parent][key] if parent else defaults[key]
        shown = "required" if name == "data.source" else "not set" if default in (None, [], {}) else f"`{value_literal(default)}`"
        lines.append(f"| `{name}` | {values_of(found)} | {shown} | {meaning} |")
    return "\n".join(lines)


def options_table() -> str:
    """Return the options of every objective and technique: the keyword parameters of its function."""
    lines = ["| name | option | default |", "|---|---|---|"]
    for kind, registry in (("objective", OBJECTIVES), ("technique", TECHNIQUES)):
        for name, entry in registry.items():
            known = [one for one in inspect.signature(entry.function).parameters.values() if one.kind is one.KEYWORD_ONLY]
            for one in known:
                shown = "not set" if one.default is None else f"`{value_literal(one.default)}`"
                lines.append(f"| {kind} `{name}` | `{kind}.{one.name}` | {shown} |")
            lines += [] if known else [f"| {kind} `{name}` | none | |"]
    return "\n".join(lines)


def formats_table() -> str:
    """Return what each format needs, what it reads beside, and what it gives."""
    lines = ["| format | needs | also reads | gives |", "|---|---|---|---|"]
    for name, entry in FORMATS.items():
        needs = " or ".join(", ".join(f"`{part}`" for part in one) for one in entry.required)
        also = [f"`{one}`" for one in entry.columns if not any(one in required for required in entry.required)]
        lines.append(f"| [`{name}`](#{name}) | {needs} | {', '.join(also)} | {entry.gives.__name__} |")
    return "\n".join(lines)


def names_table() -> str:
    """Return the other column names that each standard name is recognised by."""
    lines = ["| format | standard name | also recognised |", "|---|---|---|"]
    for name, entry in FORMATS.items():
        lines += [
            f"| `{name}` | `{one}` | {', '.join(f'`{other}`' for other in others)} |"
            for one, others in entry.columns.items()
            if others
        ]
    return "\n".join(lines)


def public_table() -> str:
    """Return the public data sets: parts and how each comes to a machine."""
    lines = ["| name | what | parts | how it comes |", "|---|---|---|---|"]
    for name, entry in PUBLIC.items():
        parts = ", ".join(f"`public:{name}/{part}`" if part else f"`public:{name}`" for part in entry.parts)
        lines.append(f"| `{name}` | {entry.title} | {parts} | {'fetched' if entry.verbatim else 'copied with `--from`'} |")
    return "\n".join(lines)


GENERATED = {
    DOCS / "run-file.md": {"fields": fields_table, "options": options_table},
    DOCS / "data.md": {"formats": formats_table, "names": names_table, "public": public_table},
}


def with_table(text: str, name: str, made: str) -> str:
    """Return a page with what stands between the marks of a table replaced."""
    begin, end = f"<!-- {name}: made by tests/pages.py -->\n", f"\n<!-- end of {name} -->"
    assert begin in text and end in text, f"the marks of {name} are missing"
    return text[: text.index(begin) + len(begin)] + made + text[text.index(end) :]


if __name__ == "__main__":
    for file, tables in GENERATED.items():
        page_text = file.read_text(encoding="utf-8")
        for table_name, make_table in tables.items():
            page_text = with_table(page_text, table_name, make_table())
        file.write_text(page_text, encoding="utf-8")
        print(f"wrote {file.relative_to(ROOT)}", file=sys.stderr)
