"""THE loop: how a step is cut cannot change it, what is not finite is not applied, and it does what a plain PyTorch loop does."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from burnish.errors import RunError
from burnish.models import Model
from burnish.objectives import OBJECTIVES
from burnish.optim import Schedule, make_optimizer
from burnish.train import TaskLoss, train
from burnish.types import Batch, Loss, Objective, Outputs, Sequence
from loop import (
    assert_same_gradients,
    cut,
    eight_dialogs,
    eight_sequences,
    loss_and_gradient,
    moving,
    restore,
    run,
    snapshot,
)
from stub import load_stub

SFT = TaskLoss(OBJECTIVES["sft"])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("train"))


@pytest.fixture
def model(loaded: Model) -> Iterator[Model]:
    """The stub with every parameter moving, put back to what it was after each test."""
    before = snapshot(loaded)
    loaded.network.requires_grad_(True)
    yield loaded
    loaded.network.zero_grad(set_to_none=True)
    loaded.network.requires_grad_(False)
    restore(loaded, before)


# ----------------------------------------------------------------------------------------------------- how a step is cut is nothing


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("tokens", [32, 64, 150, 300, 10**9])
def test_split_batch_equals_whole_batch(model: Model, tokens: int, packing: bool) -> None:
    """The field's commonest bug, the mean of micro-batch means, would show: rows differ in length and weight (pain 25)."""
    units = eight_sequences(model)
    whole, expected = loss_and_gradient(model, cut(units, 10**9))
    batches = cut(units, tokens, packing=packing)
    step, found = loss_and_gradient(model, batches)
    assert (len(batches) == 1) == (tokens == 10**9)
    assert step.losses["nll"] == pytest.approx(whole.losses["nll"], rel=1e-6)
    assert step.tokens == whole.tokens
    assert_same_gradients(found, expected)


def test_the_mean_of_means_would_be_another_number(model: Model) -> None:
    """The test above can fail: dividing each micro-batch by its own count gives another loss."""
    batches = cut(eight_sequences(model), 64)
    single = [loss_and_gradient(model, [batch])[0].losses["nll"] for batch in batches]
    together = loss_and_gradient(model, batches)[0].losses["nll"]
    assert abs(sum(single) / len(single) - together) > 1e-3


def test_the_loss_is_the_weighted_mean_over_readouts(model: Model) -> None:
    units = eight_sequences(model)
    step, _ = loss_and_gradient(model, cut(units, 64))
    weights, values = [], []
    for part in (part for unit in units for part in unit):
        with torch.no_grad():
            logits_TV = model.network(input_ids=torch.as_tensor(part.tokens_T, dtype=torch.long)[None], use_cache=False).logits[0]
        values.append(
            torch.nn.functional.cross_entropy(logits_TV[part.at_N], torch.as_tensor(part.target_N).long(), reduction="none")
        )
        weights.append(torch.as_tensor(part.weight_N))
    weight_N, nll_N = torch.cat(weights), torch.cat(values)
    assert step.losses["nll"] == pytest.approx(float((weight_N * nll_N).sum() / weight_N.sum()), rel=1e-5)


# ---------------------------------------------------------------------------------------------- against an independent, plain loop


class PlainLoop:
    """The same training written as a person would from scratch: one padded batch, cross-entropy, clipping, AdamW by its formula."""

    def __init__(self, network: Any, rows: list[Sequence], *, rate: float, clip: float) -> None:
        self.network, self.rate, self.clip = network, rate, clip
        longest = max(row.length for row in rows)
        self.ids = torch.zeros(len(rows), longest, dtype=torch.long)
        self.mask = torch.zeros(len(rows), longest, dtype=torch.long)
        self.labels = torch.full((len(rows), longest), -100)
        self.weights = torch.zeros(len(rows), longest)
        for number, row in enumerate(rows):
            self.ids[number, : row.length] = torch.as_tensor(row.tokens_T)
            self.mask[number, : row.length] = 1
            self.labels[number, row.at_N + 1] = torch.as_tensor(row.target_N).long()
            self.weights[number, row.at_N + 1] = torch.as_tensor(row.weight_N)
        self.first = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
        self.second = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
        self.steps = 0

    def step(self) -> tuple[float, float]:
        """Do one update and return loss and gradient norm."""
        logits = self.network(input_ids=self.ids, attention_mask=self.mask, use_cache=False).logits[:, :-1]
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), self.labels[:, 1:], ignore_index=-100, reduction="none")
        weights = self.weights[:, 1:]
        loss = (nll * weights).sum() / weights.sum()
        named = dict(self.network.named_parameters())
        gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        self.steps += 1
        with torch.no_grad():
            for name, parameter in named.items():
                gradient = gradients[name] * min(1.0, self.clip / norm)
                self.first[name].lerp_(gradient, 0.1)
                self.second[name].lerp_(gradient.square(), 0.001)
                mean = self.first[name] / (1 - 0.9**self.steps)
                spread = self.second[name] / (1 - 0.999**self.steps)
                parameter -= self.rate * mean / (spread.sqrt() + 1e-8)
        return loss.item(), norm


def test_five_steps_equal_a_plain_pytorch_loop(model: Model) -> None:
    """An independent implementation, padded with an attention mask and shifted labels, walks the same path (pain 25)."""
    units = eight_sequences(model)
    before = snapshot(model)
    ours = run(model, cut(units, 100), steps=5, rate=3e-3, clip=0.5)
    after = snapshot(model)
    restore(model, before)
    plain = PlainLoop(model.network, [part for unit in units for part in unit], rate=3e-3, clip=0.5)
    theirs = [plain.step() for _ in range(5)]
    assert [step.losses["nll"] for step in ours] == pytest.approx([loss for loss, _ in theirs], rel=1e-4)
    assert [step.gradient_norm for step in ours] == pytest.approx([norm for _, norm in theirs], rel=1e-3)
    # An entry whose gradient is near nothing is moved by its sign, so that rounding can show in single entries, never in many.
    apart = torch.cat([(after[name] - parameter).detach().abs().flatten() for name, parameter in model.network.named_parameters()])
    moved = torch.cat([(after[name] - before[name]).abs().flatten() for name in before])
    assert float(apart.mean()) < 1e-3 * float(moved.mean())


@pytest.mark.slow
def test_the_loss_equals_that_of_trl(model: Model, tmp_path: Any) -> None:
    """TRL's SFTTrainer as an oracle: the loss of its first step on the same rows, split by accumulation, weights all one."""
    if importlib.util.find_spec("trl") is None:
        pytest.skip("trl is not installed: pip install 'burnish[dev]'")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        units = eight_sequences(model)
        for part in (part for unit in units for part in unit):
            part.weight_N[:] = 1.0
        ours = loss_and_gradient(model, cut(units, 100))[0]
        rows = []
        for part in (part for unit in units for part in unit):
            learned = set((part.at_N + 1).tolist())
            labels = [int(token) if place in learned else -100 for place, token in enumerate(part.tokens_T)]
            rows.append({"input_ids": part.tokens_T.tolist(), "labels": labels})
        settings = SFTConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
            max_steps=1,
            learning_rate=1e-9,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            max_length=None,
        )
        trainer = SFTTrainer(model.network, args=settings, train_dataset=Dataset.from_list(rows), processing_class=model.tokenizer)
        trainer.train()
    theirs = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert ours.losses["nll"] == pytest.approx(theirs, rel=2e-4)


# ------------------------------------------------------------------------------------------------------------------ what it learns


def test_the_loss_on_eight_rows_falls_by_half(model: Model) -> None:
    steps = run(model, cut(eight_sequences(model), 128), steps=25, rate=5e-3)
    assert steps[-1].losses["nll"] < 0.5 * steps[0].losses["nll"]
    assert [step.number for step in steps] == list(range(25))


def test_steps_continue_where_they_are_told_to(model: Model) -> None:
    """`first` is where a resumed run goes on: the batches and the rate of that step, and no other."""
    asked: list[int] = []

    def batches(step: int) -> list[Batch]:
        asked.append(step)
        return cut(eight_sequences(model), 200)

    optimizer = make_optimizer(moving(model))
    schedule = Schedule(1e-3, 6, 3)
    steps = list(train(model, batches, tasks={"main": SFT}, optimizer=optimizer, schedule=schedule, clip=1.0, first=4))
    assert asked == [4, 5] == [step.number for step in steps]
    assert [step.learning_rate for step in steps] == [schedule(4), schedule(5)]


@pytest.mark.parametrize(("clip", "largest"), [(0.0, math.inf), (0.01, 0.01), (1e6, math.inf)])
def test_clipping_scales_the_whole_gradient(model: Model, clip: float, largest: float) -> None:
    """`clip = 0` means not clipped (it must not mean a gradient of zero); the norm that is shown is the one before clipping."""
    step, applied = loss_and_gradient(model, cut(eight_sequences(model), 100), clip=clip)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in applied.values()))
    assert norm == pytest.approx(min(step.gradient_norm, largest), rel=1e-3)
    assert step.gradient_norm > 0.1


def test_an_interrupted_step_leaves_nothing_behind(model: Model) -> None:
    """Ctrl-C in the middle of a step: the gradient it had gathered does not enter the next one."""
    batches = cut(eight_sequences(model), 100)
    _, expected = loss_and_gradient(model, batches)

    def broken(outputs: Outputs, batch: Batch) -> Loss:
        loss = OBJECTIVES["sft"].function(outputs, batch)
        loss.terms["nll"].backward(retain_graph=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, batches, tasks={"main": TaskLoss(dataclasses.replace(OBJECTIVES["sft"], function=broken))})
    _, found = loss_and_gradient(model, batches)
    assert_same_gradients(found, expected, tolerance=0.0)


# --------------------------------------------------------------------------------------------------------------------- not finite


def broken_at(line: int, kind: str) -> Objective:
    """Return an objective that is not finite (in value, or in the gradient alone) in the micro-batch that holds a line."""

    def function(outputs: Outputs, batch: Batch) -> Loss:
        assert outputs.logprobs_N is not None
        total = OBJECTIVES["sft"].function(outputs, batch).terms["nll"]
        if line in {origin.line for origin in batch.origins}:
            factor = {"nan": math.nan, "inf": math.inf}.get(kind)
            # The gradient of sqrt at zero is infinite while the value is zero.
            total = total * factor if factor is not None else total + (0 * outputs.logprobs_N.sum()).sqrt()
        return Loss({"nll": total})

    return dataclasses.replace(OBJECTIVES["sft"], function=function)


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
def test_pain_2_a_step_that_is_not_finite_is_never_applied(model: Model, kind: str) -> None:
    """One clear error with the rows' file and line; weights and optimizer as they were before the step, bit for bit."""
    batches = cut(eight_sequences(model), 64)
    guilty = next(batch for batch in batches if 5 in {origin.line for origin in batch.origins})
    optimizer = make_optimizer(moving(model))
    run(model, batches, optimizer=optimizer)
    before = snapshot(model)
    moments = {number: state["exp_avg"].clone() for number, state in enumerate(optimizer.state.values())}
    with pytest.raises(RunError) as caught:
        run(model, batches, optimizer=optimizer, tasks={"main": TaskLoss(broken_at(5, kind))})
    message = str(caught.value)
    assert "Step 1:" in message and "not finite" in message and "not applied" in message
    assert "rows.jsonl:5" in message
    if kind != "gradient":
        assert len(batches) > len(guilty.origins)
        assert all((f"rows.jsonl:{line}" in message) == (line in {o.line for o in guilty.origins}) for line in range(1, 9))
    assert all(torch.equal(before[name], parameter) for name, parameter in model.network.named_parameters())
    assert all(torch.equal(moments[number], state["exp_avg"]) for number, state in enumerate(optimizer.state.values()))
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_many_rows_are_counted_not_listed(model: Model) -> None:
    rows = eight_sequences(model) * 2
    many = [
        [dataclasses.replace(part, origin=dataclasses.replace(part.origin, line=number)) for part in unit]
        for number, unit in enumerate(rows)
    ]
    with pytest.raises(RunError, match="and 4 more"):
        run(model, cut(many, 10**9), tasks={"main": TaskLoss(broken_at(3, "nan"))})


def test_pain_1_a_step_that_learns_nothing_is_an_error(model: Model) -> None:
    """Every weight zero would show a loss of 0.0 and a run that looks healthy; it is refused with the rows' places."""
    units = eight_sequences(model)
    for part in (part for unit in units for part in unit):
        part.weight_N[:] = 0.0
    with pytest.raises(RunError, match=r"nothing in it is to be learned.*rows\.jsonl:\d"):
        run(model, cut(units, 10**9))


# ------------------------------------------------------------------------------------------------------------------- several tasks


def with_task(units: list[list[Sequence]], task: str) -> list[list[Sequence]]:
    return [[dataclasses.replace(part, task=task) for part in unit] for unit in units]


def test_two_tasks_are_divided_by_their_own_counts(model: Model) -> None:
    """Whatever their share of the rows, the loss is weight_a * mean_a + weight_b * mean_b, and so is the gradient."""
    units = eight_sequences(model)
    few, many = with_task(units[:2], "a"), with_task(units[2:], "b")
    tasks = {"a": TaskLoss(OBJECTIVES["sft"], weight=0.3), "b": TaskLoss(OBJECTIVES["sft"], weight=2.0)}
    step, found = loss_and_gradient(model, [*cut(few, 100), *cut(many, 100)], tasks=tasks)
    alone_a, gradient_a = loss_and_gradient(model, cut(units[:2], 10**9))
    alone_b, gradient_b = loss_and_gradient(model, cut(units[2:], 10**9))
    assert step.losses == pytest.approx({"a/nll": alone_a.losses["nll"], "b/nll": alone_b.losses["nll"]}, rel=1e-5)
    assert_same_gradients(found, {name: 0.3 * gradient_a[name] + 2.0 * gradient_b[name] for name in found})


def test_a_task_that_is_absent_from_a_step_adds_nothing(model: Model) -> None:
    units = eight_sequences(model)
    tasks = {"a": SFT, "b": TaskLoss(OBJECTIVES["sft"], weight=2.0)}
    step, found = loss_and_gradient(model, cut(with_task(units, "a"), 100), tasks=tasks)
    _, expected = loss_and_gradient(model, cut(units, 100))
    assert step.losses.keys() == {"a/nll"}
    assert_same_gradients(found, expected, tolerance=0.0)


def two_terms(outputs: Outputs, batch: Batch) -> Loss:
    """Likelihood of even and of odd targets as two terms, and how often the target is the likelier than not as a metric."""
    assert outputs.logprobs_N is not None
    odd_N = (batch.target_N % 2).float()
    nll_N = -outputs.logprobs_N
    metric = ((outputs.logprobs_N > math.log(0.5)).float().sum(), torch.tensor(float(len(nll_N))))
    return Loss(
        {"even": (nll_N * (1 - odd_N)).sum(), "odd": (nll_N * odd_N).sum()},
        {"sure": metric, "none": (torch.zeros(()), torch.zeros(()))},
    )


def two_counts(batch: Batch) -> dict[str, torch.Tensor]:
    odd_N = (batch.target_N % 2).float()
    return {"even": (1 - odd_N).sum(), "odd": odd_N.sum()}


TWO = Objective(
    function=two_terms, counts=two_counts, terms=("even", "odd"), needs=("logprobs",), reads=(), metrics=("sure", "none")
)


def test_each_term_has_its_own_count_and_metrics_add_up(model: Model) -> None:
    tasks = {"main": TaskLoss(TWO)}
    units = eight_sequences(model)
    whole, expected = loss_and_gradient(model, cut(units, 10**9), tasks=tasks)
    split, found = loss_and_gradient(model, cut(units, 64), tasks=tasks)
    assert split.losses == pytest.approx(whole.losses, rel=1e-5)
    assert split.losses.keys() == {"even", "odd"}
    assert split.metrics == pytest.approx(whole.metrics, rel=1e-6)
    assert split.metrics.keys() == {"sure"}, "a metric that nothing was counted for is left out, not shown as nan"
    assert_same_gradients(found, expected)


def test_a_term_with_nothing_to_count_adds_nothing(model: Model) -> None:
    """0 / 0 in one term (no odd target in this step) does not end the run, and is not shown as a loss of zero."""
    units = eight_sequences(model)
    for part in (part for unit in units for part in unit):
        part.target_N[:] = part.target_N // 2 * 2
    step, gradient = loss_and_gradient(model, cut(units, 64), tasks={"main": TaskLoss(TWO)})
    assert step.losses.keys() == {"even"}
    assert all(bool(torch.isfinite(part).all()) for part in gradient.values())


def test_a_loss_that_is_no_sum_over_rows_is_not_accumulated(model: Model) -> None:
    """additive = False is not accepted and ignored: two micro-batches are refused with the reason, one is carried out."""
    tasks = {"main": TaskLoss(dataclasses.replace(OBJECTIVES["sft"], additive=False))}
    units = eight_sequences(model)
    with pytest.raises(RunError, match=r"compares all rows of a step.*train\.tokens"):
        run(model, cut(units, 64), tasks=tasks)
    assert run(model, cut(units, 10**9), tasks=tasks)


def test_the_rows_are_what_they_seem() -> None:
    """The rows of these tests differ in length, as the proofs above need."""
    assert len({len(str(row.messages)) for row in eight_dialogs()}) > 4
