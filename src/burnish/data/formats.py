"""From records to examples: the formats by name, and the function that applies one to a table.

In: a `Table` of records. Out: `Examples`, with every problem of every row and the file and line it stands in. To add a format, write
a function (values, origin, **options) -> example and one line in FORMATS; tuning, configuration and the command line need no change.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from burnish.config_named import parted
from burnish.data import formats_choice, formats_dialog, formats_exports, formats_feedback, formats_pictures, formats_text
from burnish.data.formats_columns import cell_of, template_names, with_column
from burnish.data.formats_feedback import Noted, Survey
from burnish.data.formats_private import private_function
from burnish.data.records import Record, Table
from burnish.errors import ConfigError, DataError, suggestion
from burnish.types import Answerable, Dialog, Example, Labelled, Origin, Pair, Rated, Tagged, Text
from burnish.types import Row as AnyRow

Function = Callable[..., Example | tuple[Example, ...] | Noted]
Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way of writing rows.

    `function(values, origin, **options)` makes an example (or several) of a row's values under their standard names, and raises
    DataError with all problems of the row. `columns` are the standard names, each with other names it is recognised by; `required`
    are sets of standard names, of which one must be complete. `gives` is `Row` where the rows themselves say what they are. `survey`
    looks at the values of all rows before the first is read.
    """

    function: Function
    gives: type
    required: tuple[tuple[str, ...], ...]
    columns: Names
    survey: Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], Survey] | None = None
    opens: bool = False
    """Whether it opens files that rows name: it then finds their folder among the values, as "folder"."""

    @property
    def description(self) -> str:
        """The first sentence on what the rows look like."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the function, with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a table became. Nothing is to be trained on while there are problems.

    `guessed` says in words how the format was chosen; `columns` which column stands for each standard name.
    """

    examples: list[Example]
    problems: list[str]
    warnings: list[str]
    format: str
    guessed: str
    columns: Mapping[str, str] = field(default_factory=dict)


OF_EVERY_ROW = ("group", "slice")
"""Standard names that every format has."""

SYSTEM = {"system": ("system_prompt", "system_message")}
TOOLS = {"tools": ("functions",)}
ANSWER = ("answer_text", "reply", "response")

FORMATS: dict[str, Format] = {
    "messages": Format(
        function=formats_dialog.messages,
        gives=Dialog,
        required=(("messages",),),
        columns={"messages": (), **TOOLS},
    ),
    "sharegpt": Format(
        function=formats_dialog.sharegpt,
        gives=Dialog,
        required=(("conversations",),),
        columns={"conversations": ("conversation",), **SYSTEM, **TOOLS},
    ),
    "alpaca": Format(
        function=formats_dialog.alpaca,
        gives=Dialog,
        required=(("instruction", "output"), ("instruction", "instances")),
        columns={"instruction": (), "input": (), "output": ("response",), "instances": (), "history": (), **SYSTEM},
    ),
    "prompt_completion": Format(
        function=formats_dialog.prompt_completion,
        gives=Dialog,
        required=(("prompt", "completion"),),
        columns={"prompt": (), "completion": (), **SYSTEM, **TOOLS},
    ),
    "text": Format(
        function=formats_text.text,
        gives=Text,
        required=(("text",),),
        columns={"text": ("content", "body", "document", "article", "markdown", "raw_text")},
    ),
    "labelled": Format(
        function=formats_text.labelled,
        gives=Labelled,
        required=(("text", "label"), ("text", "number")),
        columns={
            "text": ("sentence", "review", "utterance", "tweet", "comment", "content", "body"),
            "label": ("labels", "category", "class", "intent", "sentiment", "topic"),
            "number": ("score", "grade", "value"),
        },
    ),
    "pictures": Format(
        function=formats_pictures.pictures,
        gives=Labelled,
        required=(("image", "label"), ("image", "number")),
        columns={
            "image": ("picture", "photo", "image_path", "image_file", "picture_path", "img", "img_path", "file_name", "filename"),
            "label": ("labels", "category", "class", "diagnosis", "grade", "defect"),
            "number": ("score", "value", "cost"),
            "text": ("caption", "description"),
        },
        opens=True,
    ),
    "spans": Format(
        function=formats_text.spans,
        gives=Tagged,
        required=(("tokens", "tags"), ("tokens", "spans"), ("text", "spans")),
        columns={
            "text": ("sentence", "content"),
            "spans": ("entities", "ents", "label", "labels"),
            "tokens": ("words",),
            "tags": ("ner_tags", "labels", "ner", "iob_tags"),
        },
    ),
    "question_answer": Format(
        function=formats_dialog.question_answer,
        gives=Dialog,
        required=(("question", "answer"),),
        columns={"question": ("query",), "answer": ANSWER, "context": ("contexts", "passage"), **SYSTEM},
    ),
    "squad": Format(
        function=formats_text.squad,
        gives=Answerable,
        required=(("question", "context", "answers"), ("question", "context", "answer")),
        columns={
            "question": (),
            "context": ("passage",),
            "answers": (),
            "answer": ANSWER[:1],
            "answer_start": ("start",),
            "document": ("document_id", "title"),
        },
    ),
    "pairs": Format(
        function=formats_choice.pairs,
        gives=Pair,
        required=(("chosen", "rejected"),),
        columns={
            "prompt": ("question", "instruction"),
            "input": (),
            "chosen": ("preferred_output",),
            "rejected": ("non_preferred_output",),
            **SYSTEM,
            **TOOLS,
        },
    ),
    "rated": Format(
        function=formats_choice.rated,
        gives=Rated,
        required=(
            ("prompt", "completion", "label"),
            ("prompt", "completion", "rating"),
            ("messages", "label"),
            ("messages", "rating"),
        ),
        columns={"prompt": (), "completion": (), "messages": (), "label": (), "rating": ("score",), **SYSTEM, **TOOLS},
    ),
    "feedback": Format(
        function=formats_feedback.feedback,
        gives=Pair,
        required=tuple((asked, "answers", said) for said in ("choice", "thumb", "edit") for asked in ("messages", "prompt")),
        columns=dict.fromkeys(("messages", "prompt", "answers", "choice", "thumb", "edit", "id", "rater"), ()),
        survey=formats_feedback.last_judgements,
    ),
    "label_studio": Format(
        function=formats_exports.label_studio,
        gives=AnyRow,
        required=(("data", "annotations"),),
        columns={"data": (), "annotations": ("completions",)},
        survey=formats_exports.survey_label_studio,
    ),
    "argilla": Format(
        function=formats_exports.argilla,
        gives=AnyRow,
        required=(("fields", "responses"),),
        columns={"fields": (), "responses": (), "suggestions": ()},
        survey=formats_exports.survey_argilla,
    ),
}


def examples(
    table: Table,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    repair: bool = False,
    **options: Any,
) -> Examples:
    """Make examples of all rows of a table.

    `format` is a name of FORMATS or `module:function` of your own, perhaps with options as `feedback(as_="rated")`, or auto: what the
    source is registered as, else what the columns look like. `columns` maps a standard name to the column that holds it, or to a
    template such as "{title}: {body}"; `group` names what is never divided between training and test, `slice` a part of the rows that is
    also scored by itself (a row without one belongs to none). `repair` applies repairs that are unambiguous. `options` are those of the format.
    Raises ConfigError for an unknown format, standard name or option, DataError where columns are missing or nothing can be guessed.
    """
    mapped = dict(columns or {})
    format, said = parted(format)
    options = {**said, **options}
    name, guessed = format, f"format {format}, as given"
    if format in ("auto", table.format) and table.format is not None:
        name, guessed = table.format, f"format {table.format}, as the data set is registered"
        mapped = {**table.column_map, **mapped}
        options = {**table.options, **options}
    elif format == "auto":
        from burnish.data.guess import guess

        found = guess(table, columns=mapped)
        name, mapped, guessed = found.format, {**found.columns, **mapped}, " ".join(found.why)
    entry = _entry(name)
    if repair and "repair" in entry.options:
        options = {**options, "repair": True}
    _check_options(name, entry, options)
    chosen = resolved(entry, table.columns, mapped, name=name)
    rows, warnings = table.rows, list(table.warnings)
    if entry.survey is not None:
        survey = entry.survey([_values(entry, row, chosen) for row in rows], options)
        rows, options = [row for row, counts in zip(rows, survey.counts, strict=True) if counts], dict(survey.options)
        warnings += [f"{', '.join(table.files)}: {warning}" for warning in survey.warnings]
    made: list[Example] = []
    problems = list(table.problems)
    noted: dict[str, list[Origin]] = {}
    for row in rows:
        try:
            values = _values(entry, row, chosen)
            if entry.opens:
                values["folder"] = table.folders.get(row.origin.file, Path(row.origin.file).parent)
            found, notes = _made(entry, row, values, chosen, options, name)
        except DataError as error:
            problems.extend(f"{row.origin}: {with_column(line, chosen)}" for line in str(error).split("\n"))
            continue
        made.extend(found)
        for note in notes:
            noted.setdefault(note, []).append(row.origin)
    warnings += [_counted(note, origins) for note, origins in noted.items()]
    if noted and not made and not problems:
        problems.append(f"{next(iter(noted.values()))[0]}: no row gives an example: " + "; ".join(warnings))
    return Examples(examples=made, problems=problems, warnings=warnings, format=name, guessed=guessed, columns=chosen)


def _counted(note: str, origins: list[Origin]) -> str:
    """Return a remark on rows with how many they are and the places of the first ones."""
    places = ", ".join(map(str, origins[:3])) + (" …" if len(origins) > 3 else "")
    return f"{len(origins)} row{'s' if len(origins) != 1 else ''}: {note} ({places})"


def _values(entry: Format, row: Record, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a row under their standard names."""
    values = {standard: cell_of(row.values, column) for standard, column in chosen.items() if standard not in OF_EVERY_ROW}
    values = values if entry.columns else {**row.values, **values}
    if "file" in row.values:
        values.setdefault("file", row.values["file"])
    return values


def _made(
    entry: Format, row: Record, values: dict[str, Any], chosen: Mapping[str, str], options: Mapping[str, Any], name: str
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Return the examples of one row, their group and slice filled in where they are mapped, and remarks on it."""
    result = entry.function(values, row.origin, **options)
    notes = result.notes if isinstance(result, Noted) else ()
    result = result.examples if isinstance(result, Noted) else result
    made = result if isinstance(result, tuple) else (result,)
    wrong = [one for one in made if not isinstance(one, get_args(Example))]
    if wrong:
        raise ConfigError(f"format {name!r} returned {type(wrong[0]).__name__}; expected an example such as burnish.types.Dialog")
    for standard in OF_EVERY_ROW:
        if standard not in chosen:
            continue
        value = cell_of(row.values, chosen[standard])
        said = "" if value is None else str(value).strip()
        if not said and standard == "group":
            raise DataError("group: is missing; expected what the row belongs to, since 'group' is mapped")
        if said:
            made = tuple(dataclasses.replace(one, **{standard: str(value)}) for one in made)
    return made, notes


def resolved(entry: Format, available: tuple[str, ...], mapped: Mapping[str, str], *, name: str) -> dict[str, str]:
    """Return the column for each standard name: as mapped, by its own name, by another name it is known by.

    Raises ConfigError for standard names that the format has not, DataError for mapped columns that the table has not and where no
    set of required columns is complete.
    """
    known = {*entry.columns, *OF_EVERY_ROW}
    problems = [
        f"data.columns.{standard}: format {name!r} has no column of that name; it has {', '.join(sorted(known))}.{suggestion(standard, known)}"
        for standard in mapped
        if entry.columns and standard not in known
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    for standard, column in mapped.items():
        parts = [column] if column in available or "{" not in column else template_names(column)
        problems += [
            f"data.columns.{standard}: there is no column {part!r}; the rows have {', '.join(available)}.{suggestion(part, available)}"
            for part in parts
            if part not in available
        ]
    if problems:
        raise DataError("\n".join(problems))
    chosen = {**mapped, **recognised(entry, available, mapped)}
    if entry.required and not any(all(part in chosen for part in one) for one in entry.required):
        wanted = ", or ".join(" and ".join(one) for one in entry.required)
        missing = next(part for part in entry.required[0] if part not in chosen)
        raise DataError(
            f"format {name!r} needs the columns {wanted}; the rows have {', '.join(available) or 'none'}. "
            f"Say which column is which, such as data.columns.{missing} = {next(iter(available), 'column')!r}, or choose another data.format"
        )
    return chosen


def recognised(entry: Format, available: tuple[str, ...], mapped: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that are known by their names, letter case aside; a column stands for one standard name only."""
    chosen: dict[str, str] = {}
    lowered = {column.lower(): column for column in reversed(available)}
    for rank in (0, 1):
        for standard, others in entry.columns.items():
            taken = {*mapped.values(), *chosen.values()}
            for other in () if standard in mapped or standard in chosen else ((standard,), others)[rank]:
                column = other if other in available else lowered.get(other.lower())
                if column is not None and column not in taken:
                    chosen[standard] = column
                    break
    return chosen


# ---------------------------------------------------------------------------------------------------- a user's own functions


def _entry(name: str) -> Format:
    """Return the format of a name, or a user's own function; raises ConfigError where there is none."""
    if name in FORMATS:
        return FORMATS[name]
    if ":" in name:
        return Format(function=private_function(name), gives=object, required=(), columns={})
    raise ConfigError(
        f"data.format = {name!r} is not known; expected auto, {', '.join(FORMATS)}, or module:function.{suggestion(name, FORMATS)}"
    )


def _check_options(name: str, entry: Format, options: Mapping[str, Any]) -> None:
    """Raise ConfigError for options that the format's function has not."""
    known = entry.options
    unknown = [
        f"format {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}.{suggestion(option, known)}"
        for option in options
        if option not in known
    ]
    if unknown:
        raise ConfigError("\n".join(unknown))
