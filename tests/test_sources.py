"""Reading: every kind of file gives its rows with true lines, and what is wrong in a file is named with file, line and a fix."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import sys
import types as modules
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.sources import ENDINGS, Table, read
from burnish.errors import DataError

WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(lambda text: text.strip() == text)
CELLS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\x00"), max_size=30)


def write(folder: Path, name: str, text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def lines_of(table: Table) -> list[int | None]:
    return [row.origin.line for row in table.rows]


# ------------------------------------------------------------------------------------------------------------------- JSON Lines


def test_jsonl_keeps_true_lines_over_blank_ones(tmp_path: Path) -> None:
    source = write(tmp_path, "a.jsonl", '{"text": "one"}\n\n{"text": "two", "n": 1}\r\n')
    table = read(source)
    assert [dict(row.values) for row in table.rows] == [{"text": "one"}, {"text": "two", "n": 1}]
    assert lines_of(table) == [1, 3] and table.columns == ("text", "n")
    assert str(table.rows[1].origin) == f"{source}:3"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(WORDS, CELLS, min_size=1, max_size=3), min_size=1, max_size=8))
def test_jsonl_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    """U+0085, U+2028 and other characters that Python takes for line ends stay inside their row."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    table = read(write(tmp_path_factory.mktemp("j"), "a.jsonl", text))
    assert [dict(row.values) for row in table.rows] == rows
    assert lines_of(table) == list(range(1, len(rows) + 1)) and not table.problems


def test_bad_lines_are_collected_and_the_others_read(tmp_path: Path) -> None:
    source = write(
        tmp_path, "a.jsonl", '{"text": "one"}\n{"text": \n3\n{"a": 1, "a": 2}\n{"a": NaN}\n{"a": "\\ud800"}\n{"a": 1} x\n{"b": 1}\n'
    )
    table = read(source)
    assert {int(problem.split(":")[1 + source.count(":")]) for problem in table.problems} == {2, 3, 4, 5, 6, 7}
    text = "\n".join(table.problems)
    assert "'a' stands twice" in text and "NaN is not a JSON value" in text and "surrogate" in text and "found a number" in text
    assert [row.values for row in table.rows if "text" in row.values or "b" in row.values] == [{"text": "one"}, {"b": 1}]


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", '{"text": "one"}\n{"text": "two"}\n'), ("a.jsonl", '[\n {"text": "one"},\n {"text": "two"}\n]')]
)
def test_json_and_jsonl_under_each_others_name_are_read_with_a_warning(tmp_path: Path, name: str, text: str) -> None:
    table = read(write(tmp_path, name, text))
    assert [row.values["text"] for row in table.rows] == ["one", "two"]
    assert "name it" in table.warnings[0]


# ------------------------------------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("text", "rows", "lines"),
    [
        ('[\n{"a": 1},\n\n{"a": 2}]', [{"a": 1}, {"a": 2}], [2, 4]),
        ('{"version": 1,\n"data": [\n{"a": 1}]}', [{"a": 1}], [3]),
        ('{"questions": [{"a": 1}], "metadata": {"b": [1]}}', [{"a": 1}], [1]),
        ('{"7": {"a": 1},\n"9": {"a": 2}}', [{"key": "7", "a": 1}, {"key": "9", "a": 2}], [1, 2]),
        ('{"train": [["hi", "greet"]],\n"val": [["bye", "leave"]]}',
         [{"column_1": "hi", "column_2": "greet", "split": "train"}, {"column_1": "bye", "column_2": "leave", "split": "val"}], [1, 2]),
        ('{"text": ["a", "b"], "label": [0, 1]}', [{"text": "a", "label": 0}, {"text": "b", "label": 1}], [1, 1]),
        ('{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 2}}', [{"text": "a", "label": 1}, {"text": "b", "label": 2}], [None, None]),
        ('{"messages": [{"role": "user", "content": "hi"}]}', [{"messages": [{"role": "user", "content": "hi"}]}], [1]),
        ('["one", "two"]', [{"text": "one"}, {"text": "two"}], [1, 1]),
    ],
)  # fmt: skip
def test_json_shapes(tmp_path: Path, text: str, rows: list[dict[str, object]], lines: list[int | None]) -> None:
    table = read(write(tmp_path, "a.json", text))
    assert [dict(row.values) for row in table.rows] == rows and not table.problems
    assert lines_of(table) == lines


def test_nested_squad_becomes_a_row_per_question(tmp_path: Path) -> None:
    asked = [
        {"question": "Who?", "id": "q1", "answers": [{"text": "Ada", "answer_start": 0}]},
        {"question": "When?", "id": "q2", "answers": []},
    ]
    text = json.dumps({"data": [{"title": "T", "paragraphs": [{"context": "Ada wrote it.", "qas": asked}]}]}, indent=1)
    table = read(write(tmp_path, "a.json", text))
    assert [row.values["question"] for row in table.rows] == ["Who?", "When?"]
    assert table.rows[1].values["context"] == "Ada wrote it." and table.rows[1].values["title"] == "T"
    assert table.rows[0].origin.section == "question q1" and table.rows[0].origin.line == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(WORDS, CELLS, min_size=1, max_size=2), min_size=1, max_size=5), st.sampled_from([None, 1, 4]))
def test_json_arrays_know_the_line_of_each_element(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], indent: int | None
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=False)
    table = read(write(tmp_path_factory.mktemp("j"), "a.json", text))
    assert [dict(row.values) for row in table.rows] == rows
    opening = [number for number, line in enumerate(text.split("\n"), 1) if line == f"{' ' * (indent or 0)}{{"]
    assert lines_of(table) == (opening if indent else [1] * len(rows))


def test_broken_json_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json:3: not valid JSON: .* at column 1"):
        read(write(tmp_path, "a.json", '[\n{"a": 1}\n{"a": 2}]'))


def test_deep_nesting_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not valid JSON"):
        read(write(tmp_path, "a.json", "[" * 100_000))


# ------------------------------------------------------------------------------------------------------------------ CSV and TSV


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS.filter(str.strip)), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_csv_lines_are_true_also_with_line_ends_in_cells(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    starts = []
    writer.writerow(("question", "answer"))
    for row in rows:
        starts.append(out.getvalue().count("\n") + 1)
        writer.writerow(row)
    table = read(write(tmp_path_factory.mktemp("c"), "a.csv", out.getvalue().replace("\n", end)), header=True)
    assert [tuple(row.values.values()) for row in table.rows] == rows
    assert lines_of(table) == starts and not table.problems


def test_csv_problems_have_lines(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", 'text,label\ngood,1\none cell\n"x"y,2\nfine,0\n'))
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in table.problems] == ["4", "3"]
    assert [row.values["text"] for row in table.rows] == ["good", "fine"]


def test_csv_cell_that_is_never_closed(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", 'text,label\ngood,1\n"open,2\nmore,3\n'))
    assert len(table.rows) == 1 and ":3: a double quote opens a cell" in table.problems[0]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"P0100","Mass Air Flow Circuit"\n"P0101","Range Problem of the Circuit"\n', ("column_1", "column_2")),
        ("I like it,positive\nI hate it,negative\nfine,positive\n", ("column_1", "column_2")),
        ("Ticket,Reply\nIt hums at night,Change the fan belt\nNo light,Check the fuse\n", ("Ticket", "Reply")),
        ("Befund,Schweregrad\nRiss am linken Holm,3\nDelle an der Klappe,1\n", ("Befund", "Schweregrad")),
        ("question;answer\nWho?;Ada, of course\n", ("question", "answer")),
    ],
)
def test_csv_headers_are_recognised(tmp_path: Path, text: str, columns: tuple[str, ...]) -> None:
    table = read(write(tmp_path, "a.csv", text))
    assert table.columns == columns
    assert len(table.rows) == len(text.strip().split("\n")) - (columns[0] != "column_1")
    assert bool(table.warnings) == (columns[0] == "column_1" or ";" in text)


def test_csv_header_can_be_said(tmp_path: Path) -> None:
    source = write(tmp_path, "a.csv", "text,label\ngood,1\n")
    assert len(read(source, header=False).rows) == 2 and read(source, header=True).columns == ("text", "label")


def test_repeated_column_name_is_a_problem(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", "text,text\ngood,1\nbad,2\n"), header=True)
    assert "'text' stands 2 times" in table.problems[0]


def test_tsv_with_bare_quotes_and_texts_under_txt(tmp_path: Path) -> None:
    """Sentence, tab, class: quotes are part of the sentence, and U+0085 is no line end."""
    table = read(write(tmp_path, "a.txt", '"Right on" case\t1\nThe script is\x85was there?\t0\n"quoted"\t1\n'))
    assert [row.values["column_1"] for row in table.rows] == ['"Right on" case', "The script is\x85was there?", "quoted"]
    assert any("read so" in warning for warning in table.warnings)


# ------------------------------------------------------------------------------------------------------------------------ CoNLL


@pytest.mark.parametrize("end", [".conll", ".tsv", ".txt"])
@pytest.mark.parametrize("gap", ["\t", " "])
def test_conll_is_a_record_per_sentence(tmp_path: Path, end: str, gap: str) -> None:
    text = f"-DOCSTART-{gap}O\n\nBerlin{gap}B-LOC\nis{gap}O\n \nAda{gap}B-PER\n#{gap}O\n"
    table = read(write(tmp_path, f"a{end}", text))
    assert [row.values for row in table.rows] == [
        {"tokens": ["Berlin", "is"], "tags": ["B-LOC", "O"]},
        {"tokens": ["Ada", "#"], "tags": ["B-PER", "O"]},
    ]
    assert lines_of(table) == [3, 6]


def test_conll_line_without_a_tag_is_a_problem(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.conll", "Berlin\tB-LOC\nis\n\nAda\tB-PER\n"))
    assert ":2: 1 fields where 2 were expected" in table.problems[0]


# -------------------------------------------------------------------------------------------------------------------- documents


def test_text_file_is_one_record(tmp_path: Path) -> None:
    source = write(tmp_path, "a.txt", "One line.\r\n\r\nAnother.\r\n")
    table = read(source)
    assert [row.values for row in table.rows] == [{"text": "One line.\n\nAnother.", "file": source}] and lines_of(table) == [1]


def test_markdown_sections_with_their_headings(tmp_path: Path) -> None:
    text = "---\ntitle: x\n---\nBefore.\n\n# Brakes\n\n## Pads\nWorn.\n```\n# no heading\n```\n\nDiscs\n-----\n\nTurned.\n"
    table = read(write(tmp_path, "a.md", text))
    assert [row.origin.section for row in table.rows] == [None, "Brakes > Pads", "Brakes > Discs"]
    assert lines_of(table) == [4, 6, 14]
    assert table.rows[1].values["text"].startswith("# Brakes\n\n## Pads\nWorn.") and "# no heading" in table.rows[1].values["text"]


def test_html_sections_without_scripts(tmp_path: Path) -> None:
    pytest.importorskip("bs4")
    text = "<html><head><title>t</title><style>p{}</style></head><body><p>Intro <b>bold</b>.</p>\n<h1>Brakes</h1>\n<h2>Pads</h2>"
    text += "<p>Worn&nbsp;&amp; thin.</p><ul><li>one</li><li>two</li></ul><script>evil()</script><!-- note --><table><tr><td>a</td><td>b</td></tr></table>"
    table = read(write(tmp_path, "a.html", text + "<pre>x\n  y</pre></body></html>"))
    assert [row.origin.section for row in table.rows] == [None, "Brakes > Pads"]
    assert table.rows[0].values["text"] == "Intro bold."
    body = table.rows[1].values["text"]
    assert "evil" not in body and "note" not in body and "- one\n- two" in body and "a | b" in body and "x\n  y" in body
    assert body.startswith("Brakes\n\nPads\n\nWorn")


def test_docx_sections_and_tables(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("Brakes", 1)
    document.add_paragraph("Check them.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "pad", "8 mm"
    document.add_heading("Discs", 2)
    document.add_paragraph("Measure.")
    document.save(str(tmp_path / "a.docx"))
    read_table = read(str(tmp_path / "a.docx"))
    assert [row.origin.section for row in read_table.rows] == ["Brakes", "Brakes > Discs"]
    assert read_table.rows[0].values["text"] == "Brakes\n\nCheck them.\n\npad | 8 mm"


def test_pdf_pages_and_pages_without_text(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    canvas_module = pytest.importorskip("reportlab.pdfgen.canvas")
    canvas = canvas_module.Canvas(str(tmp_path / "a.pdf"))
    canvas.drawString(72, 700, "Torque is 90 Nm.")
    canvas.showPage()
    canvas.showPage()
    canvas.drawString(72, 700, "Page three.")
    canvas.save()
    table = read(str(tmp_path / "a.pdf"))
    assert [(row.values["text"], row.values["page"]) for row in table.rows] == [("Torque is 90 Nm.", 1), ("Page three.", 3)]
    assert str(table.rows[1].origin).endswith("a.pdf (page 3)") and "page 2 holds no text" in table.warnings[0]


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.parquet"])
def test_broken_binary_files_are_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read as (PDF|DOCX|Parquet)"):
        read(write(tmp_path, name, b"%PDF-1.4 nothing of the kind"))


@pytest.mark.parametrize(("module", "name"), [("pypdf", "a.pdf"), ("docx", "a.docx"), ("bs4", "a.html")])
def test_missing_library_gives_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"pip install 'burnish\[docs\]'"):
        read(write(tmp_path, name, "<p>x</p>"))


# ------------------------------------------------------------------------------------------- parquet, compression, folders, hub


def test_parquet_rows(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"messages": [{"role": "user", "content": "hi"}], "n": 1}, {"messages": [], "n": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    table = read(str(tmp_path / "a.parquet"))
    assert [dict(row.values) for row in table.rows] == rows and lines_of(table) == [1, 2]


@pytest.mark.parametrize(("ending", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
@pytest.mark.parametrize(("name", "text"), [("a.jsonl", '{"text": "x"}\n'), ("a.csv", "text,label\nx,1\ny,2\n"), ("a.txt", "x")])
def test_compressed_files_read_like_plain_ones(tmp_path: Path, ending: str, pack: object, name: str, text: str) -> None:
    plain = read(write(tmp_path, name, text))
    packed = read(write(tmp_path, name + ending, pack(text.encode())))  # type: ignore[operator]
    keep = [{key: value for key, value in row.values.items() if key != "file"} for row in plain.rows]
    assert [{key: value for key, value in row.values.items() if key != "file"} for row in packed.rows] == keep
    assert packed.fingerprint != plain.fingerprint
    with pytest.raises(DataError, match="cannot be unpacked"):
        read(write(tmp_path, name + ending, text))


def test_folder_is_sorted_recursive_and_skips_paperwork(tmp_path: Path) -> None:
    write(tmp_path, "d/b/2.jsonl", '{"text": "two"}')
    write(tmp_path, "d/a.jsonl", '{"text": "one"}')
    write(tmp_path, "d/.hidden.jsonl", '{"text": "no"}')
    write(tmp_path, "d/LICENCE.txt", "licence")
    write(tmp_path, "d/picture.jpg", b"\xff\xd8\xff")
    table = read("d", base=tmp_path)
    assert [row.values["text"] for row in table.rows] == ["one", "two"]
    assert [row.origin.file for row in table.rows] == ["d/a.jsonl", "d/b/2.jsonl"]
    assert "picture.jpg" in table.warnings[0] and "LICENCE.txt" in table.warnings[1]


def test_folder_collects_the_problems_of_all_files(tmp_path: Path) -> None:
    write(tmp_path, "d/a.jsonl", '{"text": "one"}')
    write(tmp_path, "d/b.jsonl", "")
    write(tmp_path, "d/c.jsonl", "{")
    problems = read("d", base=tmp_path).problems
    assert len(problems) == 2 and "b.jsonl: the file is empty" in problems[0] and "c.jsonl:1" in problems[1]


def test_files_of_different_kinds_in_a_folder_are_told(tmp_path: Path) -> None:
    write(tmp_path, "d/a.jsonl", '{"text": "one"}')
    write(tmp_path, "d/b.jsonl", '{"question": "one"}')
    assert "no column in common" in read("d", base=tmp_path).warnings[0]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "secret.jsonl", '{"text": "secret"}')
    write(tmp_path, "d/a.jsonl", '{"text": "one"}')
    (tmp_path / "d/inside.jsonl").symlink_to(tmp_path / "d/a.jsonl")
    assert len(read("d", base=tmp_path).rows) == 2
    (tmp_path / "d/link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(DataError, match="is a link to a place outside"):
        read("d", base=tmp_path)


class Column:
    def __init__(self, names: list[str] | None = None, feature: object = None) -> None:
        self.names, self.feature = names, feature


class Rows(list):  # type: ignore[type-arg]
    features: dict[str, object] = {"label": Column(["down", "up"]), "text": Column(), "tags": Column(feature=Column(["O", "B-X"]))}  # noqa: RUF012


def hub(monkeypatch: pytest.MonkeyPatch, answer: object) -> list[tuple[str, str | None]]:
    asked: list[tuple[str, str | None]] = []

    def load_dataset(name: str, *, split: str | None = None) -> object:
        asked.append((name, split))
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = modules.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_hub_set_by_name_with_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never with remote code: the call has no such argument, and classes become their names."""
    rows = Rows([{"label": 1, "text": "hi", "tags": [1, 0]}])
    asked = hub(monkeypatch, {"train": rows, "test": Rows()})
    table = read("hf:someone/things")
    assert dict(table.rows[0].values) == {"label": "up", "text": "hi", "tags": ["B-X", "O"]}
    assert str(table.rows[0].origin) == "hf:someone/things:train:1" and asked == [("someone/things", None)]
    hub(monkeypatch, {"a": rows, "b": rows})
    with pytest.raises(DataError, match="hf:someone/things:a, hf:someone/things:b"):
        read("hf:someone/things")


def test_hub_errors_are_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, ConnectionError("Couldn't reach the Hub\ntrace"))
    with pytest.raises(DataError, match="without a network only sets already in the cache") as caught:
        read("hf:someone/things:test")
    assert "trace" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'burnish\[hub\]'"):
        read("hf:someone/things")
    with pytest.raises(DataError, match="expected hf:owner/name"):
        read("hf:a/b/c")


# -------------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending not in (".parquet", ".pdf", ".docx", ".npz")])
def test_bytes_that_are_not_utf8_are_named_with_line_and_offset(tmp_path: Path, ending: str) -> None:
    table = (
        read(write(tmp_path, f"a{ending}", b"text\tO\n\nM\xfcnchen\tO\n"))
        if ending in (".conll", ".iob", ".iob2", ".bio")
        else None
    )
    source = write(tmp_path, f"b{ending}", b'\xef\xbb\xbf["x",\n"M\xfcnchen"]')
    try:
        problems = read(source).problems
    except DataError as error:
        problems = str(error).split("\n")
    assert any(f"b{ending}:2: not valid UTF-8: byte 0xfc at byte offset 11" in problem for problem in problems)
    assert table is None or len(table.rows) == 2


def test_byte_order_mark_is_accepted_and_utf16_is_not(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\nx,1\ny,2\n")).columns == ("text", "label")
    with pytest.raises(DataError, match="UTF-16"):
        read(write(tmp_path, "b.csv", "text,label\nx,1\n".encode("utf-16")))


@pytest.mark.parametrize(
    ("name", "data", "mixed"),
    [
        ("a.csv", b"text,label\r\nx,1\ny,2\r\n", True),
        ("a.csv", b'text,label\r\n"x\ny",1\r\nz,2\r\n', False),
        ("a.jsonl", b'{"a": 1}\r\n{"a": 2}\n', True),
        ("a.txt", b"one\r\ntwo\r\n", False),
        ("a.txt", b"one\r\ntwo\n", True),
    ],
)
def test_mixed_line_endings_are_a_warning(tmp_path: Path, name: str, data: bytes, *, mixed: bool) -> None:
    table = read(write(tmp_path, name, data))
    assert not table.problems and any("mixed line endings" in warning for warning in table.warnings) == mixed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("trian.jsonl", "Did you mean 'train.jsonl'"),
        ("banking77", "Did you mean 'public:banking77'"),
        ("train.xlsx", "save the sheet as CSV"),
        ("train.pkl", "pickle files can run code"),
        ("train", "expected one of"),
        ("empty.jsonl", "the file is empty"),
        ("header.csv", "holds no rows"),
        ("zip.csv", "the file is a ZIP archive"),
        ("nothing", "the folder holds nothing"),
        ("https://example.org/a.jsonl", "nothing is fetched from an address"),
        ("public:bankin77", "Did you mean 'banking77'"),
    ],
)
def test_sources_that_cannot_be_read(tmp_path: Path, source: str, message: str) -> None:
    for name, data in (
        ("train.jsonl", b"{}"),
        ("train.xlsx", b"x"),
        ("train.pkl", b"x"),
        ("train", b"x"),
        ("empty.jsonl", b" \n"),
        ("header.csv", b"text,label\n"),
        ("zip.csv", b"PK\x03\x04"),
    ):
        write(tmp_path, name, data)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError) as caught:
        read(source, base=tmp_path)
    assert message in str(caught.value)


def test_fingerprint_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    data = b'{"text": "one"}\n'
    assert read(write(tmp_path, "a.jsonl", data)).fingerprint == hashlib.sha256(data).hexdigest()
    write(tmp_path, "d/a.jsonl", data)
    write(tmp_path, "d/b.jsonl", data)
    before = read("d", base=tmp_path).fingerprint
    write(tmp_path, "d/b.jsonl", data + b"\n")
    assert read("d", base=tmp_path).fingerprint != before
