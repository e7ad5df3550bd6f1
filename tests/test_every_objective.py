"""Every registered objective keeps the contract that makes accumulation, packing and ranks unable to change a result.

To add one: an entry in CASES with the rows it is tested on and an independent reference, written from its paper with torch alone. A
further entry, its name followed by a word, tests options that change the formula.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import policy_cases as policy
from burnish.data.batching import collate, cut_units
from burnish.data.dialog import Frame
from burnish.data.render_heads import MASKED, HeadRenderer
from burnish.data.render_masked import masking
from burnish.models import Model, forward, load_model
from burnish.objectives import OBJECTIVES
from burnish.train import TaskLoss
from burnish.types import Batch, Loss, Objective, Origin, Sequence, Text
from loop import PLACES, assert_same_gradients, eight_sequences, loss_and_gradient, restore, run, snapshot
from preference_cases import (
    apo_loss,
    cpo_loss,
    dpo_loss,
    ipo_loss,
    judged_units,
    kto_loss,
    orpo_loss,
    over_pairs,
    over_rated,
    pair_units,
    rated_units,
    reward_loss,
    reward_model,
    simpo_loss,
    with_made_reference,
)
from stub import cpu, load_stub
from test_encoders import make_encoder
from test_labels_objectives import CASES as LABELS

Units = list[list[Sequence]]


@dataclasses.dataclass(frozen=True)
class Case:
    """Rows, options, the loss from its paper, and what learning them means.

    In 30 steps at `rate` the loss goes half of the way to `least`, the lowest that it could become on these rows: 0, but for policies.
    `rises` is a metric that must be higher at the end. `model` is made once per module, for all cases that name it.
    """

    units: Callable[[Model], Units]
    reference: Callable[[Any, list[Sequence]], torch.Tensor]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 5e-3
    least: Callable[[list[Sequence]], float] = lambda parts: 0.0
    rises: str | None = None
    model: Callable[[Path], Model] = load_stub


# ------------------------------------------------------------------------------------------------------------ likelihood, masks, heads


def likelihood_reference(network: Any, parts: list[Sequence], *, kl: float = 0.0) -> torch.Tensor:
    """Cross-entropy of the whole sequence against shifted labels, weighted, divided by the sum of weights (InstructGPT, section 3.5).

    Plus `kl` times k3 of the reference's probability q to the model's p, q / p - 1 - log(q / p) (Schulman 2020).
    """
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        labels_T, weight_T, apart_T = torch.full((part.length,), -100), torch.zeros(part.length), torch.zeros(part.length)
        labels_T[part.at_N + 1] = torch.as_tensor(part.target_N).long()
        weight_T[part.at_N + 1] = torch.as_tensor(part.weight_N)
        logits_TV = network(input_ids=torch.as_tensor(part.tokens_T).long()[None], use_cache=False).logits[0]
        loss_T = torch.nn.functional.cross_entropy(logits_TV[:-1], labels_T[1:], ignore_index=-100, reduction="none")
        if kl:
            apart_T[part.at_N + 1] = torch.as_tensor(part.streams["reference"])
            ratio_T = (apart_T[1:] + loss_T).exp()
            loss_T = loss_T + kl * (ratio_T - 1 - ratio_T.log())
        total, weight = total + (loss_T * weight_T[1:]).sum(), weight + weight_T.sum()
    return total / weight


def likelihood_with_reference(network: Any, parts: list[Sequence]) -> torch.Tensor:
    return likelihood_reference(network, parts, kl=0.3)


def sequences_with_reference(model: Model) -> Units:
    units = eight_sequences(model)
    return [[with_made_reference(part, number) for part in unit] for number, unit in enumerate(units)]


def encoder(folder: Path) -> Model:
    return load_model(str(make_encoder(folder / "bert")), cpu(), head=MASKED)


def masked_units(model: Model) -> Units:
    """Return eight texts with tokens masked once and for all, and weights that differ from row to row."""
    assert model.spec is not None
    render, change = HeadRenderer(model.tokenizer, 64, Frame(), model.spec, encoder=True), masking(model.tokenizer, 0, share=0.3)
    texts = [f"the river runs past the {place} " + "and the mill " * (number % 3) for number, place in enumerate(PLACES)]
    units = [
        change(render.sequences(Text(text=text, origin=Origin("a.txt", number))), number, 0) for number, text in enumerate(texts)
    ]
    for number, unit in enumerate(units):
        for part in unit:
            part.weight_N[:] *= np.float32(0.5 + 0.25 * (number % 4))
    return units


def masked_reference(network: Any, parts: list[Sequence]) -> torch.Tensor:
    """Cross-entropy against labels that are there only at the masked places, each row alone (BERT, section 3.1)."""
    total, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        labels_T, weight_T = torch.full((part.length,), -100), torch.zeros(part.length)
        labels_T[part.at_N] = torch.as_tensor(part.target_N).long()
        weight_T[part.at_N] = torch.as_tensor(part.weight_N)
        logits_TV = network(input_ids=torch.as_tensor(part.tokens_T).long()[None]).logits[0]
        nll_T = torch.nn.functional.cross_entropy(logits_TV, labels_T, ignore_index=-100, reduction="none")
        total, weight = total + (nll_T * weight_T).sum(), weight + weight_T.sum()
    return total / weight


def of_labels(name: str, *, rises: str | None) -> Case:
    """Return the case of a head on the rows of `test_labels_objectives`."""
    case = LABELS[name]
    return Case(case.units, case.reference, rate=3e-3, rises=rises, model=case.model)


def of_policy(how: str, low: float, high: float, *, beta: float = 0.0, longest: int = 1, **options: Any) -> Case:
    """Return a case of GRPO, with its options beside the clips and constants that they stand for."""
    return Case(
        policy.sampled_units,
        policy.grpo_loss(how, low, high, beta=beta, longest=longest),
        options,
        least=policy.lowest_policy(how, low, high, longest=longest),
    )


CASES: dict[str, Case] = {
    "sft": Case(eight_sequences, likelihood_reference),
    "sft kl": Case(sequences_with_reference, likelihood_with_reference, {"kl": 0.3}),
    "mlm": Case(masked_units, masked_reference, model=encoder),
    "classification": of_labels("classification", rises="accuracy"),
    "classification several": of_labels("several", rises="accuracy"),
    "regression": of_labels("regression", rises=None),
    "ner": of_labels("ner", rises="accuracy"),
    "ner layers": of_labels("ner_layers", rises="accuracy"),
    "qa": of_labels("qa", rises="exact"),
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
    "reward": Case(judged_units, reward_loss("thumbs", 0.01), {"centre": 0.01}, rises="margin", model=reward_model),
    "reward numbers": Case(
        judged_units, reward_loss("numbers", 0.1), {"ratings": "numbers", "centre": 0.1}, rises="margin", model=reward_model
    ),
    "grpo": of_policy("grpo", 0.2, 0.2),
    "grpo kl": of_policy("grpo", 0.1, 0.3, beta=0.5, clip=0.1, clip_high=0.3, kl=0.5),
    "grpo dr_grpo": of_policy("dr_grpo", 0.2, 0.2, beta=0.1, longest=16, variant="dr_grpo", longest_answer=16, kl=0.1),
    "grpo dapo": of_policy("dapo", 0.2, 0.28, variant="dapo"),
    "grpo gspo": of_policy("gspo", 3e-4, 4e-4, beta=0.1, variant="gspo", kl=0.1),
    "grpo gspo_wide": of_policy("gspo", 0.1, 0.1, variant="gspo", clip=0.1),
    "rloo": Case(policy.sampled_units, policy.rloo_loss, least=policy.lowest_policy("grpo", 0.2, 0.2)),
    "reinforce": Case(policy.tokenwise_units, policy.tokens_loss, least=policy.lowest_policy("tokens", 0.2, 0.2)),
    "ppo": Case(
        policy.tokenwise_units,
        policy.ppo_loss,
        {"entropy_weight": 0.01},
        least=policy.lowest_ppo,
        model=policy.with_value_head,
    ),
    "distill": Case(policy.taught_units, policy.distill_loss("forward"), rises="agreement"),
    "distill reverse": Case(
        policy.taught_units,
        policy.distill_loss("reverse", temperature=2.0),
        {"direction": "reverse", "temperature": 2.0},
        rises="agreement",
    ),
    "distill js": Case(
        policy.taught_units, policy.distill_loss("js", beta=0.3, hard=0.25), {"direction": "js", "beta": 0.3, "hard": 0.25}
    ),
}

every_case = pytest.mark.parametrize("name", CASES)
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def objective_of(name: str) -> Objective:
    return OBJECTIVES[name.split()[0]]


def test_every_objective_has_a_case() -> None:
    assert {name for name in CASES if " " not in name} == OBJECTIVES.keys(), "register its rows and its independent reference"
    assert {name.split()[0] for name in CASES} == OBJECTIVES.keys()


# ------------------------------------------------------------------------------------------------------------------ models and batches


@dataclasses.dataclass(frozen=True)
class Ready:
    """A case with its model, and its rows rendered."""

    name: str
    case: Case
    model: Model
    units: Units

    @property
    def objective(self) -> Objective:
        return objective_of(self.name)

    @property
    def tasks(self) -> dict[str, TaskLoss]:
        return {"main": TaskLoss(self.objective, self.case.options)}

    @property
    def parts(self) -> list[Sequence]:
        return [part for unit in self.units for part in unit]

    def cut(self, tokens: int, *, packing: bool = False, shared: bool = False, units: Units | None = None) -> list[Batch]:
        """Return micro-batches of all units, or of others in their place."""
        found = cut_units([list(unit) for unit in units or self.units], tokens, packing=packing, shared=shared)
        pad_id, mask = self.model.pad_id(), self.model.encoder
        return [collate(part, packing=packing, shared=shared, pad_id=pad_id, device="cpu", mask=mask) for part in found]

    def step(self, batches: list[Batch]) -> tuple[dict[str, float], dict[str, float], dict[str, torch.Tensor]]:
        """Return losses, metrics and gradient of one step of the loop."""
        step, gradient = loss_and_gradient(self.model, batches, tasks=self.tasks)
        return dict(step.losses), dict(step.metrics), gradient

    def loss_of(self, batch: Batch) -> Loss:
        return self.objective.function(forward(self.model, batch, self.objective.needs), batch, **self.case.options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ready]:
    """Return a function that makes each model and each case's rows once."""
    models: dict[Any, Model] = {}
    cases: dict[str, Ready] = {}

    def make(name: str) -> Ready:
        if name not in cases:
            case = CASES[name]
            if case.model not in models:
                models[case.model] = case.model(tmp_path_factory.mktemp("objectives"))
                models[case.model].network.requires_grad_(True)
            cases[name] = Ready(name, case, models[case.model], case.units(models[case.model]))
        return cases[name]

    return make


@pytest.fixture
def ready(name: str, made: Callable[[str], Ready]) -> Iterator[Ready]:
    found = made(name)
    before = snapshot(found.model)
    yield found
    found.model.network.zero_grad(set_to_none=True)
    restore(found.model, before)


def close(expected: dict[str, float], *, tolerance: float = 1e-5) -> Any:
    """Advantages have both signs: what cancels in a sum is compared to a millionth, which is below the tolerance of all else."""
    return pytest.approx(expected, rel=tolerance, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------------------- properties


@every_case
@pytest.mark.parametrize("tokens", [32, 90, 200])
def test_split_batch_equals_whole_batch(ready: Ready, tokens: int) -> None:
    """In loss, gradient and every metric (pain 25)."""
    if not ready.objective.additive:
        pytest.skip(f"{ready.name} is no sum over groups; the loop refuses to accumulate it")
    batches = ready.cut(tokens)
    assert len(batches) > 1 or tokens > 90
    losses, metrics, expected = ready.step(ready.cut(10**9))
    split_losses, split_metrics, found = ready.step(batches)
    assert split_losses == close(losses)
    assert split_metrics == close(metrics)
    assert_same_gradients(found, expected)


@every_case
@pytest.mark.parametrize("layout", ["packed", "shared"])
def test_padded_equals_packed_and_shared(ready: Ready, layout: str) -> None:
    """A pain below the line, packing: with packing the loss is 0. In the shared layout a group's common prefix stands once."""
    if ready.model.encoder:
        pytest.skip("packed rows would see each other in an encoder; that it is refused is tested in test_encoders")
    losses, metrics, expected = ready.step(ready.cut(10**9))
    for tokens in (90, 10**9):
        packed_losses, packed_metrics, found = ready.step(ready.cut(tokens, packing=layout == "packed", shared=layout == "shared"))
        assert packed_losses == close(losses)
        assert packed_metrics == close(metrics)
        assert_same_gradients(found, expected)


@every_case
def test_the_order_of_rows_changes_nothing(ready: Ready) -> None:
    """Nor that of the sequences within a group."""
    losses, metrics, expected = ready.step(ready.cut(90))
    backwards = ready.cut(90, units=[unit[::-1] for unit in ready.units[::-1]])
    backwards_losses, backwards_metrics, found = ready.step(backwards)
    assert backwards_losses == close(losses)
    assert backwards_metrics == close(metrics)
    assert_same_gradients(found, expected)


@every_case
def test_readouts_of_zero_weight_change_nothing(ready: Ready) -> None:
    """Reading more places with weight 0, with targets that say nonsense and streams that are no numbers, is as good as not reading them."""
    losses, metrics, expected = ready.step(ready.cut(90))
    silent = [[with_silent_readouts(part) for part in unit] for unit in ready.units]
    silent_losses, silent_metrics, found = ready.step(ready.cut(90, units=silent))
    assert silent_losses == close(losses, tolerance=1e-6)
    assert silent_metrics == close(metrics, tolerance=1e-6)
    assert_same_gradients(found, expected)


def with_silent_readouts(part: Sequence) -> Sequence:
    """Return the sequence with a read-out of weight 0 at every place but the last, also beside those that it has."""
    places = np.arange(part.length - 1, dtype=part.at_N.dtype)
    order = np.argsort(np.concatenate([places, part.at_N]), kind="stable")

    def widened(values: Any, filler: float) -> Any:  # streams are [N] or [N, K]
        return np.concatenate([np.full((len(places), *values.shape[1:]), filler, dtype=values.dtype), values])[order]

    return dataclasses.replace(
        part,
        at_N=np.concatenate([places, part.at_N])[order],
        target_N=widened(part.target_N, 99),
        weight_N=widened(part.weight_N, 0.0),
        streams={key: widened(values, 7 if values.dtype.kind == "i" else np.nan) for key, values in part.streams.items()},
    )


@every_case
def test_the_loss_on_eight_rows_falls_by_half(ready: Ready) -> None:
    """And a split batch has the metrics of a whole one then, too: many say nothing of a model that has learned nothing."""
    steps = run(ready.model, ready.cut(128), steps=30, rate=ready.case.rate, tasks=ready.tasks)
    first, last = (sum(step.losses.values()) - ready.case.least(ready.parts) for step in (steps[0], steps[-1]))
    assert -1e-5 < last < 0.5 * first, "below 0: what the case calls the lowest is not"
    if ready.case.rises is not None:
        assert steps[-1].metrics[ready.case.rises] > steps[0].metrics[ready.case.rises]
    if ready.objective.additive:
        assert ready.step(ready.cut(32))[1] == close(ready.step(ready.cut(10**9))[1], tolerance=1e-4)


@every_case
def test_equals_its_independent_reference(ready: Ready) -> None:
    """In value and in gradient (pain 13)."""
    losses, _, found = ready.step(ready.cut(90))
    named = dict(ready.model.network.named_parameters())
    expected = ready.case.reference(ready.model.network, ready.parts)
    gradients = torch.autograd.grad(expected, list(named.values()), allow_unused=True)
    assert sum(losses.values()) == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    filled = {key: torch.zeros_like(named[key]) if part is None else part for key, part in zip(named, gradients, strict=True)}
    assert max(part.abs().max() for part in filled.values()) > 1e-3, "a reference without a gradient would prove nothing"
    assert_same_gradients(found, filled)


@every_case
def test_it_returns_sums_and_says_their_counts_beforehand(ready: Ready) -> None:
    """Every row twice doubles each term and each count; the counts need no forward pass and carry no gradient."""
    objective, options = ready.objective, ready.case.options
    (once,), (twice,) = ready.cut(10**9), ready.cut(10**9, units=ready.units * 2)
    assert set(objective.reads_streams(options)) <= once.streams.keys()
    reference, reference_counts = ready.loss_of(once), objective.counts(once, **options)
    assert any(count > 0 for count in reference_counts.values())
    for batch, factor in ((once, 1.0), (twice, 2.0)):
        loss, counts = ready.loss_of(batch), objective.counts(batch, **options)
        assert loss.terms.keys() == counts.keys() == set(objective.terms)
        assert loss.metrics.keys() == set(objective.metrics)
        for term in objective.terms:
            assert loss.terms[term].shape == counts[term].shape == ()
            assert not counts[term].requires_grad
            torch.testing.assert_close(loss.terms[term], factor * reference.terms[term], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(counts[term], factor * reference_counts[term])


@every_objective
def test_it_declares_what_it_is(name: str) -> None:
    """What `burnish ls` shows, where the formula comes from, options that are keyword parameters with defaults, the same everywhere."""
    objective = OBJECTIVES[name]
    text = inspect.getdoc(objective.function) or ""
    assert len(text.split("\n\n")[0]) > 20 and "Source:" in text
    assert set(objective.needs) <= {"logprobs", "entropy", "candidates", "values", "scores"} and objective.reads and objective.terms
    assert (objective.head not in (None, "masked")) == ("scores" in objective.needs)
    options = list(inspect.signature(objective.function).parameters.values())[2:]
    assert all(
        option.kind is inspect.Parameter.KEYWORD_ONLY and option.default is not inspect.Parameter.empty for option in options
    )
    assert options == list(inspect.signature(objective.counts).parameters.values())[1:]
    defaults = {option.name: option.default for option in options}
    assert objective.reads_streams(defaults) == objective.reads_streams({}), "streams take every option, with the same defaults"
    if callable(objective.streams):
        read = [
            option for option in inspect.signature(objective.streams).parameters.values() if option.kind is not option.VAR_KEYWORD
        ]
        assert all(option in options for option in read)
