"""What a head's scores say: labels, numbers, spans and answers, in the words that scores of generated answers compare too.

Enters: a model with a head, its renderer, and rows. Leaves: one `Answer` per row, so that accuracy, span F1 or exact match are
measured of a head as of a model that writes. `evaluate` takes this in place of generation; windows of a long row are merged here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

import numpy as np

from burnish.data.dialog import NOT_STATED
from burnish.data.render_heads import HeadRenderer
from burnish.data.render_heads_spans import Window, spans_of
from burnish.errors import ModelError
from burnish.models import HeadSpec, Model, forward, numbered_batches
from burnish.reading_rows import restored
from burnish.sampling.mode import evaluating
from burnish.scores.text import token_f1
from burnish.types import Answer, Answerable, Example, Sequence, Tagged, Task, Text, plain

LOWEST_ODDS = -1e9
"""The log-odds of an answer where there is no context."""
LONGEST = 64
"""Tokens of an extracted answer at most: two far ends seldom belong together."""


def read(
    model: Model,
    renderer: HeadRenderer,
    examples: Many[Example],
    *,
    tokens: int = 8192,
    between: Callable[[], None] | None = None,
) -> list[Answer]:
    """Return what the model's head says of each row, in the form of the expected answer; `tokens` are the positions of a batch.

    Texts longer than the renderer's limit are read as far as it goes where one reading is made of all (a label, a number), else in
    windows. Of a text whose masked tokens are restored it is how many were. `between` is called between batches and may raise to stop.
    Raises ModelError for a model without a head, or with scores that are no finite numbers.
    """
    if renderer.spec.restores:
        texts = [example for example in examples if isinstance(example, Task | Text)]
        return restored(model, renderer, texts, tokens=tokens, between=between)
    found = read_fully(model, renderer, examples, tokens=tokens, between=between)
    return [Answer(text=text, stopped=True, chances=figures.get("probabilities")) for text, figures in found]


def read_fully(
    model: Model,
    renderer: HeadRenderer,
    examples: Many[Example],
    *,
    tokens: int = 8192,
    between: Callable[[], None] | None = None,
) -> list[tuple[str, dict[str, Any]]]:
    """Return what the model's head says of each row as `read` does, and in figures, as JSON holds them.

    Of one label or several {"label" or "labels", "probabilities"}, of a number or a reward {"number"}, of spans {"spans"}, of an answer
    {"answer" (None: there is none), "log_odds" against none}. Raises what `read` raises.
    """
    windows = [_windows(renderer, example) for example in examples]
    scores = iter(head_scores(model, [window.sequence for parts in windows for window in parts], tokens=tokens, between=between))
    found = []
    for example, parts in zip(examples, windows, strict=True):
        some = [next(scores) for _ in parts]
        text = _said(renderer.spec, example, parts, some)
        found.append((text, _figures(renderer.spec, example, parts, some, text)))
    return found


def _windows(renderer: HeadRenderer, example: Example) -> list[Window]:
    """Return a row's windows without what is expected, none of them longer than the model may read."""
    windows = renderer.windows(example, learn=False)
    cut = renderer.within([window.sequence for window in windows], "cut")
    return [replace(window, sequence=sequence) for window, sequence in zip(windows, cut, strict=True)]


def head_scores(
    model: Model, sequences: Many[Sequence], *, tokens: int = 8192, between: Callable[[], None] | None = None
) -> list[np.ndarray]:
    """Return the scores [N, C] of each sequence by the head of their task, float32, read in batches of like lengths."""
    import torch

    found: list[np.ndarray] = [np.zeros((0, 0), dtype=np.float32)] * len(sequences)
    with evaluating(model.network):
        for places, batch in numbered_batches(model, sequences, tokens=tokens, by_task=True, between=between):
            with torch.inference_mode():
                scores_NC = forward(model, batch, ("scores",)).scores_NC
                assert scores_NC is not None
                scores_NC = scores_NC.float().cpu().numpy()
            for number, part in places:
                found[number] = scores_NC[part]
    broken = [
        str(sequence.origin) for sequence, scores_NC in zip(sequences, found, strict=True) if not np.isfinite(scores_NC).all()
    ]
    if broken:
        raise ModelError(
            f"The head's scores are not finite numbers for {len(broken)} of {len(sequences)} sequences (first: {broken[0]}). The weights "
            f"are damaged or tuning diverged; use an earlier checkpoint."
        )
    return found


def _said(spec: HeadSpec, example: Example, windows: Many[Window], scores: Many[np.ndarray]) -> str:
    """Return the text of what the head says of a row."""
    if spec.kind == "token":
        return _spans_text(spec, example, windows, scores)
    if spec.kind == "span":
        assert isinstance(example, Answerable)
        odds, answer = best_span(example.context, windows, scores)
        return answer if answer and (spec.threshold is None or odds > spec.threshold) else NOT_STATED
    score_C = scores[0][0]
    if spec.problem in ("number", "reward"):
        return f"{float(score_C[0]) * spec.deviation + spec.mean:g}"
    if spec.problem == "several":
        return _labels_text([label for label, score in zip(spec.labels, score_C, strict=True) if score > 0])
    return spec.labels[int(score_C.argmax())]


def _figures(spec: HeadSpec, example: Example, windows: Many[Window], scores: Many[np.ndarray], text: str) -> dict[str, Any]:
    """Return what the head says of a row in figures."""
    if spec.kind == "token":
        return {"spans": json.loads(text)}
    if spec.kind == "span":
        assert isinstance(example, Answerable)
        odds, _ = best_span(example.context, windows, scores)
        return {"answer": None if text == NOT_STATED else text, "log_odds": max(odds, LOWEST_ODDS)}
    score_C = scores[0][0].astype(np.float64)
    if spec.problem in ("number", "reward"):
        return {"number": float(score_C[0]) * spec.deviation + spec.mean}
    if spec.problem == "several":
        share_C = 1 / (1 + np.exp(-score_C))
        said: dict[str, Any] = {"labels": [label for label, score in zip(spec.labels, score_C, strict=True) if score > 0]}
    else:
        share_C = np.exp(score_C - score_C.max())
        share_C /= share_C.sum()
        said = {"label": text}
    return {**said, "probabilities": dict(zip(spec.labels, share_C.tolist(), strict=True))}


def _labels_text(labels: list[str]) -> str:
    """Return labels as scores read them: between commas, or as a JSON list where a label holds one."""
    if any("," in label for label in labels):
        return json.dumps(labels, ensure_ascii=False)
    return ", ".join(labels) or "none"


def _spans_text(spec: HeadSpec, example: Example, windows: Many[Window], scores: Many[np.ndarray]) -> str:
    """Return the spans of a row as a JSON list with text, label and place. Every token was read in one window alone."""
    assert isinstance(example, Tagged | Task)
    source = plain(example.content) if isinstance(example, Tagged) else _source(example)
    scores_TC = np.concatenate(scores)
    chars_T2 = np.concatenate([window.chars_N2 for window in windows])
    if spec.problem == "flat":
        label_T = scores_TC.argmax(axis=1)
        tags_TC = np.stack([(label_T == 1 + 2 * k) + 2 * (label_T == 2 + 2 * k) for k in range(len(spec.types))], axis=1)
    else:
        tags_TC = scores_TC.reshape(len(scores_TC), -1, 3).argmax(axis=2)
    spans = spans_of(tags_TC, chars_T2, spec.types)
    listed = [{"text": source[span.start : span.end], "label": span.label, "start": span.start, "end": span.end} for span in spans]
    return json.dumps(listed, ensure_ascii=False)


def _source(task: Task) -> str:
    return task.expected.source or (plain(task.messages[-1].content) if task.messages else task.text or "")


# ------------------------------------------------------------------------------------------------------------ answers in a context


def best_span(context: str, windows: Many[Window], scores: Many[np.ndarray]) -> tuple[float, str]:
    """Return the likeliest answer over all windows, and its log-odds against no answer ("" and -inf for an empty context).

    In each window, log-odds of tokens i..j are start_i + end_j - start_0 - end_0, place 0 saying that there is no answer. Comparing them
    over windows, rather than bare scores, lets each window's softmax keep its own level.
    Source: Devlin et al. 2018, arXiv 1810.04805, section 4.3, for one window.
    """
    best, answer = -np.inf, ""
    for window, scores_NC in zip(windows, scores, strict=True):
        start_T, end_T = scores_NC[1:, 0] - scores_NC[0, 0], scores_NC[1:, 1] - scores_NC[0, 1]
        if not len(start_T):
            continue
        length_TT = np.arange(len(start_T))[None, :] - np.arange(len(start_T))[:, None]
        odds_TT = np.where((length_TT >= 0) & (length_TT < LONGEST), start_T[:, None] + end_T[None, :], -np.inf)
        first, last = np.unravel_index(int(odds_TT.argmax()), odds_TT.shape)
        begin, end = int(window.chars_N2[1 + first, 0]), int(window.chars_N2[1 + last, 1])
        if odds_TT[first, last] > best and end > begin:
            best, answer = float(odds_TT[first, last]), context[begin:end]
    return best, answer


def choose_threshold(
    model: Model,
    renderer: HeadRenderer,
    examples: Iterable[Example],
    *,
    tokens: int = 8192,
    between: Callable[[], None] | None = None,
) -> float | None:
    """Return the log-odds above which answers of these (dev) rows earn the highest mean F1; None where all rows have an answer.

    Between two rows' odds the threshold lies in the middle, so that rows which are much like these fall on the same side. `between` is
    called between batches and may raise to stop.
    """
    rows = [example for example in examples if isinstance(example, Answerable)]
    if all(row.answers for row in rows):
        return None
    windows = [_windows(renderer, row) for row in rows]
    flat = [window.sequence for parts in windows for window in parts]
    scores = iter(head_scores(model, flat, tokens=tokens, between=between))
    found = [best_span(row.context, parts, [next(scores) for _ in parts]) for row, parts in zip(rows, windows, strict=True)]
    asked = [renderer.task_of(row) for row in rows]
    odds = np.asarray([max(one, LOWEST_ODDS) for one, _ in found])  # a row without context has none
    said = token_f1([Answer(text=answer or NOT_STATED) for _, answer in found], asked)[:, 0]
    silent = token_f1([Answer(text=NOT_STATED) for _ in found], asked)[:, 0]
    order = np.argsort(odds, kind="stable")
    # Entry k: the k lowest stay silent, the others are said.
    worth = np.concatenate([[0.0], np.cumsum(silent[order])]) + np.concatenate([np.cumsum(said[order][::-1])[::-1], [0.0]])
    ordered = odds[order]
    bounds = np.concatenate([[ordered[0] - 1.0], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 1.0]])
    # Rows of equal odds cannot be told apart, so a bound between them is none.
    real = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    return float(bounds[int(np.where(real, worth, -1.0).argmax())])
