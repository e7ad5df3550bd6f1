"""The classical baseline of spans: a classifier of words by their form, their neighbours, and how the training rows mark them elsewhere.

In: tasks with spans over a source text. Out: a `Baseline` whose answers are JSON lists of spans with their places. Letters in names: W
words of all texts, U different words, C tags (outside, first and inside of each type), F features. Spans that overlap an
earlier and longer one cannot be told and are left out of what is learned.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.baseline_parts import FOLDS, Baseline, chosen_rows, said
from burnish.types import Span, Task

BIASES = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5)
"""Candidates for what is added to the log-probability of no span: where names are rare, the likeliest tag of a word misses many."""

PENALTY, ROUNDS = 2e-6, 8
MOST_WORDS = 400_000
"""Training words beyond this are left out, which keeps it below a minute."""

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_OUTSIDE = 0


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of some texts in one row: number among the different ones, text they stand in, place in it."""

    word_W: np.ndarray
    text_W: np.ndarray
    place_W2: np.ndarray


def spans(train: Sequence[Task], test: Sequence[Task], seed: int) -> Baseline | None:
    """Return the spans that a logistic regression of tags finds; how readily it marks a word is chosen on a third of the training rows."""
    types = sorted({span.label for task in train for span in task.expected.spans or ()})
    sources, asked = [task.expected.source or "" for task in train], [task.expected.source or "" for task in test]
    if not types:
        return Baseline("no span", said(["[]"] * len(test)))
    kept, fold_T = chosen_rows(train, len(train), seed)
    forms: dict[str, int] = {}
    learned = _words([sources[index] for index in kept], forms)
    size = int(np.searchsorted(learned.text_W, learned.text_W[:MOST_WORDS][-1], side="right")) if len(learned.text_W) else 0
    learned = Words(learned.word_W[:size], learned.text_W[:size], learned.place_W2[:size])
    if not size:
        return Baseline("no span", said(["[]"] * len(test)))
    tag_W = _tags(learned, [train[index].expected.spans or () for index in kept], types)
    bias = _bias(learned, tag_W, fold_T, forms, len(types), seed)
    words = _words(asked, forms)
    chance_WC = _fitted(learned, tag_W, fold_T, words, forms, len(types), seed)
    found = _decoded(chance_WC, words, len(asked), types, bias)
    texts = [_written(source, marked) for source, marked in zip(asked, found, strict=True)]
    return Baseline("logistic regression of tags on words and their neighbours", said(texts))


def _words(texts: Iterable[str], forms: dict[str, int]) -> Words:
    """Return the words of texts, numbered by `forms`, to which those not seen yet are added."""
    found = [
        (forms.setdefault(match[0], len(forms)), number, match.start(), match.end())
        for number, text in enumerate(texts)
        for match in _WORD.finditer(text)
    ]
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    return Words(table[:, 0], table[:, 1], table[:, 2:])


def _tags(words: Words, marked: Sequence[Sequence[Span]], types: Sequence[str]) -> np.ndarray:
    """Return the tag of each word: 0 outside, 1 + 2k the first word of a span of type k, 2 + 2k another one."""
    tag_W = np.zeros(len(words.word_W), dtype=np.int64)
    first_T = np.searchsorted(words.text_W, np.arange(len(marked) + 1))
    for number, row in enumerate(marked):
        place_W2 = words.place_W2[first_T[number] : first_T[number + 1]]
        for span in sorted(row, key=lambda span: (span.start - span.end, span.start)):  # the longest first
            inside = np.flatnonzero((place_W2[:, 0] < span.end) & (place_W2[:, 1] > span.start)) + first_T[number]
            if len(inside) and not tag_W[inside].any():
                tag_W[inside] = 2 + 2 * types.index(span.label)
                tag_W[inside[0]] -= 1
    return tag_W


# ------------------------------------------------------------------------------------------------------------------------ features


def _form_features(forms: Iterable[str]) -> Any:
    """Return what can be seen of each different word by itself, sparse [U + 1, F]; the last row is what stands beyond a text's ends."""
    from sklearn.feature_extraction.text import CountVectorizer

    described = [_described(form) for form in forms] + [["beyond"]]
    names: Any = list  # each word comes as the list of its features
    counted: Any = CountVectorizer(analyzer=names).fit_transform(described)
    return counted.tocsr().astype(np.float32)


def _described(form: str) -> list[str]:
    shape = re.sub(r"[^\W\d_]", "x", re.sub(r"[A-ZÀ-ÞΑ-ΩА-Я]", "X", re.sub(r"\d", "9", form)))
    lower = form.lower()
    ends = [f"{side}{length}={part}" for length in (2, 3, 4) for side, part in (("<", lower[:length]), (">", lower[-length:]))]
    kind = re.sub(r"(.)\1+", r"\1", shape)
    return [f"form={form}", f"lower={lower}", f"shape={shape[:6]}", f"kind={kind}", *ends]


def _marked_elsewhere(learned: Words, tag_W: np.ndarray, fold_W: np.ndarray, lower_U: np.ndarray, tags: int) -> np.ndarray:
    """Return how often each word (in lower case) carries each tag in the training rows, [FOLDS + 1, U, C]: without each fold, and in all.

    A word's own row must not tell how it is marked: the classifier would trust a list that knows every name of the training rows.
    """
    count = np.zeros((FOLDS + 1, int(lower_U.max()) + 1, tags), dtype=np.float32)
    for fold in range(FOLDS):
        inside = fold_W == fold
        np.add.at(count[FOLDS], (lower_U[learned.word_W[inside]], tag_W[inside]), 1)
    for fold in range(FOLDS):
        count[fold] = count[FOLDS]
        inside = fold_W == fold
        np.add.at(count[fold], (lower_U[learned.word_W[inside]], tag_W[inside]), -1)
    share = count / (count.sum(axis=2, keepdims=True) + 1.0)
    share[:, :, _OUTSIDE] = count.sum(axis=2) > 0
    return share[:, lower_U]


def _rows(words: Words, form_UF: Any, share_UC: np.ndarray, fold_W: np.ndarray) -> Any:
    """Return the sparse features of each word: its own, those of two words on each side, and its pairs with the nearest two."""
    from scipy.sparse import csr_matrix, hstack

    beyond = form_UF.shape[0] - 1
    known = np.concatenate([share_UC, np.zeros((len(share_UC), 1, share_UC.shape[2]), dtype=np.float32)], axis=1)
    blocks = []
    for step in (0, -1, 1, -2, 2):
        at_W = np.arange(len(words.word_W)) + step
        inside = (at_W >= 0) & (at_W < len(at_W))
        at_W = at_W.clip(0, len(at_W) - 1)
        neighbour_W = np.where(inside & (words.text_W[at_W] == words.text_W), words.word_W[at_W], beyond)
        blocks.append(form_UF[neighbour_W])
        blocks.append(csr_matrix(known[fold_W, neighbour_W]))
    return hstack(blocks).tocsr()


# ---------------------------------------------------------------------------------------------------------- the model, its spans


def _fitted(
    learned: Words, tag_W: np.ndarray, fold_T: np.ndarray, asked: Words, forms: dict[str, int], types: int, seed: int
) -> np.ndarray:
    """Return the log-probability of each tag for each word asked for [W, C]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import SGDClassifier

    form_UF = _form_features(forms)
    lowered: dict[str, int] = {}
    lower_U = np.array([lowered.setdefault(form.lower(), len(lowered)) for form in forms])
    fold_W, tags = fold_T[learned.text_W], 1 + 2 * types
    share_UC = _marked_elsewhere(learned, tag_W, fold_W, lower_U, tags)
    settings: Any = {"tol": None}  # all rounds, always
    model: Any = SGDClassifier(loss="log_loss", alpha=PENALTY, max_iter=ROUNDS, average=True, random_state=seed, **settings)
    if len(np.unique(tag_W)) < 2:
        return np.where(np.arange(tags) == tag_W[0], 0.0, -np.inf) * np.ones((len(asked.word_W), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_rows(learned, form_UF, share_UC, fold_W), tag_W)
    chance_WC = np.full((len(asked.word_W), tags), -np.inf)
    if len(asked.word_W):
        decided = model.decision_function(_rows(asked, form_UF, share_UC, np.full(len(asked.word_W), FOLDS)))
        # Two tags alone share one number.
        decided = np.stack([-decided, decided], axis=1) if decided.ndim == 1 else decided
        chance = 1.0 / (1.0 + np.exp(-decided.clip(-30, 30)))
        chance_WC[:, model.classes_] = np.log(chance / chance.sum(axis=1, keepdims=True))
    return chance_WC


def _bias(learned: Words, tag_W: np.ndarray, fold_T: np.ndarray, forms: dict[str, int], types: int, seed: int) -> float:
    """Return the bias of "no span" under which a model of the other folds finds the spans of the first one best, by F1; 0 without folds."""
    held = fold_T[learned.text_W] == 0
    if held.all() or not held.any():
        return 0.0
    inside, outside = (Words(learned.word_W[part], learned.text_W[part], learned.place_W2[part]) for part in (~held, held))
    chance_WC = _fitted(inside, tag_W[~held], fold_T, outside, forms, types, seed)
    right = set(_segments(tag_W[held], outside.text_W))

    def worth(bias: float) -> float:
        # Each word by itself: the likeliest path costs more, and here only the balance counts.
        likeliest_W = (chance_WC + bias * (np.arange(chance_WC.shape[1]) == _OUTSIDE)).argmax(axis=1)
        found = set(_segments(likeliest_W, outside.text_W))
        return 2 * len(found & right) / max(1, len(found) + len(right))

    return max(BIASES, key=lambda bias: (worth(bias), -abs(bias)))


def _path(chance_WC: np.ndarray, text_W: np.ndarray, bias: float) -> np.ndarray:
    """Return the likeliest tags in which a span is never inside without having begun (Viterbi, without other costs)."""
    chance_WC = chance_WC.copy()
    chance_WC[:, _OUTSIDE] += bias
    size, tags = chance_WC.shape
    worth_WC, came_WC = np.zeros((size, tags)), np.zeros((size, tags), dtype=np.int64)
    first = np.arange(1, tags, 2)
    for word in range(size):
        if word and text_W[word] == text_W[word - 1]:
            before_C = worth_WC[word - 1]
            best = int(before_C.argmax())
            worth_WC[word], came_WC[word] = before_C[best], best
            # Inside follows the first or another inside word of the same type alone.
            pair_2K = np.stack([before_C[first], before_C[first + 1]])
            came_WC[word, first + 1] = first + pair_2K.argmax(axis=0)
            worth_WC[word, first + 1] = pair_2K.max(axis=0)
        else:
            worth_WC[word, first + 1] = -np.inf
        worth_WC[word] += chance_WC[word]
    tag_W = np.zeros(size, dtype=np.int64)
    for word in reversed(range(size)):
        last = word == size - 1 or text_W[word] != text_W[word + 1]
        tag_W[word] = worth_WC[word].argmax() if last else came_WC[word + 1, tag_W[word + 1]]
    return tag_W


def _segments(tag_W: np.ndarray, text_W: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the spans of tags as (first word, word after the last, type); an inside tag that follows none of its type begins one."""
    found: list[tuple[int, int, int]] = []
    for word in np.flatnonzero(tag_W).tolist():
        kind, is_first = (int(tag_W[word]) - 1) // 2, tag_W[word] % 2 == 1
        goes_on = found and found[-1][1] == word and found[-1][2] == kind and text_W[word] == text_W[word - 1] and not is_first
        if goes_on:
            found[-1] = (found[-1][0], word + 1, kind)
        else:
            found.append((word, word + 1, kind))
    return found


def _decoded(chance_WC: np.ndarray, words: Words, texts: int, types: Sequence[str], bias: float) -> list[list[Span]]:
    found: list[list[Span]] = [[] for _ in range(texts)]
    for first, end, kind in _segments(_path(chance_WC, words.text_W, bias), words.text_W):
        start, stop = int(words.place_W2[first, 0]), int(words.place_W2[end - 1, 1])
        found[int(words.text_W[first])].append(Span(start, stop, types[kind]))
    return found


def _written(source: str, found: Sequence[Span]) -> str:
    listed = [{"text": source[one.start : one.end], "label": one.label, "start": one.start, "end": one.end} for one in found]
    return json.dumps(listed, ensure_ascii=False)
