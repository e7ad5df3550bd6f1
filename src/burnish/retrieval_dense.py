"""Embeddings for retrieval: texts in, vectors of length 1 out, through sentence-transformers.

The model is a folder on this machine or a name on the hub that is already in the cache; a new one is downloaded by its own client only where
the hub may be reached. Questions and passages are embedded as the model's own settings say (some put a prefix before a question).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.errors import ModelError
from burnish.retrieval import Embed


def open_embedder(name: str, *, device: str = "cpu") -> Embed:
    """Return the function that embeds texts with this model. Raises ModelError where library or model is missing."""
    try:
        library: Any = importlib.import_module("sentence_transformers")
    except ImportError:
        raise ModelError(
            "Looking by meaning needs sentence-transformers, which is not installed; run: pip install 'burnish[dense]'"
        ) from None
    try:
        model: Any = library.SentenceTransformer(
            name, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # the library raises many kinds where a folder is not what it expects
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(f"{name} cannot be opened as an embedding model ({said}). Give a folder or hub id of one.") from error

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32)

    return embed
