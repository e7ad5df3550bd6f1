"""The losses of heads: sums that no cut of a step can change, and the values of the ecosystem's own classes and of plain torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.data.dialog import Frame
from burnish.data.render_heads import HeadRenderer, HeadSpec, spec_for
from burnish.models import Model, forward, load_model
from burnish.objectives.labels import CLASSIFICATION, NER, QA, REGRESSION
from burnish.train import TaskLoss
from burnish.types import Answerable, Example, Labelled, Objective, Origin, Outputs, Sequence, Span, Tagged, content
from loop import assert_same_gradients, cut, loss_and_gradient, restore, run, snapshot
from stub import cpu, make_stub

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


def classified(network: Any, parts: list[Sequence], spec: HeadSpec) -> torch.Tensor:
    """The class's own loss on each row alone, weighted by hand: what Hugging Face computes from labels."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        label = {"several": "classes", "number": "number"}.get(spec.problem)
        labels: Any = torch.as_tensor(part.streams[label] if label else part.target_N)
        labels = labels.long() if label is None else labels
        ids = torch.as_tensor(part.tokens_T).long()[None]
        total = total + network(input_ids=ids, labels=labels).loss * float(part.weight_N[0])
        weight = weight + float(part.weight_N[0])
    return total / weight


def tagged_by_class(network: Any, parts: list[Sequence], spec: HeadSpec) -> torch.Tensor:
    """The class's own loss (flat), or plain cross-entropy of each layer, over the tokens of each row, weighted by hand."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        ids = torch.as_tensor(part.tokens_T).long()[None]
        at_N = torch.as_tensor(part.at_N).long()
        if spec.problem == "flat":
            labels_BT = torch.full(ids.shape, -100)
            labels_BT[0, at_N] = torch.as_tensor(part.target_N).long()
            mean = network(input_ids=ids, labels=labels_BT).loss
        else:
            probabilities = network(input_ids=ids).logits[0, at_N].reshape(len(at_N), -1, 3).softmax(-1)
            tags = torch.as_tensor(part.streams["tags"]).long()
            mean = -probabilities.gather(-1, tags[..., None]).log().sum() / len(at_N)
        total, weight = total + mean * float(part.weight_N.sum()), weight + float(part.weight_N.sum())
    return total / weight


def answered(network: Any, parts: list[Sequence], spec: HeadSpec) -> torch.Tensor:
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
    reference: Callable[[Any, list[Sequence], HeadSpec], torch.Tensor]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


CASES: dict[str, Case] = {
    "classification": Case(CLASSIFICATION, labelled_rows, "sequence", classified),
    "several": Case(CLASSIFICATION, several_rows, "sequence", classified),
    "regression": Case(REGRESSION, number_rows, "sequence", classified),
    "ner": Case(NER, tagged_rows, "token", tagged_by_class),
    "ner_layers": Case(NER, lambda: tagged_rows(overlapping=True), "token", tagged_by_class),
    "qa": Case(QA, asked_rows, "span", answered),
}
every = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("labels") / "stub")


@dataclasses.dataclass(frozen=True)
class Ready:
    model: Model
    spec: HeadSpec
    units: list[list[Sequence]]
    tasks: dict[str, TaskLoss]
    case: Case


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, Ready]:
    made = {}
    for name, case in CASES.items():
        tokenizer = load_model(str(folder), cpu()).tokenizer if not made else next(iter(made.values())).model.tokenizer
        spec = spec_for(case.kind, case.rows(), tokenizer)
        torch.manual_seed(1)
        model = load_model(str(folder), cpu(), head=spec)
        model.network.requires_grad_(True)
        render = HeadRenderer(model.tokenizer, 512, Frame(), spec, encoder=False)
        units = [render.sequences(row) for row in case.rows()]
        for number, parts in enumerate(units):
            for part in parts:
                part.weight_N[:] *= np.float32(0.5 + 0.25 * (number % 4))
        made[name] = Ready(model, spec, units, {"main": TaskLoss(case.objective, case.options)}, case)
    return made


@pytest.fixture
def ready(name: str, loaded: dict[str, Ready]) -> Iterator[Ready]:
    before = snapshot(loaded[name].model)
    yield loaded[name]
    loaded[name].model.network.zero_grad(set_to_none=True)
    restore(loaded[name].model, before)


@every
def test_split_equals_whole_and_padded_equals_packed(name: str, ready: Ready) -> None:
    """In loss, gradient and every metric."""
    pad = ready.model.pad_id()
    whole, expected = loss_and_gradient(ready.model, cut(ready.units, 10**9, pad_id=pad), tasks=ready.tasks)
    for tokens, packing in ((40, False), (90, False), (10**9, True), (90, True)):
        batches = cut(ready.units, tokens, packing=packing, pad_id=pad)
        assert len(batches) > 1 or tokens > 90
        found, gradient = loss_and_gradient(ready.model, batches, tasks=ready.tasks)
        assert found.losses == pytest.approx(whole.losses, rel=1e-5)
        assert found.metrics == pytest.approx(whole.metrics, rel=1e-5)
        assert_same_gradients(gradient, expected)


@every
def test_equals_the_class_or_plain_torch(name: str, ready: Ready) -> None:
    """In value and in gradient."""
    step, found = loss_and_gradient(ready.model, cut(ready.units, 90, pad_id=ready.model.pad_id()), tasks=ready.tasks)
    named = dict(ready.model.network.named_parameters())
    expected = ready.case.reference(ready.model.network, [part for unit in ready.units for part in unit], ready.spec)
    gradients = torch.autograd.grad(expected, list(named.values()))
    assert sum(step.losses.values()) == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(found, dict(zip(named, gradients, strict=True)))


@every
def test_readouts_of_zero_weight_change_nothing(name: str, ready: Ready) -> None:
    """Read-outs with targets and streams that say nonsense, at every place, weigh nothing: neither in the loss nor in a metric."""

    def more(part: Sequence) -> Sequence:
        at_N = np.arange(part.length - 1, dtype=np.int32)
        extra = {
            key: np.full((len(at_N), *values.shape[1:]), 7, dtype=values.dtype)
            if len(values.shape) > 1
            else np.full(len(at_N), 7.0, np.float32)
            for key, values in part.streams.items()
        }
        return dataclasses.replace(
            part,
            at_N=np.concatenate([at_N, part.at_N]),
            target_N=np.concatenate([np.full(len(at_N), 99), part.target_N]),
            weight_N=np.concatenate([np.zeros(len(at_N), np.float32), part.weight_N]),
            streams={key: np.concatenate([extra[key], values]) for key, values in part.streams.items()},
        )

    pad = ready.model.pad_id()
    before, expected = loss_and_gradient(ready.model, cut(ready.units, 90, pad_id=pad), tasks=ready.tasks)
    units = [[more(part) for part in unit] for unit in ready.units]
    after, found = loss_and_gradient(ready.model, cut(units, 90, pad_id=pad), tasks=ready.tasks)
    assert after.losses == pytest.approx(before.losses, rel=1e-6)
    assert after.metrics == pytest.approx(before.metrics, rel=1e-6)
    assert_same_gradients(found, expected)


@every
def test_the_loss_on_eight_rows_falls_by_half(name: str, ready: Ready) -> None:
    steps = run(ready.model, cut(ready.units, 128, pad_id=ready.model.pad_id()), steps=30, rate=3e-3, tasks=ready.tasks)
    assert sum(steps[-1].losses.values()) < 0.5 * sum(steps[0].losses.values())
    right = {"classification": "accuracy", "several": "accuracy", "ner": "accuracy", "ner_layers": "accuracy", "qa": "exact"}
    if name in right:
        assert steps[-1].metrics[right[name]] > steps[0].metrics[right[name]]
    else:
        assert steps[-1].metrics["absolute_error"] < steps[0].metrics["absolute_error"]


@every
def test_it_returns_sums_and_says_their_counts_beforehand(name: str, ready: Ready) -> None:
    objective = ready.case.objective
    once, twice = (cut(units, 10**9, pad_id=ready.model.pad_id())[0] for units in (ready.units, ready.units * 2))
    first, second = (objective.function(forward(ready.model, batch, objective.needs), batch) for batch in (once, twice))
    assert first.terms.keys() == set(objective.terms) and first.metrics.keys() == set(objective.metrics)
    for term in objective.terms:
        torch.testing.assert_close(second.terms[term], 2 * first.terms[term], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(objective.counts(twice)[term], 2 * objective.counts(once)[term])
        assert not objective.counts(once)[term].requires_grad and first.terms[term].shape == ()


@pytest.mark.parametrize("name", ["classification"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_that_of_torch(name: str, ready: Ready, smoothing: float) -> None:
    batch = cut(ready.units, 10**9)[0]
    scores_NC = torch.randn(len(batch.at_N), 3, generator=torch.Generator().manual_seed(0))
    loss = CLASSIFICATION.function(Outputs(scores_NC=scores_NC), batch, label_smoothing=smoothing)
    expected = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)(scores_NC, batch.target_N) * batch.weight_N
    torch.testing.assert_close(loss.terms["nll"], expected.sum())


@pytest.mark.parametrize("name", ["regression"])
@pytest.mark.parametrize("huber", [0.3, 1.0])
def test_huber_is_that_of_torch(name: str, ready: Ready, huber: float) -> None:
    batch = cut(ready.units, 10**9)[0]
    scores_NC = 2 * torch.randn(len(batch.at_N), 1, generator=torch.Generator().manual_seed(0))
    loss = REGRESSION.function(Outputs(scores_NC=scores_NC), batch, huber=huber)
    expected = torch.nn.HuberLoss(reduction="none", delta=huber)(scores_NC[:, 0], batch.streams["number"]) * batch.weight_N
    torch.testing.assert_close(loss.terms["error"], expected.sum())
