"""Scores of free text: equal, overlapping words, overlapping n-grams, and whether the model knew where to stop.

In: answers and tasks with acceptable texts (the best of them counts). Out: statistics [rows, K] that add up. All values lie between 0
and 1: BLEU and chrF are the usual figures divided by 100.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.errors import ConfigError, suggestion
from burnish.scores.parts import best_text, has_texts, is_generated, means, table, text_of
from burnish.types import Answer, Task

BLEU_ORDER = 4
BLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""Those of sacrebleu that need no download and no further package."""

# the point and the minus sign of a number stay (first group): without them 3.5 would equal 35, and -5 would equal 5
_PUNCTUATION = re.compile(rf"((?<=\d)\.(?=\d)|(?<![\w.])\.(?=\d)|(?<!\w)-(?=\.?\d))|[{re.escape(string.punctuation)}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")


# ------------------------------------------------------------------------------------------------------------------------- words


def normal(text: str) -> str:
    """Return text in lower case without punctuation, English articles and extra space (Rajpurkar et al. 2016, SQuAD).

    Other than there, the decimal point and the minus sign of a number stay, and a text of which nothing would be left ("?", "The")
    stays as it is, so that it does not equal every other such text, nor an empty answer.
    """
    lowered = unicodedata.normalize("NFC", text).lower()
    reduced = " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub(r"\1", lowered)).split())
    return reduced or " ".join(lowered.split())


def exact_match(answers: Sequence[Answer], tasks: Sequence[Task], *, strict: bool = False) -> np.ndarray:
    """Share of answers that equal an acceptable text, without regard to case, punctuation, articles and space.

    Statistics [rows, 2]. `strict` compares the texts as they are, only the space around them removed. Source: SQuAD 1.1.
    """
    shape = str.strip if strict else normal
    return best_text(answers, tasks, lambda reference, answer: float(shape(reference) == shape(answer)))


def token_f1(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Words that answer and reference share, as F1 per answer, averaged over answers.

    Statistics [rows, 2]. Words are what stands between spaces after the normalisation of exact_match. Source: SQuAD 1.1.
    """
    return best_text(answers, tasks, _shared_words)


def _shared_words(reference: str, answer: str) -> float:
    """Return the F1 of two texts' words, counted with repetition; texts without words are equal or not."""
    expected, given = normal(reference).split(), normal(answer).split()
    if not expected or not given:
        return float(expected == given)
    shared = sum((Counter(expected) & Counter(given)).values())
    return 2.0 * shared / (len(expected) + len(given))


# ------------------------------------------------------------------------------------------------------------------------ ROUGE


@dataclass(frozen=True, slots=True)
class _Words:
    """Words for ROUGE, in lower case and stemmed where they are ASCII and longer than three letters.

    The tokenizer of rouge-score keeps ASCII only, so that any two Japanese texts would be equally empty. This one gives the same
    words for English and letters of every script otherwise.
    """

    stemmer: Any

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        words = _WORD.findall(text.lower())
        if self.stemmer is None:
            return words
        return [self.stemmer.stem(word) if len(word) > 3 and word.isascii() else word for word in words]


def sentences(text: str) -> str:
    """Return a text with one sentence a line, split after final punctuation and at line ends; nothing is downloaded for it."""
    return "\n".join(piece for piece in (piece.strip() for piece in _SENTENCE_END.split(text)) if piece)


def has_words(task: Task) -> bool:
    """Whether an acceptable text holds a letter or digit."""
    return any(_WORD.search(text) for text in task.expected.texts)


def rouge_l(answers: Sequence[Answer], tasks: Sequence[Task], *, stem: bool = True) -> np.ndarray:
    """Longest common subsequences of the sentences of answer and reference, as F1 per answer (ROUGE-Lsum), averaged.

    Statistics [rows, 2]. `stem` compares English words by their Porter stems. Source: Lin 2004, as rouge-score counts it.
    """
    from nltk.stem.porter import PorterStemmer
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeLsum"], tokenizer=_Words(PorterStemmer() if stem else None))

    def compare(reference: str, answer: str) -> float:
        return scorer.score(sentences(reference), sentences(answer))["rougeLsum"].fmeasure

    return means(
        max(compare(reference, text_of(answer)) for reference in task.expected.texts) if has_words(task) else None
        for answer, task in zip(answers, tasks, strict=True)
    )


# -------------------------------------------------------------------------------------------------------------- character n-grams


def chrf(answers: Sequence[Answer], tasks: Sequence[Task], *, word_order: int = 0) -> np.ndarray:
    """Character n-grams (1 to 6) that answer and reference share, as an F score that weighs recall double, averaged over answers.

    Statistics [rows, 2]: the mean of sentence chrF, not corpus chrF, between 0 and 1. `word_order=2` adds words and pairs of
    words (chrF++). It suits every script and short texts. Source: Popović 2015 and 2017, as sacrebleu counts it.
    """
    from sacrebleu.metrics.chrf import CHRF

    if not 0 <= word_order <= 4:
        raise ConfigError(f"chrf: word_order is {word_order}; expected 0 (chrF) to 4, and 2 for chrF++")
    metric = CHRF(word_order=word_order)
    return means(
        metric.sentence_score(text_of(answer), task.expected.texts).score / 100.0 if has_texts(task) else None
        for answer, task in zip(answers, tasks, strict=True)
    )


# ------------------------------------------------------------------------------------------------------------------------- BLEU


def bleu(answers: Sequence[Answer], tasks: Sequence[Task], *, tokenize: str = "13a", lowercase: bool = False) -> np.ndarray:
    """Corpus BLEU: word n-grams (1 to 4) of the answers found in the references, with a penalty for being too short.

    Statistics [rows, 10]: words of the answer, words of the nearest reference, matches of each order, n-grams of each order.
    Between 0 and 1. `tokenize` is one of sacrebleu's: 13a, intl, zh, char, none. Source: Papineni et al. 2002.
    """
    from sacrebleu.metrics.bleu import BLEU

    if tokenize not in BLEU_TOKENIZERS:
        known = ", ".join(BLEU_TOKENIZERS)
        raise ConfigError(f"bleu: unknown tokenize {tokenize!r}; expected one of {known}.{suggestion(tokenize, BLEU_TOKENIZERS)}")
    # effective_order only silences sacrebleu's advice here: counts and totals are the same without it
    metric = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True, max_ngram_order=BLEU_ORDER)

    def row(answer: Answer, task: Task) -> list[float]:
        if not has_texts(task):
            return [0.0] * (2 + 2 * BLEU_ORDER)
        counted = metric.sentence_score(text_of(answer), task.expected.texts)
        return [counted.sys_len, counted.ref_len, *counted.counts, *counted.totals]

    return table((row(answer, task) for answer, task in zip(answers, tasks, strict=True)), 2 + 2 * BLEU_ORDER)


def bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """Combine sums [..., 10] of `bleu` to corpus BLEU [...], with exponential smoothing (Chen and Cherry 2014, method 3).

    Orders that no answer is long enough for are left out (sacrebleu's effective_order): else a perfect answer of three words
    would be worth 0. It makes no difference as soon as one answer has four words.
    """
    answered, expected = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    counted = totals > 0
    missed = counted & (matches == 0)
    smoothing = 2.0 ** np.cumsum(missed, axis=-1)
    numerator = np.where(missed, 1.0 / smoothing, matches)
    logs = np.where(counted, np.log(np.where(counted, numerator, 1.0) / np.where(counted, totals, 1.0)), 0.0)
    precision = np.exp(logs.sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))
    penalty = np.exp(np.minimum(0.0, 1.0 - expected / np.where(answered > 0, answered, 1.0)))
    value = np.where(matches.sum(axis=-1) > 0, precision * penalty, 0.0)
    return np.where(answered + expected > 0, value, np.nan)


# ------------------------------------------------------------------------------------------------------------------------- stop


def stop_rate(answers: Sequence[Answer], tasks: Sequence[Task]) -> np.ndarray:
    """Share of answers that the model ended by itself, and not the limit on tokens.

    Statistics [rows, 2]. A low rate means that the end of a turn was not learned, or that the limit is too tight.
    """
    return means(float(bool(answer.stopped)) if is_generated(task) else None for answer, task in zip(answers, tasks, strict=True))
