"""How the rows of a task become sequences, by the name that an objective gives: answers to imitate, pairs to compare, attempts to make.

Enters: a `Renderer`, the training examples, a name of RENDERINGS. Leaves: `Rows`, which turn one example after the other into sequences.
To add a way of rendering, write a function that returns `Rows` and one line in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from burnish.data.render import Renderer
from burnish.data.render_heads import REWARD, HeadRenderer, HeadSpec, Kind, spec_for
from burnish.data.render_masked import masking
from burnish.data.render_pairs import judged, pair_sequences, rated_sequences, thumbs_of, within_pairs
from burnish.errors import ConfigError, DataError
from burnish.types import Example, Pair, Rated, Sequence

Policy = Literal["drop", "cut", "fail"]

WINDOWS_LEARNED = 4
"""Windows over a question's context that are learned from, unless the objective's option `windows` says otherwise."""


def _as_they_are(example: Example, sequences: list[Sequence]) -> list[Sequence]:
    return sequences


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rendering must know beside the rows: the kind of head that the objective needs, whether the model is an encoder, the seed.

    `options` are the objective's: some say how its rows are shown.
    """

    head: Kind | None = None
    encoder: bool = False
    pictures: bool = False
    """Whether the model reads pictures and nothing else."""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One way of rendering, ready for the rows of a task.

    `sequences(example, number)` renders the row of a number; `within(sequences, policy)` leaves those that fit; `finished(example,
    sequences)` is the last step, after the checks have seen them token by token. `learned` is False where nothing is learned from
    the rows themselves: the model attempts them. `head` is the head that the rows ask for, and `reader` what renders rows for it;
    `by_token` says that answers are learned token by token, each with its end. `compares` is False where held-out rows hold nothing that
    an answer could be compared with; `change` is what becomes of a row in each epoch (`FixedBatches.change`).
    """

    sequences: Callable[[Example, int], list[Sequence]]
    within: Callable[[list[Sequence], Policy], list[Sequence]]
    finished: Callable[[Example, list[Sequence]], list[Sequence]] = _as_they_are
    learned: bool = True
    head: HeadSpec | None = None
    reader: HeadRenderer | None = None
    by_token: bool = True
    compares: bool = True
    change: Callable[[Many[Sequence], int, int], Many[Sequence]] | None = None


def answers(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders texts to continue and answers to imitate."""
    return Rows(lambda example, number: renderer.sequences(example), renderer.within)


def pairs(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders a better and a worse answer as two sequences of one group."""

    def sequences(example: Example, number: int) -> list[Sequence]:
        assert isinstance(example, Pair), "the objective reads pairs"
        return pair_sequences(renderer, example, group=number + 1)

    return Rows(sequences, _within(renderer))


def rated(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders an answer with its thumb; a pair is two of them, one up and one down."""

    def sequences(example: Example, number: int) -> list[Sequence]:
        assert isinstance(example, Rated | Pair), "the objective reads rated answers and pairs"
        rows = thumbs_of(example) if isinstance(example, Pair) else (example,)
        return [sequence for row in rows for sequence in rated_sequences(renderer, row)]

    _refuse_equal(examples)
    return Rows(sequences, _within(renderer))


def judgements(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders pairs and rated answers to be read as a whole: token by token first, which the checks can follow.

    What a model makes of ratings that it has not seen is compared with nothing yet.
    """

    def sequences(example: Example, number: int) -> list[Sequence]:
        if isinstance(example, Pair):
            return pair_sequences(renderer, example, group=number + 1)
        assert isinstance(example, Rated), "the objective reads pairs and rated answers"
        return rated_sequences(renderer, example, thumbs=False)

    def finished(example: Example, found: list[Sequence]) -> list[Sequence]:
        rating = example.rating if isinstance(example, Rated) else 0.0
        return [judged(sequence, margin=0.0, rating=rating) for sequence in found]

    _refuse_equal(examples)
    compares = not any(isinstance(example, Rated) for example in examples)
    return Rows(sequences, _within(renderer), finished, head=REWARD, compares=compares)


def _refuse_equal(examples: Many[Example]) -> None:
    """Raise DataError where all rows are rated alike, so that none of them says what is better than what."""
    ratings = {example.rating for example in examples if isinstance(example, Rated)}
    if len(ratings) == 1 and all(isinstance(example, Rated) for example in examples):
        raise DataError(
            f"All {len(examples)} rows have the rating {ratings.pop():g} (the first at {examples[0].origin}): none is better than another. "
            f'Add rows with other ratings, or learn to write such answers: objective.name = "sft".'
        )


def rollouts(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders nothing: the model attempts these rows by itself."""
    return Rows(lambda example, number: [], lambda sequences, policy: sequences, learned=False)


def heads(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders rows for a head: the text itself, read as a whole, at each token, or over a context in windows."""
    assert wanted.head is not None, "an objective of a head names its kind"
    twice = wanted.options.get("twice")
    if twice and wanted.encoder:
        raise ConfigError("objective.twice = true: an encoder reads in both directions already. Leave it out.")
    kind: Kind = "picture" if wanted.pictures and wanted.head == "sequence" else wanted.head
    shown_twice = twice is not False and wanted.head == "token" and not wanted.encoder
    return _read_by(renderer, spec_for(kind, examples, renderer.tokenizer, twice=shown_twice), wanted)


def masked(renderer: Renderer, examples: Many[Example], wanted: Wanted) -> Rows:
    """Return what renders texts for an encoder, each token a place that may be masked, anew in each epoch; no answer comes of it."""
    rows = _read_by(renderer, spec_for("masked", examples, renderer.tokenizer), wanted)
    return replace(rows, compares=False, change=masking(renderer.tokenizer, wanted.seed))


def _read_by(renderer: Renderer, spec: HeadSpec, wanted: Wanted) -> Rows:
    reader = HeadRenderer(
        renderer.tokenizer,
        renderer.max_length,
        renderer.frame,
        spec,
        wanted.encoder,
        task=renderer.task,
        end_ids=renderer.end_ids,
        windows_learned=wanted.options.get("windows", WINDOWS_LEARNED) or None,
        seed=wanted.seed,
    )
    return Rows(lambda example, number: reader.sequences(example), reader.within, head=spec, reader=reader, by_token=False)


def _within(renderer: Renderer) -> Callable[[list[Sequence], Policy], list[Sequence]]:
    return lambda sequences, policy: within_pairs(sequences, renderer.max_length, policy=policy)


RENDERINGS: dict[str, Callable[[Renderer, Many[Example], Wanted], Rows]] = {
    "answers": answers,
    "pairs": pairs,
    "rated": rated,
    "judged": judgements,
    "rollouts": rollouts,
    "heads": heads,
    "masked": masked,
}
