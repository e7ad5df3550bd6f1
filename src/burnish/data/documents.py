"""Documents made for people: plain text, Markdown, HTML, PDF and DOCX in, a record per file, section or page out.

Called by `sources`. Every record has `text` and `file`, and `section` (the headings above it) or `page` where the document has them.
The line is where the record's text begins in a file of lines. Optional libraries are imported where they are used.
"""

from __future__ import annotations

import importlib
import io
import re
from typing import Any

from burnish.data.records import Found, Row
from burnish.errors import DataError

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
UNSEEN = ("script", "style", "noscript", "template", "head", "svg", "iframe", "nav")
BLOCK_NAMES = """p div section article main header footer aside ul ol li table tr blockquote pre figure figcaption dl dt dd form
    fieldset address details summary hr body"""
BLOCKS = frozenset(BLOCK_NAMES.split())
PARAGRAPH, LINE, ITEM = "\x1c", "\x1d", "\x1e"
"""Marks for breaks and list items while a page is taken apart; in its own text such characters count as blanks."""


def read_text(text: str, name: str) -> Found:
    """Read a plain text file as one record; the `text` format can cut it at blank lines (`passage`)."""
    return Found(rows=[Row({"text": text.rstrip(), "file": name}, 1)] if text.strip() else [])


def read_markdown(text: str, name: str) -> Found:
    """Read a record per section: its heading and what stands under it, up to the next heading.

    A heading with nothing under it goes to the section that follows. Headings inside code fences are code. Front matter between
    `---` lines at the top of the file describes the text and is left out.
    """
    lines = text.split("\n")
    found = Found()
    path: list[tuple[int, str]] = []
    start = at = _front_matter(lines)
    section: str | None = None
    body, fence = False, ""
    while at < len(lines):
        line = lines[at]
        level, title, height = (0, "", 1) if fence else _heading(lines, at)
        if level:
            if body:
                _section(found, name, lines[start:at], start, section)
                start, body = at, False
            path = [*(part for part in path if part[0] < level), (level, title)]
            section = " > ".join(words for _, words in path if words) or None
            at += height
            continue
        mark = FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        body = body or bool(line.strip())
        at += 1
    _section(found, name, lines[start:], start, section)
    return found


def _front_matter(lines: list[str]) -> int:
    """Return how many lines of front matter stand at the top."""
    if lines[0].strip() != "---":
        return 0
    ends = [number for number, line in enumerate(lines[1:60], 1) if line.strip() in ("---", "...")]
    return ends[0] + 1 if ends and any(":" in line for line in lines[1 : ends[0]]) else 0


def _heading(lines: list[str], at: int) -> tuple[int, str, int]:
    """Return level (0: none), title and number of lines of the heading at a line, written with # or underlined."""
    line = lines[at]
    if mark := HEADING.match(line):
        return len(mark[1]), mark[2], 1
    below = lines[at + 1].rstrip() if at + 1 < len(lines) else ""
    alone = at == 0 or not lines[at - 1].strip()
    if (
        alone
        and line.strip()
        and len(below) >= 2
        and set(below) in ({"="}, {"-"})
        and not line.lstrip().startswith(("-", "*", "|", ">"))
    ):
        return (1 if below[0] == "=" else 2), line.strip(), 2
    return 0, "", 1


def _section(found: Found, name: str, lines: list[str], start: int, section: str | None) -> None:
    """Add a section, its line being that of its first text; nothing where it is blank."""
    blank = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    text = "\n".join(lines[blank:]).rstrip()
    if text:
        values = {"text": text, "file": name, "section": section or ""}
        found.rows.append(Row(values, start + blank + 1, section))


# ---------------------------------------------------------------------------------------------------------------------- HTML


def read_html(text: str, name: str) -> Found:
    """Read a record per section of an HTML page: visible text, blocks on lines of their own; scripts, styles and menus left out."""
    soup_module: Any = needed("bs4", "beautifulsoup4", "HTML")
    soup = soup_module.BeautifulSoup(text, "html.parser")
    for hidden in soup.find_all(UNSEEN):
        hidden.decompose()
    for comment in soup.find_all(string=lambda piece: isinstance(piece, soup_module.element.PreformattedString)):
        comment.extract()
    found = Found()
    path: list[tuple[int, str]] = []
    pieces: list[str] = []
    head: list[str] = []
    line = 1

    def finish() -> None:
        body = _joined(pieces)
        if body:
            section = " > ".join(words for _, words in path) or None
            whole = "\n\n".join([*head, body])
            found.rows.append(Row({"text": whole, "file": name, "section": section or ""}, line, section))
            head.clear()
        pieces.clear()

    def walk(node: Any, *, verbatim: bool) -> None:
        nonlocal line
        for child in node.children:
            kind = getattr(child, "name", None)
            if kind is None:
                pieces.append(str(child) if verbatim else re.sub(r"\s+", " ", str(child)))
            elif re.fullmatch(r"h[1-6]", kind):
                finish()
                title = " ".join(child.get_text(" ").split())
                if title:
                    line = line if head else (child.sourceline or line)
                    path[:] = [*(part for part in path if part[0] < int(kind[1])), (int(kind[1]), title)]
                    head.append(title)
            elif kind == "br":
                pieces.append(LINE)
            else:
                _block(pieces, kind, before=True)
                walk(child, verbatim=verbatim or kind == "pre")
                _block(pieces, kind, before=False)

    walk(soup, verbatim=False)
    finish()
    if head:
        found.rows.append(Row({"text": "\n\n".join(head), "file": name, "section": path[-1][1]}, line, path[-1][1]))
    return found


def _block(pieces: list[str], kind: str, *, before: bool) -> None:
    """Add what stands around an element: breaks around blocks, a mark before list items, a bar between cells."""
    if kind in BLOCKS:
        pieces.append(LINE if kind in ("li", "tr", "dt", "dd") else PARAGRAPH)
        if kind == "li" and before:
            pieces.append(ITEM)
    elif kind in ("td", "th") and not before:
        pieces.append(" | ")


def _joined(pieces: list[str]) -> str:
    """Return the text of pieces, breaks that follow each other made one."""
    text = re.sub(f"{ITEM}[{PARAGRAPH}{LINE} ]*", "- ", "".join(pieces))
    breaks = re.compile(f" *[{PARAGRAPH}{LINE}][{PARAGRAPH}{LINE} ]*")
    return _tidy(breaks.sub(lambda found: "\n\n" if PARAGRAPH in found[0] else "\n", text))


def _tidy(text: str) -> str:
    """Return text without blanks and bars at line ends and with at most one blank line in a row."""
    lines = [re.sub(r"( \|)? *$", "", line) for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


# --------------------------------------------------------------------------------------------------------------- PDF and DOCX


def read_pdf(data: bytes, name: str) -> Found:
    """Read a record per page of a PDF; pages without text (pictures of text) are named in a warning, or a problem if all are."""
    pdf: Any = needed("pypdf", "pypdf", "PDF")
    found = Found()
    empty: list[int] = []
    try:
        document = pdf.PdfReader(io.BytesIO(data))
        if document.is_encrypted and not document.decrypt(""):
            raise DataError(f"{name}: the PDF is locked with a password; save a copy without one")
        for number, page in enumerate(document.pages, 1):
            text = _tidy(page.extract_text())
            if text:
                found.rows.append(Row({"text": text, "file": name, "page": number}, None, f"page {number}"))
            else:
                empty.append(number)
    except DataError:
        raise
    except Exception as error:  # pypdf raises many kinds on broken files
        raise DataError(f"{name}: cannot be read as PDF ({error or type(error).__name__}); open and save it again") from error
    if empty:
        what = f"page{'s' * (len(empty) > 1)} {', '.join(map(str, empty[:10]))}{' …' * (len(empty) > 10)} hold{'s' * (len(empty) == 1)}"
        note = f"{name}: {what} no text (scanned?); run text recognition (OCR) on the file to include them"
        (found.warnings if found.rows else found.problems).append(note)
    return found


def read_docx(data: bytes, name: str) -> Found:
    """Read a record per heading section of a Word document; tables become lines with bars between cells."""
    docx: Any = needed("docx", "python-docx", "DOCX")
    try:
        document = docx.Document(io.BytesIO(data))
        blocks = [_docx_block(block) for block in document.iter_inner_content()]
    except Exception as error:  # python-docx raises many kinds on broken files
        raise DataError(f"{name}: cannot be read as DOCX ({error or type(error).__name__}); open and save it again") from error
    found = Found()
    path: list[tuple[int, str]] = []
    head: list[str] = []
    body: list[str] = []

    def finish() -> None:
        if body:
            section = " > ".join(words for _, words in path) or None
            values = {"text": "\n\n".join([*head, *body]), "file": name, "section": section or ""}
            found.rows.append(Row(values, None, section))
            head.clear()
        body.clear()

    for level, text in blocks:
        if level and text:
            finish()
            path[:] = [*(part for part in path if part[0] < level), (level, text)]
            head.append(text)
        elif text:
            body.append(text)
    finish()
    if head:
        found.rows.append(Row({"text": "\n\n".join(head), "file": name, "section": path[-1][1]}, None, path[-1][1]))
    return found


def _docx_block(block: Any) -> tuple[int, str]:
    """Return heading level (0: none) and text of a paragraph or table of a Word document."""
    if hasattr(block, "rows"):
        rows = [[" ".join(cell.text.split()) for cell in row.cells] for row in block.rows]
        return 0, "\n".join(" | ".join(row) for row in rows if any(row))
    style = (block.style.name or "") if block.style is not None else ""
    if style == "Title":
        return 1, block.text.strip()
    mark = re.fullmatch(r"Heading (\d)", style)
    return (int(mark[1]) if mark else 0), block.text.strip()


def needed(module: str, package: str, what: str, *, extra: str = "docs") -> Any:
    """Import an optional library, or raise `DataError` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(f"reading {what} needs {package}, which is not installed; run: pip install 'burnish[{extra}]'") from None
