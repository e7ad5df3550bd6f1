"""The losses of heads: rows for each, references from the ecosystem's own classes and plain torch, and options held against torch's.

What holds for every objective is tested with these rows in `test_every_objective`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.dialog import Frame
from burnish.data.render_heads import HeadRenderer, spec_for
from burnish.models import Model, load_model
from burnish.objectives.labels import CLASSIFICATION, NER, QA, REGRESSION
from burnish.types import Answerable, Example, Labelled, Objective, Origin, Outputs, Sequence, Span, Tagged, content
from stub import cpu, make_stub, stub_tokenizer

PLACES = ("lake", "hill", "old mill", "harbour", "square", "north gate", "bakery", "river")


def origin(line: int) -> Origin:
    return Origin("rows.jsonl", line)


def labelled_rows() -> list[Example]:
    return [
        Labelled(content=content(f"at the {place} " * (1 + n % 3)), labels=(("wet", "dry", "town")[n % 3],), origin=origin(n))
        for n, place in enumerate(PLACES)
    ]


def several_rows() -> list[Example]:
    sets: tuple[tuple[str, ...], ...] = (("wet",), ("dry", "town"), (), ("wet", "dry", "town"))
    return [
        Labelled(content=content(f"at the {place} " * (1 + n % 3)), labels=sets[n % 4], several=True, origin=origin(n))
        for n, place in enumerate(PLACES)
    ]


def number_rows() -> list[Example]:
    return [
        Labelled(content=content(f"at the {place} " * (1 + n % 3)), number=10.0 + 5 * n, origin=origin(n))
        for n, place in enumerate(PLACES)
    ]


def tagged_rows(*, overlapping: bool = False) -> list[Example]:
    """Return texts with a place and a day; where `overlapping`, the whole phrase is a span of a third type too."""
    rows = []
    for n, place in enumerate(PLACES):
        text = f"we met at the {place} on Friday" + " again" * (n % 3)
        start, day = text.index(place), text.index("Friday")
        spans = [Span(start, start + len(place), "place"), Span(day, day + 6, "day")]
        spans += [Span(start, day + 6, "phrase")] if overlapping else []
        rows.append(Tagged(content=content(text), spans=tuple(sorted(spans)), origin=origin(n)))
    return rows


def asked_rows() -> list[Example]:
    """Return questions, every fourth without an answer."""
    rows = []
    for n, place in enumerate(PLACES):
        context = f"In May we saw the {place}." + " It rained there." * (n % 2)
        answers = () if n % 4 == 3 else ((context.index(place), place),)
        rows.append(Answerable(question="what did we see?", context=context, answers=answers, origin=origin(n)))
    return rows


def classified(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """The class's own loss on each row alone, weighted by hand: what Hugging Face computes from labels."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        label = next((name for name in ("classes", "number") if name in part.streams), None)
        labels: Any = torch.as_tensor(part.streams[label] if label else part.target_N)
        labels = labels.long() if label is None else labels
        ids = torch.as_tensor(part.tokens_T).long()[None]
        total = total + network(input_ids=ids, labels=labels).loss * float(part.weight_N[0])
        weight = weight + float(part.weight_N[0])
    return total / weight


def tagged_by_class(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """The class's own loss (flat), or plain cross-entropy of each layer, over the tokens of each row, weighted by hand."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        ids = torch.as_tensor(part.tokens_T).long()[None]
        at_N = torch.as_tensor(part.at_N).long()
        if "tags" not in part.streams:
            labels_BT = torch.full(ids.shape, -100)
            labels_BT[0, at_N] = torch.as_tensor(part.target_N).long()
            mean = network(input_ids=ids, labels=labels_BT).loss
        else:
            probabilities = network(input_ids=ids).logits[0, at_N].reshape(len(at_N), -1, 3).softmax(-1)
            tags = torch.as_tensor(part.streams["tags"]).long()
            mean = -probabilities.gather(-1, tags[..., None]).log().sum() / len(at_N)
        total, weight = total + mean * float(part.weight_N.sum()), weight + float(part.weight_N.sum())
    return total / weight


def answered(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """Negative log of the right start's and end's probability among the places that may be answers (Devlin et al. 2018, 4.2)."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        found = network(input_ids=torch.as_tensor(part.tokens_T).long()[None])
        at_N = torch.as_tensor(part.at_N).long()
        for logits, name in ((found.start_logits, "start"), (found.end_logits, "end")):
            right = torch.as_tensor(part.streams[name])
            total = total - 0.5 * float(part.weight_N[0]) * (right * logits[0, at_N].softmax(-1).log()).sum()
        weight = weight + float(part.weight_N[0])
    return total / weight


@dataclasses.dataclass(frozen=True)
class Case:
    objective: Objective
    rows: Callable[[], list[Example]]
    kind: Any
    reference: Callable[[Any, list[Sequence]], torch.Tensor]

    def model(self, folder: Path) -> Model:
        """Return the stub with the head that these rows need, the same each time."""
        place = make_stub(folder / "stub")
        spec = spec_for(self.kind, self.rows(), stub_tokenizer())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return load_model(str(place), cpu(), head=spec)

    def units(self, model: Model) -> list[list[Sequence]]:
        """Return the rows rendered, with weights that differ from row to row."""
        assert model.spec is not None
        render = HeadRenderer(model.tokenizer, 512, Frame(), model.spec, encoder=False)
        units = [render.sequences(row) for row in self.rows()]
        for number, parts in enumerate(units):
            for part in parts:
                part.weight_N[:] *= np.float32(0.5 + 0.25 * (number % 4))
        return units


CASES: dict[str, Case] = {
    "classification": Case(CLASSIFICATION, labelled_rows, "sequence", classified),
    "several": Case(CLASSIFICATION, several_rows, "sequence", classified),
    "regression": Case(REGRESSION, number_rows, "sequence", classified),
    "ner": Case(NER, tagged_rows, "token", tagged_by_class),
    "ner_layers": Case(NER, lambda: tagged_rows(overlapping=True), "token", tagged_by_class),
    "qa": Case(QA, asked_rows, "span", answered),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_that_of_torch(smoothing: float) -> None:
    scores_NC, target_N, weight_N = drawn(3)
    batch: Any = SimpleNamespace(target_N=target_N, weight_N=weight_N, streams={})
    loss = CLASSIFICATION.function(Outputs(scores_NC=scores_NC), batch, label_smoothing=smoothing)
    expected = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)(scores_NC, target_N) * weight_N
    torch.testing.assert_close(loss.terms["nll"], expected.sum())


@pytest.mark.parametrize("huber", [0.3, 1.0])
def test_huber_is_that_of_torch(huber: float) -> None:
    scores_NC, target_N, weight_N = drawn(1)
    number_N = target_N - 1.0
    batch: Any = SimpleNamespace(weight_N=weight_N, streams={"number": number_N})
    loss = REGRESSION.function(Outputs(scores_NC=scores_NC), batch, huber=huber)
    expected = torch.nn.HuberLoss(reduction="none", delta=huber)(scores_NC[:, 0], number_N) * weight_N
    torch.testing.assert_close(loss.terms["error"], expected.sum())


def drawn(classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return scores of twelve rows, on both sides of a Huber loss's bend, with targets among three and unequal weights."""
    scores_NC = 2 * torch.randn(12, classes, generator=torch.Generator().manual_seed(0))
    return scores_NC, torch.arange(12) % 3, 0.5 + 0.25 * (torch.arange(12) % 4)
