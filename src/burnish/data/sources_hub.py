"""A Hugging Face data set by its name in, a `Table` out; needs the extra `[hub]`.

Called by `sources` for `hf:owner/name[:split]`. No code of a data set is ever run, and nothing is fetched where HF_HUB_OFFLINE is set.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from burnish.data.documents import needed
from burnish.data.records import Record, Table, columns_of
from burnish.errors import DataError
from burnish.types import Origin

NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(:(?P<split>[\w.\-\[\]%]+))?")


def read_hub(reference: str) -> Table:
    """Read one split of a data set: the named one, the only one, or `train`.

    Classes stored as numbers become their names. Raises DataError where the name, the split or the connection is not there.
    """
    match = NAME.fullmatch(reference)
    if match is None:
        raise DataError(f"hf:{reference}: expected hf:owner/name or hf:owner/name:split")
    name, wanted = match["name"], match["split"]
    hub: Any = needed("datasets", "datasets", "a Hugging Face data set", extra="hub")
    try:
        data = hub.load_dataset(name, split=wanted)
    except Exception as error:  # the library raises kinds of several other libraries
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(
            f"hf:{reference}: cannot be loaded ({reason}). Check the name and split; a private or gated set needs access on its page and "
            "HF_TOKEN; without a network only sets already in the cache can be read"
        ) from error
    if hasattr(data, "keys"):
        splits = list(data.keys())
        wanted = splits[0] if len(splits) == 1 else "train"
        if wanted not in splits:
            raise DataError(f"hf:{reference}: name one of its splits: {', '.join(f'hf:{name}:{split}' for split in splits)}")
        data = data[wanted]
    source = f"hf:{name}:{wanted}"
    convert = {column: made for column, feature in data.features.items() if (made := _names(feature)) is not None}
    rows = []
    for number, values in enumerate(data, 1):
        named = {column: convert[column](value) if column in convert else value for column, value in values.items()}
        rows.append(Record(named, Origin(source, number)))
    if not rows:
        raise DataError(f"{source}: holds no rows; choose another split")
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(dict(row.values), sort_keys=True, default=str).encode())
    return Table(rows=rows, columns=columns_of(rows), problems=[], warnings=[], fingerprint=digest.hexdigest(), files=(source,))


def _names(feature: Any) -> Any:
    """Return a function from class numbers to class names for a feature of classes (or lists of them), else None."""
    inner = getattr(feature, "feature", None)
    if inner is not None and (one := _names(inner)) is not None:
        return lambda values: None if values is None else [one(value) for value in values]
    names = getattr(feature, "names", None)
    if not isinstance(names, list):
        return None
    return lambda value: names[value] if isinstance(value, int) and 0 <= value < len(names) else value
