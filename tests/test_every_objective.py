"""Every registered objective keeps the contract that makes accumulation, packing and ranks unable to change a result.

To add one: an entry in CASES with the rows it is tested on and an independent reference, written from its paper with torch alone.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from burnish.models import Model, forward
from burnish.objectives import OBJECTIVES
from burnish.train import TaskLoss
from burnish.types import Batch, Loss, Sequence
from loop import assert_same_gradients, cut, eight_sequences, loss_and_gradient, restore, run, snapshot
from preference_cases import (
    apo_loss,
    cpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    over_pairs,
    over_rated,
    pair_units,
    rated_units,
    simpo_loss,
)
from stub import load_stub

Units = list[list[Sequence]]


@dataclasses.dataclass(frozen=True)
class Case:
    """Rows for the stub, options, the learning rate at which the loss falls by half in 30 steps, and the loss from its paper."""

    units: Callable[[Model], Units]
    reference: Callable[[Any, list[Sequence]], torch.Tensor]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 5e-3


def likelihood_reference(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """Cross-entropy of the whole sequence against shifted labels, weighted, divided by the sum of weights (InstructGPT, section 3.5)."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        labels_T, weight_T = torch.full((part.length,), -100), torch.zeros(part.length)
        labels_T[part.at_N + 1] = torch.as_tensor(part.target_N).long()
        weight_T[part.at_N + 1] = torch.as_tensor(part.weight_N)
        logits_TV = network(input_ids=torch.as_tensor(part.tokens_T).long()[None], use_cache=False).logits[0]
        nll_T = torch.nn.functional.cross_entropy(logits_TV[:-1], labels_T[1:], ignore_index=-100, reduction="none")
        total, weight = total + (nll_T * weight_T[1:]).sum(), weight + weight_T.sum()
    return total / weight


CASES: dict[str, Case] = {
    "sft": Case(eight_sequences, likelihood_reference),
    "dpo": Case(pair_units, over_pairs(dpo_loss(0.2), nll=0.1), {"beta": 0.2, "sft_weight": 0.1}),
    "ipo": Case(pair_units, over_pairs(ipo_loss(0.25)), {"beta": 0.25}),
    "simpo": Case(pair_units, over_pairs(simpo_loss(2.5, 1.0)), {"beta": 2.5, "gamma_ratio": 0.4}),
    "orpo": Case(pair_units, over_pairs(orpo_loss(0.3), nll=1.0), {"odds_weight": 0.3}),
    "cpo": Case(pair_units, over_pairs(cpo_loss(0.2, 0.05), nll=0.7), {"beta": 0.2, "label_smoothing": 0.05, "nll_weight": 0.7}),
    "apo": Case(pair_units, over_pairs(apo_loss(0.2, "zero")), {"beta": 0.2}),
    "kto": Case(
        rated_units,
        over_rated(kto_loss(0.2, 0.8, 1.2)),
        {"beta": 0.2, "desirable_weight": 0.8, "undesirable_weight": 1.2},
    ),
}

every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def test_every_objective_has_a_case() -> None:
    assert CASES.keys() == OBJECTIVES.keys(), "register its rows and its independent reference in CASES"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("objectives"))


@pytest.fixture
def model(loaded: Model) -> Iterator[Model]:
    before = snapshot(loaded)
    loaded.network.requires_grad_(True)
    yield loaded
    loaded.network.zero_grad(set_to_none=True)
    loaded.network.requires_grad_(False)
    restore(loaded, before)


def task(name: str) -> dict[str, TaskLoss]:
    return {"main": TaskLoss(OBJECTIVES[name], CASES[name].options)}


def loss_of(name: str, model: Model, batch: Batch) -> Loss:
    objective = OBJECTIVES[name]
    return objective.function(forward(model, batch, objective.needs), batch, **CASES[name].options)


@every_objective
@pytest.mark.parametrize("tokens", [32, 90, 200])
def test_split_batch_equals_whole_batch(name: str, model: Model, tokens: int) -> None:
    """In loss, gradient and every metric (pain 25)."""
    if not OBJECTIVES[name].additive:
        pytest.skip(f"{name} is no sum over groups; the loop refuses to accumulate it")
    units = CASES[name].units(model)
    whole, expected = loss_and_gradient(model, cut(units, 10**9), tasks=task(name))
    split, found = loss_and_gradient(model, cut(units, tokens), tasks=task(name))
    assert split.losses == pytest.approx(whole.losses, rel=1e-5)
    assert split.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert_same_gradients(found, expected)


@every_objective
def test_padded_equals_packed(name: str, model: Model) -> None:
    units = CASES[name].units(model)
    padded, expected = loss_and_gradient(model, cut(units, 10**9), tasks=task(name))
    packed, found = loss_and_gradient(model, cut(units, 10**9, packing=True), tasks=task(name))
    assert packed.losses == pytest.approx(padded.losses, rel=1e-5)
    assert packed.metrics == pytest.approx(padded.metrics, rel=1e-5)
    assert_same_gradients(found, expected)


@every_objective
def test_the_order_of_rows_changes_nothing(name: str, model: Model) -> None:
    units = CASES[name].units(model)
    forwards, expected = loss_and_gradient(model, cut(units, 90), tasks=task(name))
    backwards, found = loss_and_gradient(model, cut(units[::-1], 90), tasks=task(name))
    assert backwards.losses == pytest.approx(forwards.losses, rel=1e-5)
    assert_same_gradients(found, expected)


@every_objective
def test_readouts_of_zero_weight_change_nothing(name: str, model: Model) -> None:
    """Reading more places with weight 0, with targets and streams that say nonsense, is as good as not reading them."""
    units = CASES[name].units(model)
    before, expected = loss_and_gradient(model, cut(units, 90), tasks=task(name))
    after, found = loss_and_gradient(
        model, cut([[with_silent_readouts(part) for part in unit] for unit in units], 90), tasks=task(name)
    )
    assert after.losses == pytest.approx(before.losses, rel=1e-6)
    assert_same_gradients(found, expected)


def with_silent_readouts(part: Sequence) -> Sequence:
    """Return the sequence with a read-out of weight 0 at every place that has none."""
    import numpy as np

    free = np.setdiff1d(np.arange(part.length - 1), part.at_N).astype(np.int32)
    order = np.argsort(np.concatenate([part.at_N, free]), kind="stable")

    def widened(values: Any, filler: Any) -> Any:  # streams are [N] or [N, K]
        return np.concatenate([values, np.full((len(free), *values.shape[1:]), filler, dtype=values.dtype)])[order]

    return dataclasses.replace(
        part,
        at_N=np.concatenate([part.at_N, free])[order],
        target_N=widened(part.target_N, 3),
        weight_N=widened(part.weight_N, 0.0),
        streams={key: widened(values, 7.0) for key, values in part.streams.items()},
    )


@every_objective
def test_the_loss_on_eight_rows_falls_by_half(name: str, model: Model) -> None:
    case = CASES[name]
    steps = run(model, cut(case.units(model), 128), steps=30, rate=case.rate, tasks=task(name))
    first, last = (sum(step.losses.values()) for step in (steps[0], steps[-1]))
    assert last < 0.5 * first


@every_objective
def test_equals_its_independent_reference(name: str, model: Model) -> None:
    """In value and in gradient."""
    case = CASES[name]
    units = case.units(model)
    step, found = loss_and_gradient(model, cut(units, 90), tasks=task(name))
    named = dict(model.network.named_parameters())
    expected = case.reference(model.network, [part for unit in units for part in unit])
    gradients = torch.autograd.grad(expected, list(named.values()), allow_unused=True)
    assert sum(step.losses.values()) == pytest.approx(expected.item(), rel=1e-5)
    filled = {key: torch.zeros_like(named[key]) if part is None else part for key, part in zip(named, gradients, strict=True)}
    assert_same_gradients(found, filled)


@every_objective
def test_it_returns_sums_and_says_their_counts_beforehand(name: str, model: Model) -> None:
    """Every row twice doubles each term and each count; the counts need no forward pass and carry no gradient."""
    objective, case = OBJECTIVES[name], CASES[name]
    units = case.units(model)
    once, twice = cut(units, 10**9)[0], cut(units * 2, 10**9)[0]
    for batch, factor in ((once, 1.0), (twice, 2.0)):
        loss, counts = loss_of(name, model, batch), objective.counts(batch, **case.options)
        assert loss.terms.keys() == counts.keys() == set(objective.terms)
        assert loss.metrics.keys() == set(objective.metrics)
        for term in objective.terms:
            assert loss.terms[term].shape == counts[term].shape == ()
            assert not counts[term].requires_grad
            reference = loss_of(name, model, once).terms[term], objective.counts(once, **case.options)[term]
            torch.testing.assert_close(loss.terms[term], factor * reference[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(counts[term], factor * reference[1])


@every_objective
def test_it_declares_what_it_is(name: str) -> None:
    """What `burnish ls` shows, where the formula comes from, options that are keyword parameters with defaults."""
    objective = OBJECTIVES[name]
    text = inspect.getdoc(objective.function) or ""
    assert len(text.split("\n\n")[0]) > 20 and "Source:" in text
    assert set(objective.needs) <= {"logprobs", "entropy", "candidates", "values", "scores"} and objective.reads and objective.terms
    options = list(inspect.signature(objective.function).parameters.values())[2:]
    assert all(
        option.kind is inspect.Parameter.KEYWORD_ONLY and option.default is not inspect.Parameter.empty for option in options
    )
    assert [option.name for option in options] == list(inspect.signature(objective.counts).parameters)[1:]
