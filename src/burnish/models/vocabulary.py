"""New terms of a domain as tokens of their own.

Enters: a loaded `Model`, before a technique is applied, and terms. Leaves: the same model whose tokenizer and tables know them, each new vector
the mean of the vectors of the pieces that the term was written with. Techniques of the LoRA family train and save these vectors beside
their adapter, full tuning has them in the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.errors import ModelError, combined

if TYPE_CHECKING:
    from burnish.models.load import Model


NOT_ON_ADAPTERS = "Terms are added before a technique is applied, and not to an adapter: merge it first (burnish merge)."


@dataclass(frozen=True, slots=True)
class Added:
    """The terms that were added: the token of each, and the pieces that it was written with before."""

    tokens: Mapping[str, int]
    pieces: Mapping[str, tuple[int, ...]]


def add_terms(model: Model, terms: Sequence[str]) -> Added:
    """Add terms to the model's tokenizer and tables in place, and return which tokens they became.

    A term is found in text as a whole word. Its vector, and its row of the output head, are the means of those of its old pieces.

    Raises ModelError, all problems at once, for terms that are empty, doubled, surrounded by blanks, or one token already; and where a
    technique was applied before, which could not train them any more.
    """
    import torch

    if hasattr(model.network, "peft_config"):
        raise ModelError(NOT_ON_ADAPTERS)
    added = extend(model.tokenizer, terms)
    tokens, pieces = added.tokens, added.pieces
    network: Any = model.plain()
    fit(network, max(tokens.values()) + 1)
    with torch.no_grad():
        for table in _tables(network):
            for term, token in tokens.items():
                table[token] = table[list(pieces[term])].float().mean(0).to(table.dtype)
    network.added_token_ids = (*getattr(network, "added_token_ids", ()), *tokens.values())
    return added


def extend(tokenizer: Any, terms: Sequence[str]) -> Added:
    """Add terms to a tokenizer alone, as one does before weights are read; raises what `add_terms` raises of terms."""
    from tokenizers import AddedToken

    pieces = {term: tuple(tokenizer(term, add_special_tokens=False)["input_ids"]) for term in terms}
    if problems := [problem for number, term in enumerate(terms) if (problem := _problem(term, terms[:number], pieces[term]))]:
        raise combined(ModelError, "Terms that cannot be added to the vocabulary", problems)
    if not terms:
        raise ModelError("No terms were given to be added to the vocabulary: expected at least one.")
    tokenizer.add_tokens([AddedToken(term, single_word=True, normalized=False) for term in terms])
    return Added({term: int(tokenizer.convert_tokens_to_ids(term)) for term in terms}, pieces)


def fit(network: Any, rows: int) -> None:
    """Let the network's tables have at least this many rows; new ones are the mean of all, until something better is put there."""
    import torch

    before = int(network.get_input_embeddings().weight.shape[0])
    if rows <= before:
        return
    network.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for table in _tables(network):
            table[before:] = table[:before].float().mean(0).to(table.dtype)


def _tables(network: Any) -> list[Any]:
    """Return the tables with a row per token, each once: input vectors, output head, and the head's bias as a table."""
    head = network.get_output_embeddings()
    found = [network.get_input_embeddings().weight]
    if head is not None and head.weight is not found[0]:
        found.append(head.weight)
    if head is not None and getattr(head, "bias", None) is not None:
        found.append(head.bias)
    return found


def _problem(term: str, before: Sequence[str], pieces: Sequence[int]) -> str:
    """Return what is wrong with a term, or an empty text."""
    if not term or term != term.strip():
        return f"{term!r}: empty, or with blanks around it."
    if term in before:
        return f"{term!r} is given twice."
    if len(pieces) == 1:
        return f"{term!r} is one token already ({pieces[0]})."
    return ""
