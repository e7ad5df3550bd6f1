"""The fresh model that a run begins with: made once from the run's own texts, and found again by what it was made from.

Enters: a run whose model is fresh, and its gathered rows. Leaves: a folder with random weights and a tokenizer, a local model like any
other. It lies beside the run directory in `.fresh`, under the hash of everything that decides it, so that `check`, the run and its
resumption share one; it may be deleted at any time, since the same run makes the same one again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any
from uuid import uuid4

from burnish import atomic
from burnish.config import Resolved, model_reference
from burnish.config_schema import ModelConfig
from burnish.data.fields import fields
from burnish.errors import BurnishError, ModelError
from burnish.gather import Gathered
from burnish.models import find_model, open_tokenizer, refuse_foreign_code
from burnish.models.fresh import Sizes, make_network, save_fresh
from burnish.models.fresh_picture import PictureSizes, save_fresh_picture
from burnish.models.fresh_tokenizer import SPECIAL_TOKENS, make_tokenizer

FOLDER = ".fresh"
VERSION = 1
"""Of the way in which a fresh model is made; another one makes another model."""


def special_tokens(resolved: Resolved) -> tuple[str, ...]:
    """Return the special tokens that a fresh model will have, before there is one. Raises ModelError for an unusable tokenizer."""
    if resolved.config.model.init == "vit":
        return ()
    return SPECIAL_TOKENS if resolved.config.model.tokenizer is None else tuple(_borrowed(resolved).all_special_tokens)


def fresh_model(resolved: Resolved, gathered: Sequence[Gathered]) -> tuple[Path, list[str]]:
    """Return the folder of the run's fresh model, made where it is not there yet, and notes for the user."""
    model, beside = resolved.config.model, Path(resolved.config.output).parent
    if model.init == "vit":
        place = fresh_folder(model, None, seed=resolved.config.seed, beside=beside)
        return place, [f"The run begins with {model}: random weights that have seen no picture."]
    if model.tokenizer is not None:
        return fresh_folder(model, _borrowed(resolved), seed=resolved.config.seed, beside=beside), [
            f"The run begins with {model}: random weights, and the tokenizer of {model.tokenizer}."
        ]
    tokenizer = _learned(list(_texts(gathered)), vocabulary=model.vocabulary or 0, beside=beside)
    notes = [f"The run begins with {model}: random weights, and {len(tokenizer):,} tokens learned from the training texts."]
    if len(tokenizer) < (model.vocabulary or 0):
        notes.append(f"The training texts repeat too little for the {model.vocabulary:,} tokens of model.vocabulary.")
    return fresh_folder(model, tokenizer, seed=resolved.config.seed, beside=beside), notes


def fresh_folder(model: ModelConfig, tokenizer: Any, *, seed: int, beside: Path) -> Path:
    """Return the folder of the fresh model of these sizes, for a tokenizer if it writes; `beside` is where the run directory lies."""
    if model.init == "vit":
        return _picture_folder(model, seed=seed, beside=beside)
    sizes = Sizes(**{field.name: getattr(model, field.name) for field in fields_of(Sizes)})
    facts = {"init": model.init, "seed": seed, **{field.name: getattr(sizes, field.name) for field in fields_of(Sizes)}}

    def fill(folder: Path) -> None:
        save_fresh(folder, make_network(sizes, tokenizer, seed=seed), tokenizer)

    digest = _digest([json.dumps(facts, sort_keys=True), _content(tokenizer), str(tokenizer.chat_template)])
    return _made(beside / FOLDER / f"model-{digest}", fill, facts)


def _picture_folder(model: ModelConfig, *, seed: int, beside: Path) -> Path:
    sizes = PictureSizes(**{field.name: getattr(model, field.name) for field in fields_of(PictureSizes)})
    facts = {"init": model.init, "seed": seed, **asdict(sizes)}
    place = beside / FOLDER / f"model-{_digest([json.dumps(facts, sort_keys=True)])}"
    return _made(place, lambda folder: save_fresh_picture(folder, sizes, seed=seed), facts)


def _learned(texts: list[str], *, vocabulary: int, beside: Path) -> Any:
    """Return the tokenizer learned from the texts, which takes its time and is kept by itself: sizes may change more often."""
    from transformers import PreTrainedTokenizerFast

    def fill(folder: Path) -> None:
        make_tokenizer(texts, vocabulary=vocabulary).save_pretrained(str(folder))

    place = beside / FOLDER / f"tokenizer-{_digest([str(vocabulary), *texts])}"
    return PreTrainedTokenizerFast.from_pretrained(str(_made(place, fill, {"vocabulary": vocabulary, "texts": len(texts)})))


def _borrowed(resolved: Resolved) -> Any:
    """Return the tokenizer of the model that the run names for it. Raises ModelError where it cannot be used."""
    try:
        found = find_model(model_reference(resolved))
        refuse_foreign_code(found)
        return open_tokenizer(found)[1]
    except BurnishError as error:
        raise ModelError(f"model.tokenizer = {resolved.config.model.tokenizer!r} cannot be used. {error}") from error


def _texts(gathered: Sequence[Gathered]) -> Iterator[str]:
    """Yield everything that the training rows of all tasks say."""
    for part in gathered:
        for example in part.examples["train"]:
            yield from (field.text for field in fields(example) if field.text)


def _content(tokenizer: Any) -> str:
    """Return all that decides how a tokenizer divides a text; how it last padded is not part of it."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({**content, "truncation": None, "padding": None}, sort_keys=True)


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    for part in parts:
        content = part.encode("utf-8", errors="surrogatepass")
        digest.update(f"\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _made(place: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> Path:
    """Return the folder `place`, filled where it is not there whole. Several processes may ask at once: one folder stays."""
    if (place / atomic.MANIFEST).is_file() and not atomic.verify(place):
        return place
    if place.exists():
        atomic.remove_directory(place)
    own = place.with_name(f"{place.name}-{uuid4().hex}")
    atomic.write_directory(own, fill, manifest=facts)
    try:
        own.rename(place)
    except OSError:
        # Another process was faster, and what it made is the same.
        if not place.is_dir():
            raise
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return place
