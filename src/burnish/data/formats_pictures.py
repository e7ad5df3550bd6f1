"""The format of labelled pictures: a picture, and what is on it.

A row's values under their standard names in, `Labelled` out, its content the picture (and a text that stands beside it, where there is
one). Every picture is opened here, so that one that is missing or broken names its row before anything else is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.data.formats_choice import number
from burnish.data.formats_dialog import optional_text, raise_all, required_text
from burnish.data.formats_messages import shown
from burnish.errors import DataError, suggestion
from burnish.pictures import as_part, inside, look
from burnish.types import ImagePart, Labelled, Origin, TextPart

Values = Mapping[str, Any]


def pictures(values: Values, origin: Origin, *, names: list[str] | None = None, separator: str | None = None) -> Labelled:
    """A picture with one label, several labels (a list), or a number in the column `number`.

    `image` is a path relative to the file of the rows, inside its folder. `names` are the classes where labels are their numbers, from 0.
    `separator` divides a cell with several labels.
    """
    problems: list[str] = []
    part = picture(values.get("image"), Path(values.get("folder") or "."), "image", problems)
    text = optional_text(values, "text", problems)
    label = values.get("label")
    found: Labelled | None = None
    content = (*((part,) if part else ()), *((TextPart(text),) if text.strip() else ()))
    if label is None and values.get("number") is not None:
        found = Labelled(content=content, number=number(values["number"], "number", problems), origin=origin)
    else:
        if isinstance(label, str) and separator:
            label = [one.strip() for one in label.split(separator) if one.strip()]
        several = isinstance(label, list | tuple)
        labels = tuple(_named(one, names, problems) for one in (label if several else [label]))  # type: ignore[union-attr]
        if len(set(labels)) != len(labels):
            problems.append(f"label: the same label stands twice in {shown(label)}")
        found = Labelled(content=content, labels=labels, several=several, origin=origin)
    raise_all(problems)
    return found


def picture(given: Any, folder: Path, place: str, problems: list[str]) -> ImagePart | None:
    """Return a picture that a row names, opened once; None and a problem where there is none that can be used."""
    try:
        part = given if isinstance(given, ImagePart) else as_part(inside(given, folder))
        look(part)
        return part
    except DataError as error:
        problems.append(f"{place}: {error}")
        return None


def _named(value: Any, names: list[str] | None, problems: list[str]) -> str:
    """Return the name of a label: of a class by its number where there are `names`."""
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and value == value:
        problems.append(f"label: {value} is a number, not a class; map it as columns.number")
    text = required_text({"label": value}, "label", problems).strip()
    if names is None or not text or text in names:
        return text
    if text.isdigit() and int(text) < len(names):
        return names[int(text)]
    problems.append(
        f"label: {shown(value)} is neither among the names {', '.join(names)} nor their number.{suggestion(text, names)}"
    )
    return text
