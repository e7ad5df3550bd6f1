"""Text by the line: CSV and TSV, and CoNLL (a token a line). Text in, rows with the line where each begins out.

Called by `sources`. Lines end at a line feed only (a carriage return before it is taken off, also inside quoted cells): characters
such as U+0085 or U+2028, which Python also calls line ends, stay in the text.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from burnish.data.records import Found, Row, column_names

IOB = re.compile(r"(O|[BIESLUM]-\S.*)")
USUAL_NAMES = """id index key uid text label labels category class intent sentiment question answer context prompt completion response
    reply instruction input output source target chosen rejected title body content document sentence review summary group split
    rating score tokens tags message query email subject topic language tag type name description code comment ticket"""
COLUMN_WORDS = frozenset(USUAL_NAMES.split())
"""Words that name a column: a first line that holds one of them (and nowhere below) is a header."""

Cells = list[tuple[int, list[str]]]


def read_table(text: str, name: str, *, delimiter: str, header: bool | None = None) -> Found:
    """Read cells between delimiters; each row keeps the line where it starts, also where quoted cells hold line ends.

    `header` says whether the first line names the columns; None looks at the lines. Without a header the columns are called
    column_1, column_2 and so on. A row with another number of cells is a problem.
    """
    found = Found()
    delimiter = _delimiter(text, name, found, delimiter)
    cells = _cells(text, name, found, delimiter)
    if not cells:
        return found
    named = _has_header(cells) if header is None else header
    width = len(cells[0][1])
    if named:
        line, first = cells[0]
        names = [cell.strip() for cell in first]
        found.problems.extend(_header_problems(names, f"{name}:{line}"))
        cells = cells[1:]
    else:
        names = column_names(width)
        if header is None:
            found.warnings.append(f"{name}: the first line does not look like column names; columns are {', '.join(names)}")
    for line, row in cells:
        if len(row) != width:
            found.problems.append(
                f"{name}:{line}: {len(row)} cells where {width} were expected; put cells that hold {_shown(delimiter)} or a line end "
                "in double quotes"
            )
        else:
            found.rows.append(Row(dict(zip(names, row, strict=True)), line))
    return found


def _shown(delimiter: str) -> str:
    """Return how a delimiter is named in a message."""
    return "a tab" if delimiter == "\t" else f"{delimiter!r}"


def _header_problems(names: Sequence[str], place: str) -> list[str]:
    """Return what is wrong with column names: empty ones and repeated ones."""
    counts = Counter(names)
    problems = [
        f"{place}: the column name {name!r} stands {count} times; rename one" for name, count in counts.items() if count > 1
    ]
    return problems + ([f"{place}: a column has no name; name it"] if "" in counts else [])


def _delimiter(text: str, name: str, found: Found, usual: str) -> str:
    """Return the delimiter: the usual one of the file's ending, or another one where only that one divides the first line."""
    first = text.lstrip("\n").split("\n", 1)[0]
    if usual in first:
        return usual
    for other in (",", "\t", ";", "|"):
        if other in first and other != usual:
            rest = [line for line in text.split("\n")[1:20] if line.strip()]
            if rest and all(other in line for line in rest):
                found.warnings.append(f"{name}: cells are divided by {_shown(other)}, not by {_shown(usual)}; read so")
                return other
    return usual


def _cells(text: str, name: str, found: Found, delimiter: str) -> Cells:
    """Divide text into rows of cells with their first line; blank lines are passed over.

    Tab-separated lines that all have the same number of tabs are taken as they stand, since such files seldom quote: a cell is
    unquoted only where it is quoted correctly as a whole.
    """
    lines = [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]
    if delimiter == "\t":
        filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t")]
        if len({line.count("\t") for _, line in filled}) <= 1:
            return [(number, [_unquoted(cell) for cell in line.split("\t")]) for number, line in filled]
    return list(_quoted(lines, name, found, delimiter))


def _unquoted(cell: str) -> str:
    """Return a cell without its double quotes, where it is quoted as a whole and quotes inside are doubled."""
    if len(cell) < 2 or not (cell.startswith('"') and cell.endswith('"')):
        return cell
    inner = cell[1:-1]
    return inner.replace('""', '"') if '"' not in inner.replace('""', "") else cell


def _quoted(lines: list[str], name: str, found: Found, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows of cells that may be quoted (RFC 4180); a wrongly quoted row is a problem."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)
        start = 1
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                what = "a double quote opens a cell here that is never closed" if "end of data" in str(error) else str(error)
                found.problems.append(f"{name}:{start}: {what}; double the quotes inside a quoted cell and close it")
                start = reader.line_num + 1
                continue
            if row and not (len(row) == 1 and not row[0].strip()):
                yield start, row
            start = reader.line_num + 1
    finally:
        csv.field_size_limit(before)


def _has_header(cells: Cells) -> bool:
    """Say whether the first row names the columns.

    It does where every cell could be a name and none comes again below in its column, and where a cell is a usual name of a column
    or differs in kind from what stands below it (words over numbers, or far shorter than the texts below).
    """
    first, below = cells[0][1], [row for _, row in cells[1:1001]]
    names = [cell.strip() for cell in first]
    if not below or len(set(names)) != len(names) or not all(_could_name(name) for name in names):
        return not below and all(_could_name(name) for name in names)
    columns = [[row[place].strip() for row in below if place < len(row)] for place in range(len(names))]
    if any(name in column for name, column in zip(names, columns, strict=True)):
        return False
    if any(word in COLUMN_WORDS for name in names for word in re.split(r"[^a-z]+", name.lower())):
        return True
    return any(_differs(name, column) for name, column in zip(names, columns, strict=True))


def _could_name(cell: str) -> bool:
    """Say whether a cell could be the name of a column: some letters, a few words, no sentence."""
    return bool(re.search(r"[^\W\d_]", cell)) and len(cell) <= 60 and len(cell.split()) <= 5 and cell[-1] not in ".!?,;"


def _differs(name: str, column: list[str]) -> bool:
    """Say whether a name is of another kind than the cells below it."""
    cells = [cell for cell in column if cell]
    if not cells:
        return False
    digits = sum(any(letter.isdigit() for letter in cell) for cell in cells) / len(cells)
    numbers = sum(not re.search(r"[^\W\d_]", cell) for cell in cells) / len(cells)
    longer = sum(len(cell) for cell in cells) / len(cells) > 3 * len(name)
    return numbers > 0.9 or longer or (digits > 0.9 and not any(letter.isdigit() for letter in name))


# --------------------------------------------------------------------------------------------------------------------- CoNLL


def is_conll(text: str) -> bool:
    """Say whether a text is a token a line with an IOB tag last, sentences divided by blank lines."""
    lines = [line.rstrip("\r") for line in text.split("\n")[:2000]]
    filled = [_fields(line) for line in lines if line.strip()]
    tags = [fields[-1] for fields in filled if len(fields) >= 2]
    blank = any(not line.strip() for line in lines[:-1])
    return blank and bool(tags) and "O" in tags and sum(bool(IOB.fullmatch(tag)) for tag in tags) > 0.95 * len(filled)


def _fields(line: str) -> list[str]:
    """Return the fields of a token line: between tabs where it has tabs, between spaces else."""
    return [field for field in line.split("\t") if field != ""] if "\t" in line else line.split(" ")


def read_conll(text: str, name: str) -> Found:
    """Read a sentence per record: `tokens` from the first field of each line, `tags` from the last, the line of its first token.

    A line without anything visible ends a sentence; -DOCSTART- lines and comments (a # and no tag) are passed over. A line with one
    field, or with another number of fields than the lines before, is a problem.
    """
    found = Found()
    tokens: list[str] = []
    tags: list[str] = []
    start, width = 0, 0
    for number, raw in enumerate(f"{text}\n\n".split("\n"), 1):
        line = raw.rstrip("\r")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if tokens:
                found.rows.append(Row({"tokens": tokens, "tags": tags}, start))
            tokens, tags = [], []
            continue
        fields = _fields(line.strip(" "))
        if line.startswith("#") and (len(fields) < 2 or not IOB.fullmatch(fields[-1])):
            continue
        width = width or len(fields)
        if len(fields) < 2 or len(fields) != width:
            found.problems.append(
                f"{name}:{number}: {len(fields)} fields where {max(width, 2)} were expected; write token, tab, tag"
            )
            continue
        if not tokens:
            start = number
        tokens.append(fields[0])
        tags.append(fields[-1].strip())
    return found
