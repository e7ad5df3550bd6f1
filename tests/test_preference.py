"""Preferences and reward models: losses against the papers and TRL, pairs found by group, and how pairs and ratings are rendered."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from burnish.data.batching import collate
from burnish.data.dialog import Frame, as_dialog, as_task
from burnish.data.render import Renderer
from burnish.data.render_pairs import judged_sequences, pair_sequences, rated_sequences, unrelated, within_pairs
from burnish.errors import ConfigError, DataError
from burnish.objectives import OBJECTIVES
from burnish.objectives.parts import pairs
from burnish.objectives.reward import REWARD
from burnish.types import Batch, Loss, Message, Origin, Outputs, Pair, Rated, Sequence, plain
from preference_cases import eight_pairs, eight_rated, said
from stub import stub_tokenizer

HERE = Origin("rows.jsonl", 3)


# ------------------------------------------------------------------------------------------------------------ batches made by hand


@dataclasses.dataclass(frozen=True)
class Answers:
    """Log-probabilities of answers, one row each, ragged: what a test compares with, and the batch that says the same."""

    logprobs: list[torch.Tensor]
    references: list[torch.Tensor]
    batch: Batch
    outputs: Outputs


def sequence(size: int, *, group: int = 0, role: str = "policy", weight: float = 1.0, **streams: Any) -> Sequence:
    at_N, weight_N = np.arange(size, dtype=np.int32), np.full(size, weight, dtype=np.float32)
    filled = {name: np.broadcast_to(np.asarray(value, dtype=np.float32), (size,)).copy() for name, value in streams.items()}
    return Sequence(np.arange(size + 1, dtype=np.int32), at_N, at_N, weight_N, HERE, streams=filled, group=group, role=role)


def batch_of(sequences: list[Sequence]) -> Batch:
    return collate(sequences, packing=False, pad_id=0, device="cpu")


def answers(lengths: list[int], places: list[tuple[int, str]], *, scale: float = 1.0, seed: int = 0, **streams: Any) -> Answers:
    """Return random answers of these lengths, each in a group and with a role; `streams` hold one value per answer."""
    draw = torch.Generator().manual_seed(seed)
    logprobs = [-scale * torch.rand(size, generator=draw) - 0.05 for size in lengths]
    references = [-scale * torch.rand(size, generator=draw) - 0.05 for size in lengths]
    made = [
        sequence(size, group=group, role=role, reference=reference, **{name: values[row] for name, values in streams.items()})
        for row, (size, (group, role), reference) in enumerate(zip(lengths, places, references, strict=True))
    ]
    flat_N = torch.cat(logprobs).requires_grad_()
    return Answers(logprobs, references, batch_of(made), Outputs(logprobs_N=flat_N))


LENGTHS = [5, 1, 9, 4, 7, 3]
PLACES = [(4, "chosen"), (2, "rejected"), (9, "chosen"), (2, "chosen"), (9, "rejected"), (4, "rejected")]
CHOSEN, REJECTED = [0, 2, 3], [5, 4, 1]
"""Three pairs that stand in a batch in no order; rows of the chosen ones, and of their partners."""


def mixed(**more: Any) -> Answers:
    return answers(LENGTHS, PLACES, **more)


def value(name: str, given: Answers, **options: Any) -> float:
    """Return the loss as the loop would form it: each term over its count."""
    loss, counts = both(name, given, **options)
    return sum((loss.terms[term] / counts[term].clamp(min=1e-12)).item() for term in loss.terms)


def both(name: str, given: Answers, **options: Any) -> tuple[Loss, Any]:
    return OBJECTIVES[name].function(given.outputs, given.batch, **options), OBJECTIVES[name].counts(given.batch, **options)


# ------------------------------------------------------------------------------------------------------------------ TRL's own losses


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows side by side, filled up with 0, and a mask of what is real; TRL's masks have one more column in front."""
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    return values, torch.nn.functional.pad(mask, (1, 0))


def trl_outputs(logprobs: torch.Tensor) -> Any:
    """Return what TRL's patched models give: log-probabilities, and what its metrics want."""
    zeros = torch.zeros_like(logprobs)
    return SimpleNamespace(log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def trl_self(**settings: Any) -> Any:
    made = MagicMock()
    made.accelerator.gather_for_metrics = made.accelerator.gather = lambda tensor: tensor
    made.accelerator.device = torch.device("cpu")
    made.precompute_ref_logps, made.aux_loss_enabled, made.use_weighting, made.ld_alpha = True, False, False, None
    made.model.training = False
    for name, setting in settings.items():
        setattr(made, name, setting)
    return made


def trl_dpo(given: Answers, loss_type: str, *, beta: float, f: str = "reverse_kl", alpha: float = 0.5) -> float:
    from trl import DPOTrainer

    rows = [given.logprobs[row] for row in CHOSEN + REJECTED]
    logprobs, mask = padded(rows)
    sums = torch.stack([given.references[row].sum() for row in CHOSEN + REJECTED]).chunk(2)
    made = trl_self(beta=beta, loss_types=[loss_type], loss_weights=[1.0], f_divergence_type=f, f_alpha_divergence_coef=alpha)
    inputs = {
        "input_ids": mask,
        "attention_mask": mask,
        "completion_mask": mask.clone(),
        "ref_chosen_logps": sums[0],
        "ref_rejected_logps": sums[1],
    }
    inputs["completion_mask"][:, 0] = 0
    return DPOTrainer._compute_loss(made, lambda **_: trl_outputs(logprobs), inputs, False).item()


def trl_kto(
    given: Answers, unrelated_logprobs: torch.Tensor, references: torch.Tensor, ratings: list[float], **weights: Any
) -> float:
    from trl import KTOTrainer

    logprobs, mask = padded(given.logprobs)
    made = trl_self(loss_type="kto", calculate_KL=True, **weights)
    made._compute_kl_logps = lambda model, batch: unrelated_logprobs
    inputs = {
        "input_ids": mask,
        "attention_mask": mask,
        "completion_mask": mask.clone(),
        "label": torch.tensor([rating == 1 for rating in ratings]),
        "ref_logps": torch.stack([row.sum() for row in given.references]),
        "ref_KL_logps": references,
    }
    inputs["completion_mask"][:, 0] = 0
    return KTOTrainer._compute_loss(made, lambda **_: trl_outputs(logprobs), inputs, False).item()


@pytest.mark.filterwarnings("ignore")
def test_losses_equal_those_of_trl() -> None:
    """One test, because importing TRL takes seconds. TRL averages over the pairs of a batch, and so does the loop over those of a step."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    given = mixed()
    close: Callable[[float], Any] = lambda expected: pytest.approx(expected, rel=1e-5)  # noqa: E731
    assert value("dpo", given, beta=0.3) == close(trl_dpo(given, "sigmoid", beta=0.3))
    assert value("dpo", given, beta=5.0, length_normalised=True) == close(trl_dpo(given, "sigmoid_norm", beta=5.0))
    assert value("dpo", given, beta=0.3, divergence="forward_kl") == close(trl_dpo(given, "sigmoid", beta=0.3, f="forward_kl"))
    assert value("dpo", given, beta=0.3, divergence="js") == close(trl_dpo(given, "sigmoid", beta=0.3, f="js_divergence"))
    # TRL's coefficient is 1 - alpha of the paper.
    expected = trl_dpo(given, "sigmoid", beta=0.3, f="alpha_divergence", alpha=0.7)
    assert value("dpo", given, beta=0.3, divergence="alpha", alpha=0.3) == close(expected)
    assert value("ipo", given, beta=0.3) == close(trl_dpo(given, "ipo", beta=0.3))
    assert value("apo", given, beta=0.3) == close(trl_dpo(given, "apo_zero", beta=0.3))
    assert value("apo", given, beta=0.3, variant="down") == close(trl_dpo(given, "apo_down", beta=0.3))

    averages = torch.stack([row.mean() for row in given.logprobs])
    totals = torch.stack([row.sum() for row in given.logprobs])
    simpo = trl_self(loss_type="simpo", beta=2.5, simpo_gamma=1.0, label_smoothing=0.0, alpha=0.0)
    losses = CPOTrainer.cpo_loss(simpo, averages[CHOSEN], averages[REJECTED])[0]
    assert value("simpo", given, beta=2.5, gamma_ratio=0.4) == close(losses.mean().item())
    cpo = trl_self(loss_type="sigmoid", beta=0.3, label_smoothing=0.1, alpha=0.0)
    losses = CPOTrainer.cpo_loss(cpo, totals[CHOSEN], totals[REJECTED])[0]
    assert value("cpo", given, beta=0.3, label_smoothing=0.1, nll_weight=0.0) == close(losses.mean().item())
    losses = ORPOTrainer.odds_ratio_loss(trl_self(beta=0.3), averages[CHOSEN], averages[REJECTED])[0]
    loss, counts = both("orpo", given, odds_weight=0.3)
    assert (loss.terms["preference"] / counts["preference"]).item() == close(-losses.mean().item())

    ratings, elsewhere, before = [1, 1, 0, 1, 0, 0], torch.tensor([-3.0, -2.0]), torch.tensor([-5.0, -2.5])
    weights = {"beta": 0.3, "desirable_weight": 0.7, "undesirable_weight": 1.3}
    for references, point in ((before, 1.25), (-before, 0.0)):  # the mean is 1.25; the other one is below 0
        alone = answers(LENGTHS, [(0, "policy")] * 6, rating=ratings, divergence=[point] * 6)
        assert value("kto", alone, **weights) == close(trl_kto(alone, elsewhere, references, ratings, **weights))


# -------------------------------------------------------------------------------------------------------------------- pairs, by group


def test_pairs_are_found_by_group_whatever_their_order() -> None:
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 37):
        batch = batch_of([sequence(LENGTHS[row], group=PLACES[row][0], role=PLACES[row][1]) for row in order])
        chosen_P, rejected_P = pairs(batch)
        found = {(order[one], order[other]) for one, other in zip(chosen_P.tolist(), rejected_P.tolist(), strict=True)}
        assert found == set(zip(CHOSEN, REJECTED, strict=True))


def test_a_group_that_stands_in_a_step_twice_counts_twice() -> None:
    """Where a step runs over the end of an epoch, a micro-batch may hold the same pair twice."""
    once = [sequence(4, group=1, role="chosen"), sequence(6, group=1, role="rejected")]
    chosen_P, rejected_P = pairs(batch_of([*once, *once]))
    assert chosen_P.tolist() == [0, 2] and rejected_P.tolist() == [1, 3]


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "orpo", "cpo", "apo"])
def test_a_pair_without_weight_on_a_side_counts_as_nothing(name: str) -> None:
    """In loss, counts, metrics and gradient; also where it is all there is, or where there is no pair at all."""
    whole = [sequence(size, group=1, role=role, reference=-1.0) for size, role in ((4, "chosen"), (6, "rejected"))]
    silent = [
        sequence(3, group=2, role="chosen", weight=0.0, reference=5.0),
        sequence(2, group=2, role="rejected", reference=5.0),
        sequence(2, group=0, role="policy", reference=5.0),
    ]
    objective, logprobs_N = OBJECTIVES[name], -torch.rand(17, generator=torch.Generator().manual_seed(1)).requires_grad_()
    alone, more = batch_of(whole), batch_of([*whole, *silent])
    expected, found = (
        objective.function(Outputs(logprobs_N=logprobs_N[:10]), alone),
        objective.function(Outputs(logprobs_N=logprobs_N), more),
    )
    for term in objective.terms:
        torch.testing.assert_close(found.terms[term], expected.terms[term])
        assert objective.counts(more)[term] == objective.counts(alone)[term]
    assert found.metrics["margin"] == expected.metrics["margin"] and expected.metrics["accuracy"][1] == 1
    (gradient_N,) = torch.autograd.grad(sum(found.terms.values(), torch.zeros(())), logprobs_N)
    assert gradient_N[:10].any() and not gradient_N[10:].any()
    nothing = objective.function(Outputs(logprobs_N=logprobs_N[:7]), batch_of(silent))
    assert all(term.item() == 0 and term.requires_grad for term in nothing.terms.values())
    assert not any(count.item() for count in objective.counts(batch_of(silent)).values())


# --------------------------------------------------------------------------------------------------------------------- DPO's options


def test_smoothing_is_dpo_with_a_share_of_pairs_the_wrong_way_round() -> None:
    turned = answers(LENGTHS, [(group, "rejected" if role == "chosen" else "chosen") for group, role in PLACES])
    mixture = 0.8 * value("dpo", mixed()) + 0.2 * value("dpo", turned)
    assert value("dpo", mixed(), label_smoothing=0.2) == pytest.approx(mixture, rel=1e-6)


def test_divergences_agree_where_policy_and_reference_nearly_do() -> None:
    """f'(1) = 0 and f''(1) = 1 for all but Jensen-Shannon's, whose slope at 1 is a half: a check of their formulas."""
    lengths, places = [6, 6], [(1, "chosen"), (1, "rejected")]
    near = answers(lengths, places, scale=1e-3)
    plain_margin = both("dpo", near)[0].metrics["margin"][0].item()
    assert plain_margin != 0
    for divergence, slope in (("forward_kl", 1.0), ("js", 0.5), ("alpha", 1.0)):
        margin = both("dpo", near, divergence=divergence)[0].metrics["margin"][0].item()
        assert margin == pytest.approx(slope * plain_margin, rel=2e-2), divergence
    far = mixed(scale=3.0)
    exact = both("dpo", far, divergence="alpha", alpha=1e-3)[0].metrics["margin"][0].item()
    assert exact == pytest.approx(both("dpo", far)[0].metrics["margin"][0].item(), rel=0.05), "alpha towards 0 is reverse KL"
    one = both("dpo", far, divergence="alpha", alpha=0.999)[0].metrics["margin"][0].item()
    assert one == pytest.approx(both("dpo", far, divergence="forward_kl")[0].metrics["margin"][0].item(), rel=0.05)


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "orpo", "cpo", "apo"])
@pytest.mark.parametrize("level", [0.0, -1e-9, -400.0])
def test_answers_of_any_likelihood_give_a_finite_loss_and_gradient(name: str, level: float) -> None:
    """A probability of 1 or of e^-400 per token, against a reference of the other extreme."""
    options: list[dict[str, Any]] = [{}]
    if name == "dpo":
        options += [{"divergence": divergence} for divergence in ("forward_kl", "js", "alpha")]
    for sides, chosen in itertools.product(options, (level, -3.0)):
        batch = batch_of(
            [
                sequence(5, group=1, role="chosen", reference=-200.0 - level / 2),
                sequence(5, group=1, role="rejected", reference=level),
            ]
        )
        logprobs_N = torch.tensor([chosen] * 5 + [level] * 5, requires_grad=True)
        loss = OBJECTIVES[name].function(Outputs(logprobs_N=logprobs_N), batch, **sides)
        total = sum(loss.terms.values(), torch.zeros(()))
        total.backward()
        assert logprobs_N.grad is not None
        assert total.isfinite() and logprobs_N.grad.isfinite().all(), (sides, total)


def test_the_added_term_of_sft_is_there_only_where_it_is_asked_for() -> None:
    """Its count is 0 without it, so that the loop shows no loss of that name."""
    loss, counts = both("dpo", mixed())
    assert counts["nll"] == 0 and loss.terms["nll"] == 0
    loss, counts = both("dpo", mixed(), sft_weight=0.5)
    assert counts["nll"] == sum(LENGTHS[row] for row in CHOSEN)
    expected = -0.5 * sum(mixed().logprobs[row].sum().item() for row in CHOSEN)
    assert loss.terms["nll"].item() == pytest.approx(expected, rel=1e-6)


def test_metrics_of_pairs() -> None:
    given = mixed()
    metrics = both("dpo", given, beta=0.5)[0].metrics
    gain = [0.5 * (given.logprobs[row] - given.references[row]).sum().item() for row in range(6)]
    margins = [gain[one] - gain[other] for one, other in zip(CHOSEN, REJECTED, strict=True)]
    found = {name: (total / count).item() for name, (total, count) in metrics.items()}
    assert found["accuracy"] == pytest.approx(sum(margin > 0 for margin in margins) / 3)
    assert found["margin"] == pytest.approx(sum(margins) / 3, rel=1e-5)
    assert found["chosen_reward"] == pytest.approx(sum(gain[row] for row in CHOSEN) / 3, rel=1e-5)
    assert found["rejected_reward"] == pytest.approx(sum(gain[row] for row in REJECTED) / 3, rel=1e-5)
    ratio = torch.cat([new - old for new, old in zip(given.logprobs, given.references, strict=True)]).double()
    assert found["kl"] == pytest.approx((ratio.exp() - 1 - ratio).mean().item(), rel=1e-5) and found["kl"] > 0


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("dpo", {"beta": 0.0}, "objective.beta = 0.0: expected a number above 0"),
        ("dpo", {"label_smoothing": 0.5}, "label_smoothing = 0.5: expected a share"),
        ("dpo", {"alpha": 0.5}, "leave alpha out"),
        ("dpo", {"divergence": "alpha", "alpha": 1.0}, "between 0 and 1"),
        ("dpo", {"sft_weight": -1.0}, "sft_weight = -1.0"),
        ("ipo", {"beta": -1.0}, "beta"),
        ("simpo", {"gamma_ratio": -0.1}, "gamma_ratio"),
        ("orpo", {"odds_weight": -0.1}, "odds_weight"),
        ("cpo", {"nll_weight": -0.1, "beta": -1.0}, r"beta = -1.0.*nll_weight = -0.1"),
        ("apo", {"beta": 0.0}, "beta"),
        ("kto", {"undesirable_weight": -1.0}, "undesirable_weight"),
    ],
)
def test_options_out_of_range_are_refused_before_any_forward_pass(name: str, options: dict[str, Any], says: str) -> None:
    """All of them in one message, by the counts, which are known first."""
    given = mixed(rating=[1.0] * 6, divergence=[0.0] * 6)
    for function in (lambda: OBJECTIVES[name].counts(given.batch, **options), lambda: both(name, given, **options)):
        with pytest.raises(ConfigError, match=says):
            function()


# --------------------------------------------------------------------------------------------------------------------- reward models


def judged_batch(scores: dict[tuple[int, str], float], **streams: Any) -> tuple[Outputs, Batch]:
    """Return outputs and batch of sequences read once each."""
    made = []
    for row, (group, role) in enumerate(scores):
        one = sequence(6, group=group, role=role, **{name: values[row] for name, values in streams.items()})
        last = {name: values[-1:] for name, values in one.streams.items()}
        made.append(
            dataclasses.replace(one, at_N=one.at_N[-1:], target_N=one.target_N[-1:], weight_N=one.weight_N[-1:], streams=last)
        )
    return Outputs(scores_NC=torch.tensor(list(scores.values()))[:, None]), batch_of(made)


SCORES = {(3, "rejected"): 0.4, (0, "policy"): 1.5, (1, "chosen"): -0.3, (3, "chosen"): 1.1, (0, "a"): -0.7, (1, "rejected"): 0.2}
STREAMS = {"margin": [0.0, 0.0, 0.5, 0.0, 0.0, 0.5], "rating": [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]}


def test_counts_and_metrics_of_a_reward_model() -> None:
    outputs, batch = judged_batch(SCORES, **STREAMS)
    assert {name: count.item() for name, count in REWARD.counts(batch, centre=0.1).items()} == {
        "preference": 2,
        "rating": 2,
        "centre": 2,
    }
    assert REWARD.counts(batch)["centre"] == 0, "not shown where it is not asked for"
    thumbs, numbers = (REWARD.function(outputs, batch, ratings=ratings).metrics for ratings in ("thumbs", "numbers"))
    for metrics in (thumbs, numbers):
        assert [value.item() for value in metrics["accuracy"]] == [1.0, 2.0]
    assert [value.item() for value in thumbs["rating_accuracy"]] == [2.0, 2.0]
    assert [value.item() for value in numbers["rating_error"]] == pytest.approx([0.5 + 0.7, 2.0], rel=1e-6)
    assert thumbs["rating_error"][1] == numbers["rating_accuracy"][1] == 0, "of each kind of rating only its own"


def test_a_centre_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match="centre = -1"):
        REWARD.counts(judged_batch(SCORES, **STREAMS)[1], centre=-1.0)


# ------------------------------------------------------------------------------------------------------------------------- rendering


def made_renderer(*, max_length: int = 200, template: str | None = None, system: str | None = None) -> Renderer:
    tokenizer = stub_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    return Renderer(tokenizer, max_length, (tokenizer.eos_token_id,), Frame(system=system))


def read(renderer: Renderer, one: Sequence) -> str:
    return renderer.tokenizer.decode(one.target_N[one.weight_N != 0].tolist())


def pair(chosen: Any = "yes", rejected: Any = "no", prompt: tuple[Message, ...] = (said("user", "well?"),)) -> Pair:
    sides = [(said("assistant", side),) if isinstance(side, str) else side for side in (chosen, rejected)]
    return Pair(prompt=prompt, chosen=sides[0], rejected=sides[1], origin=HERE)


def test_a_pair_becomes_two_sequences_of_a_group_read_at_their_answers() -> None:
    """The answers with their ends and nothing else, behind the same prompt, also where the prompt holds turns of the assistant."""
    made = made_renderer(system="Be brief.")
    talk = (said("user", "hello"), said("assistant", "hi there"), said("user", "well?"))
    for row in (*eight_pairs(), pair(prompt=talk)):
        chosen, rejected = pair_sequences(made, row, group=7)
        assert (chosen.role, rejected.role, chosen.group, rejected.group) == ("chosen", "rejected", 7, 7)
        for side, answer in ((chosen, row.chosen), (rejected, row.rejected)):
            assert read(made, side) == f" {plain(answer[0].content)}<|eos|>"
            assert (side.tokens_T[side.at_N + 1] == side.target_N).all() and side.origin == row.origin
        prompt = int(chosen.at_N[0]) + 1
        assert (chosen.tokens_T[:prompt] == rejected.tokens_T[:prompt]).all()
        assert made.tokenizer.decode(chosen.tokens_T[:prompt].tolist()).startswith("<|bos|>Be brief.")


def test_the_tools_of_a_prompt_stand_before_both_answers_and_in_the_task() -> None:
    """Rows of preference files offer tools in their prompt; left out, the model would learn to call what it cannot see."""
    made = made_renderer(max_length=2000)
    tools = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
    for row, shown in ((dataclasses.replace(pair(), tools=tools), True), (pair(), False)):
        thumb = Rated(messages=(*row.prompt, *row.chosen), rating=1.0, tools=row.tools, origin=HERE)
        texts = [
            made.tokenizer.decode(side.tokens_T.tolist())
            for side in (*pair_sequences(made, row, group=1), *rated_sequences(made, thumb))
        ]
        assert [("weather" in text) for text in texts] == [shown] * 3
        assert as_task(row, made.frame).tools == as_dialog(row, made.frame).tools == row.tools  # type: ignore[union-attr]


def test_of_an_answer_of_several_turns_the_assistants_are_read() -> None:
    talk = (said("assistant", "which one?"), said("user", "that one"), said("assistant", "done"))
    chosen, rejected = pair_sequences(made_renderer(), pair(chosen=talk), group=1)
    assert read(made_renderer(), chosen) == " which one?<|eos|> done<|eos|>" and read(made_renderer(), rejected) == " no<|eos|>"


SHORTENING = (
    "{% for m in messages %}{{ m['role'] + ': ' + (m['content'] if m['role'] == 'user' or loop.last else '(past)') | trim + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""Trims answers, and shows earlier ones differently, as templates that leave out past reasoning do."""


@pytest.mark.parametrize(
    ("row", "template", "says"),
    [
        (pair("same", "same"), None, "are the same in the form"),
        (pair("same", "same  "), SHORTENING, "are the same in the form"),
        (pair(chosen=(said("user", "me"),)), None, "the chosen answer holds no assistant turn"),
        (pair(rejected=()), None, "the rejected answer holds no assistant turn"),
        (pair(chosen=(said("assistant", "a"), said("user", "b"), said("assistant", "c"))), SHORTENING, "several turns"),
        (
            pair(),
            "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '?' }}{% endif %}",
            "surprises",
        ),
    ],
)
def test_pairs_that_compare_nothing_are_refused_with_their_row(row: Pair, template: str | None, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        pair_sequences(made_renderer(template=template), row, group=1)
    assert str(caught.value).startswith("rows.jsonl:3: ")


def test_a_template_that_rewrites_earlier_turns_still_shows_pairs_of_one_turn() -> None:
    talk = (said("user", "hello"), said("assistant", "long ago"), said("user", "well?"))
    made = made_renderer(template=SHORTENING)
    chosen, _ = pair_sequences(made, pair(prompt=talk), group=1)
    assert read(made, chosen) == "yes<|eos|>" and "(past)" in made.tokenizer.decode(chosen.tokens_T.tolist())


def test_rated_answers_carry_their_rating_on_each_readout() -> None:
    made = made_renderer()
    for row in eight_rated():
        (one,) = rated_sequences(made, row)
        assert read(made, one) == f" {plain(row.messages[-1].content)}<|eos|>" and (one.role, one.group) == ("policy", 0)
        assert (one.streams["rating"] == row.rating).all() and len(one.streams["rating"]) == len(one.at_N)
    stars = dataclasses.replace(eight_rated()[0], rating=4.0)
    with pytest.raises(DataError, match="the rating is 4, but a thumb is expected"):
        rated_sequences(made, stars)
    assert (rated_sequences(made, stars, thumbs=False)[0].streams["rating"] == 4).all()
    with pytest.raises(DataError, match="no assistant turn that the rating"):
        rated_sequences(made, Rated(messages=(said("user", "a"),), rating=1.0, origin=HERE))


def test_only_the_last_answer_of_a_rated_dialog_is_read() -> None:
    talk = (said("user", "hello"), said("assistant", "hi there"), said("user", "well?"), said("assistant", "yes"))
    (one,) = rated_sequences(made_renderer(), Rated(messages=talk, rating=1.0, origin=HERE))
    assert read(made_renderer(), one) == " yes<|eos|>"


def test_a_reward_model_reads_the_last_token_of_each_sequence() -> None:
    made = made_renderer()
    sides = judged_sequences(made, eight_pairs()[2], group=5, margin=0.25)
    (alone,) = judged_sequences(made, dataclasses.replace(eight_rated()[0], rating=3.5), group=6)
    for one, role, group, margin, rating in (
        (sides[0], "chosen", 5, 0.25, 0),
        (sides[1], "rejected", 5, 0.25, 0),
        (alone, "policy", 0, 0, 3.5),
    ):
        assert (one.role, one.group, one.at_N.tolist(), one.target_N.tolist()) == (role, group, [one.length - 1], [0])
        assert one.weight_N.tolist() == [1.0] and one.streams["margin"] == margin and one.streams["rating"] == rating
    assert collate([*sides, alone], packing=False, pad_id=0, device="cpu").streams.keys() == {"margin", "rating"}


# -------------------------------------------------------------------------------------------------------------------- long sequences


def side(length: int, first: int, *, group: int, role: str) -> Sequence:
    """Return a side whose answer begins at token `first`, its tokens unlike those of other roles after that."""
    tokens_T = np.where(np.arange(length) < first, 1, 2 if role == "chosen" else 3).astype(np.int32)
    at_N = np.arange(first - 1, length - 1, dtype=np.int32)
    ones_N = np.ones(len(at_N), dtype=np.float32)
    return Sequence(tokens_T, at_N, tokens_T[at_N + 1], ones_N, HERE, group=group, role=role)


def lengths(sequences: list[Sequence]) -> list[tuple[int, str, int]]:
    return [(one.group, one.role, one.length) for one in sequences]


def test_long_pairs_are_dropped_or_cut_as_pairs() -> None:
    """Pain 8: rows cut or dropped without a word."""
    found = [
        side(12, 5, group=1, role="chosen"),
        side(30, 5, group=2, role="rejected"),
        side(14, 5, group=1, role="rejected"),
        side(10, 5, group=2, role="chosen"),
        side(25, 20, group=3, role="chosen"),
        side(28, 20, group=3, role="rejected"),
        side(40, 3, group=0, role="policy"),
        side(9, 3, group=0, role="policy"),
    ]
    whole = [(1, "chosen", 12), (1, "rejected", 14), (0, "policy", 9)]
    assert lengths(within_pairs(found, 20, policy="drop")) == lengths(within_pairs(found, 20, policy="fail")) == whole
    cut = within_pairs(found, 20, policy="cut")
    # The prompt of group 3 fills the limit: its answers are gone, and so is the pair.
    expected = [(1, "chosen", 12), (2, "rejected", 20), (1, "rejected", 14), (2, "chosen", 10), (0, "policy", 20), (0, "policy", 9)]
    assert lengths(cut) == expected
    assert all((one.at_N < one.length - 1).all() and one.weight_N.any() for one in cut)


def test_a_pair_that_a_cut_makes_alike_is_dropped() -> None:
    made = made_renderer()
    row = pair("the same beginning, and then right", "the same beginning, and then wrong")
    sides = pair_sequences(made, row, group=1)
    limit = int(np.flatnonzero(sides[0].tokens_T != sides[1].tokens_T)[0]) if sides[0].length == sides[1].length else 30
    assert within_pairs(sides, limit, policy="cut") == []
    assert len(within_pairs(sides, limit + 1, policy="cut")) == 2


def test_a_reward_models_readout_stays_at_the_last_token_when_cut() -> None:
    made = made_renderer()
    sides = judged_sequences(made, pair("yes " * 20, "no " * 20), group=1)
    cut = within_pairs(sides, 30, policy="cut")
    assert [(one.length, one.at_N.tolist(), one.weight_N.tolist()) for one in cut] == [(30, [29], [1.0])] * 2


# -------------------------------------------------------------------------------------------------------------------- other prompts


def test_unrelated_answers_are_answers_to_other_prompts_and_follow_from_the_seed() -> None:
    rows = eight_rated()
    rows = [*rows, *(dataclasses.replace(row, rating=0.0) for row in rows[:5])]  # five prompts stand there twice
    made = made_renderer()
    own = {
        plain(row.messages[0].content): {plain(one.messages[-1].content) for one in rows if one.messages[0] == row.messages[0]}
        for row in rows
    }
    found = unrelated(made, rows, seed=3)
    texts = [[read(made, one)[1:].removesuffix("<|eos|>") for one in parts] for parts in found]
    for row, parts, answer in zip(rows, found, texts, strict=True):
        prompt = plain(row.messages[0].content)
        assert len(answer) == 1 and answer[0] not in own[prompt]
        assert prompt in made.tokenizer.decode(parts[0].tokens_T.tolist()) and parts[0].group == 0
    again, other = ([[one.tokens_T.tolist() for one in parts] for parts in unrelated(made, rows, seed=seed)] for seed in (3, 4))
    assert again == [[one.tokens_T.tolist() for one in parts] for parts in found] != other


def test_unrelated_answers_need_two_prompts_and_fit_the_limit() -> None:
    rows = [dataclasses.replace(row, messages=(said("user", "well?"), row.messages[-1])) for row in eight_rated()]
    with pytest.raises(DataError, match="all 8 rows have the same prompt"):
        unrelated(made_renderer(), rows, seed=0)
    found = unrelated(made_renderer(max_length=40), eight_rated(), seed=0)
    assert all(one.length <= 40 and one.weight_N.any() for parts in found for one in parts)
    assert any(not parts for parts in found), "a prompt that fills the limit leaves no answer to read"


def test_log_2_is_where_dpo_begins() -> None:
    """Policy and reference alike: the loss is log 2, whatever the answers' lengths, and nothing has diverged."""
    given = answers(LENGTHS, PLACES)
    same = dataclasses.replace(given, outputs=Outputs(logprobs_N=torch.cat(given.references)))
    for divergence in ("reverse_kl", "forward_kl", "js", "alpha"):
        assert value("dpo", same, divergence=divergence) == pytest.approx(math.log(2), rel=1e-6)
    assert both("dpo", same)[0].metrics["kl"][0] == 0
