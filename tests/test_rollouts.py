"""Rollouts on the stub: rewards rise, what is served is what was sampled, and a stop at any moment changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from burnish.errors import ConfigError, ModelError, RunError, Stopped
from burnish.models import Model, forward
from burnish.objectives import OBJECTIVES
from burnish.objectives.policy import GRPO, PPO, REINFORCE, RLOO
from burnish.optim import make_optimizer
from burnish.rewards import LengthGuard, Part
from burnish.rollouts import Rollouts
from burnish.rollouts_plan import Plan, chosen_prompts, dealt
from burnish.rollouts_watch import Record, warnings
from burnish.train import TaskLoss
from burnish.types import Answer, Batch, Expected, Message, Objective, Origin, Task, content
from loop import moving, renderer, restore, run, snapshot
from policy_cases import plain_forward
from stub import load_stub

QUESTIONS = ("colour of the lake?", "and the hill?", "the old mill in the north?", "who?", "the harbour", "what is there?")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("rollouts"))


@pytest.fixture
def model(loaded: Model) -> Iterator[Model]:
    before = snapshot(loaded)
    loaded.network.requires_grad_(True)
    yield loaded
    loaded.network.requires_grad_(False)
    restore(loaded, before)


def tasks() -> list[Task]:
    return [
        Task(messages=(Message("user", content(text)),), expected=Expected(), origin=Origin("prompts.jsonl", line))
        for line, text in enumerate(QUESTIONS, 1)
    ]


def letters(answers: list[Answer], tasks: list[Task]) -> list[float]:
    """Share of an answer's characters that are small letters."""
    return [sum("a" <= letter <= "z" for letter in answer.text) / max(len(answer.text), 1) for answer in answers]


def plan(**more: Any) -> Plan:
    return Plan(**{"advantage": "group", "prompts": 3, "samples": 4, "max_tokens": 6, "tokens": 256, **more})


def rollouts(model: Model, *, judge: Callable[..., Any] = letters, **more: Any) -> Rollouts:
    made = {name: more.pop(name) for name in ("reference", "between", "guard", "rank", "ranks", "own_logprobs") if name in more}
    return Rollouts(model, renderer(model), tasks(), [Part(name="letters", judge=judge)], plan(**more), **made)


def served(source: Rollouts, step: int) -> list[tuple[Any, ...]]:
    """Everything of a step's micro-batches that could differ, comparable bit for bit."""
    return [
        (
            batch.layout.input_ids_BT.tolist(),
            batch.at_N.tolist(),
            batch.target_N.tolist(),
            batch.sequence_N.tolist(),
            batch.group_S.tolist(),
            {name: values.tolist() for name, values in batch.streams.items()},
        )
        for batch in source(step)
    ]


def never(batch: Batch) -> Any:
    raise AssertionError("not asked for")


# ------------------------------------------------------------------------------------------------------------ what is in a batch


def test_streams_are_what_the_learner_says_and_groups_stay_together(model: Model) -> None:
    """Read-outs are the answer's tokens with the end token where there is one; "sampled" is the loop's own forward, bit for bit.

    Pain 15.
    """
    source = rollouts(model, samples=6, max_tokens=12)
    with torch.no_grad():
        model.plain().get_output_embeddings().weight[model.tokenizer.eos_token_id] *= 6  # type: ignore[index]
    batches = source(0)
    record = source.records[0]
    assert 0 < record.stop_rate < 1, "answers that end by themselves, and answers that do not"
    ended = 0
    for batch in batches:
        now = forward(model, batch, ("logprobs",)).logprobs_N
        assert now is not None
        assert torch.equal(now.detach(), batch.streams["sampled"])
        assert torch.equal(batch.weight_N, torch.ones_like(batch.weight_N))
        for place in range(len(batch.role_S)):
            inside = batch.sequence_N == place
            row = batch.layout.input_ids_BT[place]
            at, target = batch.at_N[inside], batch.target_N[inside]
            assert torch.equal(row[at + 1], target)
            assert at.tolist() == list(range(int(at[0]), int(at[0]) + len(at)))
            ended += int(target[-1]) == model.tokenizer.eos_token_id
            prompt = renderer(model).prompt(tasks()[int(batch.origins[place].line or 0) - 1])
            assert row[: len(prompt)].tolist() == prompt.tolist() and int(at[0]) == len(prompt) - 1
            assert len(set(batch.streams["advantage"][inside].tolist())) == 1
    assert ended == round(record.stop_rate * 18)
    where = [set(batch.group_S.tolist()) for batch in batches]
    assert sorted(group for groups in where for group in groups) == [1, 2, 3], "each group in one micro-batch"
    assert record.mismatch < 1e-4 and record.mismatch > 0


def test_the_first_update_has_a_ratio_of_one_and_later_ones_move_away(model: Model) -> None:
    steps = run(model, rollouts(model, inner=3), steps=3, rate=3e-3, tasks={"main": TaskLoss(GRPO)})
    assert steps[0].metrics["drift"] == 0.0 and steps[0].metrics["ratio"] == 1.0
    assert 0.0 < steps[1].metrics["drift"] < steps[2].metrics["drift"]


@pytest.mark.parametrize("packing", [False, True])
def test_micro_batches_and_layout_change_nothing(model: Model, packing: bool) -> None:
    """The same answers and advantages; log-probabilities up to the order of sums."""
    whole, cut_up = rollouts(model, tokens=10**6), rollouts(model, tokens=64, packing=packing, batch=5)
    whole(0), cut_up(0)
    assert whole.current is not None and cut_up.current is not None
    for left, right in zip(whole.current.sequences, cut_up.current.sequences, strict=True):
        assert np.array_equal(left.tokens_T, right.tokens_T)
        assert np.array_equal(left.streams["advantage"], right.streams["advantage"])
        np.testing.assert_allclose(left.streams["sampled"], right.streams["sampled"], atol=1e-4)


def test_prompts_follow_from_seed_and_number_alone() -> None:
    chosen = [chosen_prompts(6, plan(), number) for number in range(4)]
    assert chosen == [chosen_prompts(6, plan(), number) for number in range(4)]
    assert sorted(chosen[0] + chosen[1]) == sorted(chosen[2] + chosen[3]) == list(range(6)), "each epoch holds each prompt once"
    assert chosen != [chosen_prompts(6, plan(seed=1), number) for number in range(4)]
    assert len(chosen_prompts(2, plan(prompts=5), 0)) == 5, "more prompts than there are go round"


def test_a_prompt_that_comes_twice_gets_other_answers(model: Model) -> None:
    source = Rollouts(model, renderer(model), tasks()[:1], [Part(name="letters", judge=letters)], plan(prompts=2, max_tokens=12))
    answers = set()
    for step in range(2):
        source(step)
        assert source.current is not None
        answers |= {tuple(sequence.tokens_T.tolist()) for sequence in source.current.sequences}
    assert len(answers) == 16, "within a rollout, and from one to the next, though the weights stayed"


def test_parts_divide_a_rollout_by_prompts(model: Model) -> None:
    source = rollouts(model, inner=2, parts=3)
    groups = [[group for batch in source(step) for group in batch.group_S.tolist()] for step in range(6)]
    assert len(source.records) == 1
    for epoch in (groups[:3], groups[3:]):
        assert all(len(set(part)) == 1 and len(part) == 4 for part in epoch)
        assert sorted(part[0] for part in epoch) == [1, 2, 3]
    deals = {tuple(min(dealt(plan(parts=3, inner=9), 0, place) or {0}) for place in range(3 * e, 3 * e + 3)) for e in range(9)}
    assert len(deals) > 1, "dealt anew in each epoch"
    source(6)
    assert [record.step for record in source.records] == [0, 6]


def test_ranks_divide_what_one_process_would_do(model: Model) -> None:
    alone = served(rollouts(model, tokens=64), 0)
    halves = [served(rollouts(model, tokens=64, rank=rank, ranks=2), 0) for rank in range(2)]
    assert len(alone) > 2
    assert sorted(map(str, alone)) == sorted(map(str, halves[0] + halves[1]))


# ------------------------------------------------------------------------------------------------------- passes that can be left out


def letters_of_some(answers: list[Answer], tasks: list[Task]) -> list[float]:
    """As `letters`, but every answer to a question that begins with "and" or "who" is worth the same."""
    easy = [str(task.messages[0].content[0]).find("who") + str(task.messages[0].content[0]).find("and the") > -2 for task in tasks]
    return [1.0 if same else value for same, value in zip(easy, letters(answers, tasks), strict=True)]


@pytest.mark.parametrize(
    ("objective", "advantage", "options"),
    [
        (GRPO, "group", {}),
        (GRPO, "group", {"variant": "dapo"}),
        (GRPO, "centred", {"variant": "dr_grpo", "longest_answer": 6}),
        (GRPO, "group", {"variant": "gspo"}),
        (RLOO, "leave_one_out", {}),
        (REINFORCE, "reward_to_go", {}),
    ],
)
def test_passes_left_out_change_nothing(model: Model, objective: Objective, advantage: str, options: dict[str, Any]) -> None:
    """Neither the pass before the step, nor answers whose advantage is 0: the same losses, metrics and weights, from fewer tokens."""
    begin, found = snapshot(model), []
    for leave_out in (False, True):
        restore(model, begin)
        source = rollouts(model, judge=letters_of_some, advantage=advantage, own_logprobs=leave_out, max_tokens=10)
        steps = run(model, source, steps=4, rate=2e-3, tasks={"main": TaskLoss(objective, options)})
        found.append((steps, snapshot(model), source.records))
    (plain, weights, records), (quick, others, fewer) = found
    for left, right in zip(plain, quick, strict=True):
        assert left.losses == pytest.approx(right.losses, abs=1e-6) and left.metrics == pytest.approx(right.metrics, abs=1e-6)
        assert left.gradient_norm == pytest.approx(right.gradient_norm, rel=1e-4)
    assert all(torch.allclose(weights[name], value, atol=2e-6) for name, value in others.items())
    assert any(not torch.equal(begin[name], value) for name, value in weights.items())
    assert [one.reward for one in records] == pytest.approx([one.reward for one in fewer])
    assert all(one.entropy > 0 and 0 < one.mismatch < 1e-4 for one in fewer), "still told, of the answers to one prompt"
    if advantage != "reward_to_go":
        assert any(record.equal_groups > 0 for record in records)
        assert sum(step.tokens for step in quick) < 0.9 * sum(step.tokens for step in plain)


def test_passes_are_left_out_only_where_that_is_exact(model: Model) -> None:
    """Not for later epochs over the same answers, against a reference, for values, or where something is dropped out."""
    assert "sampled" not in rollouts(model, own_logprobs=True)(0)[0].streams
    more: list[dict[str, Any]] = [{"inner": 2}, {"parts": 2}, {"reference": shifted(model, 0.5)}]
    for options in more:
        assert "sampled" in rollouts(model, own_logprobs=True, **options)(0)[0].streams
    layers: Any = model.plain().get_decoder().layers
    attention = layers[0].self_attn
    attention.attention_dropout = 0.1
    try:
        assert "sampled" in rollouts(model, own_logprobs=True)(0)[0].streams
    finally:
        attention.attention_dropout = 0.0


# -------------------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize(
    ("objective", "name", "options"),
    [(GRPO, "grpo", {}), (GRPO, "grpo", {"variant": "gspo", "clip": 0.2}), (RLOO, "rloo", {}), (REINFORCE, "reinforce", {})],
)
def test_a_rewarded_habit_grows(model: Model, objective: Objective, name: str, options: dict[str, Any]) -> None:
    """Pain 13: a method of reinforcement learning is missing or rots."""
    source = rollouts(model, advantage=OBJECTIVES[name].advantage_of({}), prompts=4, samples=8, max_tokens=8, tokens=4096)
    run(model, source, steps=18, rate=3e-3, tasks={"main": TaskLoss(objective, options)})
    rewards = [record.reward for record in source.records]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.2, rewards


def test_ppo_learns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 13: a method of reinforcement learning is missing or rots."""
    monkeypatch.setattr("burnish.train.forward", plain_forward)
    monkeypatch.setattr("burnish.rollouts_sequences.forward", plain_forward)
    source = rollouts(model, advantage="generalised", prompts=4, samples=8, max_tokens=8, inner=2, tokens=4096)
    run(model, source, steps=30, rate=3e-3, tasks={"main": TaskLoss(PPO)})
    rewards = [record.reward for record in source.records]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.15, rewards


def test_values_approach_the_returns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is worth 1, so that is what is to be expected at each token."""
    monkeypatch.setattr("burnish.train.forward", plain_forward)
    monkeypatch.setattr("burnish.rollouts_sequences.forward", plain_forward)
    source = rollouts(model, judge=lambda a, t: [1.0] * len(a), advantage="generalised", inner=3)
    steps = run(model, source, steps=12, rate=3e-3, tasks={"main": TaskLoss(PPO, {"value_weight": 5.0})})
    assert steps[-1].metrics["value_error"] < 0.3 * steps[0].metrics["value_error"]
    assert source.current is not None
    for sequence in source.current.sequences:
        assert set(sequence.streams) == {"sampled", "value", "advantage", "return"}
        np.testing.assert_allclose(sequence.streams["return"][-1], 1.0, rtol=1e-5)


def test_without_a_value_head_ppo_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.rollouts_sequences.forward", lambda *a: dataclasses.replace(plain_forward(*a), values_N=None))
    with pytest.raises(ModelError, match="value head"):
        rollouts(model, advantage="generalised")(0)


def test_equal_rewards_teach_nothing_and_are_reported(model: Model) -> None:
    """Advantages of exactly 0, weights that stay, and a record and warning that say so."""
    source = rollouts(model, judge=lambda answers, tasks: [0.1] * len(answers), inner=1)
    before = snapshot(model)
    run(model, source, steps=5, rate=1.0, tasks={"main": TaskLoss(GRPO)}, optimizer=torch.optim.SGD(moving(model).values(), lr=1.0))
    assert all(torch.equal(before[name], value) for name, value in snapshot(model).items())
    assert [record.equal_groups for record in source.records] == [1.0] * 5
    assert any("nothing is learned" in text for text in warnings(source.records))


# ---------------------------------------------------------------------------------------------------------- reference, KL, guard


def shifted(model: Model, by: float) -> Callable[[Batch], torch.Tensor]:
    """A reference that finds every token less likely by `by` nats than the policy does."""

    def reference(batch: Batch) -> torch.Tensor:
        logprobs = forward(model, batch, ("logprobs",)).logprobs_N
        assert logprobs is not None and not torch.is_grad_enabled()
        return logprobs - by

    return reference


def test_the_reference_becomes_a_stream_and_a_record(model: Model) -> None:
    source = rollouts(model, reference=shifted(model, 0.5))
    for batch in source(0):
        torch.testing.assert_close(batch.streams["reference"], batch.streams["sampled"] - 0.5)
    record = source.records[0]
    assert record.kl == pytest.approx(0.5 * record.length, rel=1e-4)
    assert "reference" not in rollouts(model)(0)[0].streams


def test_a_penalty_for_leaving_the_reference_is_part_of_the_advantage(model: Model) -> None:
    """With equal rewards, longer answers have left further, and get less."""
    with torch.no_grad():
        model.plain().get_output_embeddings().weight[model.tokenizer.eos_token_id] *= 6  # type: ignore[index]
    source = rollouts(
        model, judge=lambda a, t: [1.0] * len(a), reference=shifted(model, 0.5), advantage="leave_one_out", kl=0.2, max_tokens=12
    )
    source(0)
    assert source.current is not None
    lengths = np.array([len(sequence.at_N) for sequence in source.current.sequences])
    advantages = np.array([sequence.streams["advantage"][0] for sequence in source.current.sequences])
    groups = np.array([sequence.group for sequence in source.current.sequences])
    assert len(set(lengths.tolist())) > 3
    for group in (1, 2, 3):
        mine = lengths[groups == group]
        others = (mine.sum() - mine) / 3
        np.testing.assert_allclose(advantages[groups == group], -0.1 * (mine - others), atol=1e-4)


def test_the_kl_weight_adapts_and_is_kept(model: Model) -> None:
    """Far above its target it rises by the largest change, a fifth of answers over horizon; far below it falls."""
    options = {"advantage": "leave_one_out", "kl": 0.1, "kl_target": 1.0, "kl_horizon": 120.0}
    for apart, factor in ((5.0, 1.02), (0.01, 0.98)):
        source = rollouts(model, reference=shifted(model, apart), **options)
        source(0)
        assert source.kl == pytest.approx(0.1 * factor)
        source(1)
        assert source.kl == pytest.approx(0.1 * factor**2)
        assert [record.kl_weight for record in source.records] == pytest.approx([0.1, 0.1 * factor])


def test_the_length_guard_counts(model: Model) -> None:
    source = rollouts(model, judge=lambda a, t: [0.0] * len(a), guard=LengthGuard(soft=0, limit=6, penalty=2.0))
    source(0)
    assert source.records[0].reward == pytest.approx(source.records[0].parts["length"])
    assert source.records[0].reward < -1


# ------------------------------------------------------------------------------------------------- what persists, what is lost


def persisted(source: Rollouts) -> dict[str, Any]:
    """The state as a checkpoint would give it back: JSON and tensors."""
    state = source.state()
    arrays = {name: torch.from_numpy(values.copy()) for name, values in state["arrays"].items()}
    return {"facts": json.loads(json.dumps(state["facts"])), "arrays": arrays}


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_resumed_is_uninterrupted_bit_for_bit(model: Model, stop_at: int) -> None:
    """Inside a rollout and at its end: weights, rewards, KL weight."""
    options = {"inner": 2, "parts": 2, "advantage": "leave_one_out", "kl": 0.1, "kl_target": 1.0, "kl_horizon": 50.0}
    begin, loss = snapshot(model), {"main": TaskLoss(RLOO)}
    whole = rollouts(model, reference=shifted(model, 0.5), **options)
    run(model, whole, steps=7, rate=2e-3, tasks=loss)
    expected = snapshot(model)
    restore(model, begin)
    first, optimizer = rollouts(model, reference=shifted(model, 0.5), **options), make_optimizer(moving(model))
    run(model, first, steps=stop_at, rate=2e-3, tasks=loss, optimizer=optimizer)
    second = rollouts(model, reference=shifted(model, 0.5), **options)
    second.load(persisted(first))
    run(model, second, steps=7, first=stop_at, rate=2e-3, tasks=loss, optimizer=optimizer)
    assert all(torch.equal(value, expected[name]) for name, value in snapshot(model).items())
    assert second.records == whole.records and second.kl == whole.kl
    assert any(not torch.equal(begin[name], value) for name, value in expected.items())


def test_an_interruption_leaves_nothing_and_loses_nothing(model: Model) -> None:
    """Wherever it comes: the state stays as it was, and the rollout made afterwards is the one that would have been made."""
    expected = served(rollouts(model, batch=4, tokens=64), 0)
    calls = 0

    def stop_at(limit: int) -> Callable[[], None]:
        def between() -> None:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise Stopped("stop", signal_number=2)

        return between

    seen = 0
    for limit in range(1, 20):
        calls = 0
        source = rollouts(model, batch=4, tokens=64, between=stop_at(limit))
        before = copy.deepcopy(source.state())
        try:
            source(0)
        except Stopped:
            seen += 1
            assert source.state() == before
            assert served(source, 0) == expected
    assert seen >= 5, "during generation and during the learner's passes"


def test_a_rollout_that_was_made_by_other_weights_is_not_made_up(model: Model) -> None:
    with pytest.raises(RunError, match="Resume from a checkpoint"):
        rollouts(model, inner=4)(2)


def test_a_state_of_another_run_is_refused(model: Model) -> None:
    first = rollouts(model)
    first(0)
    state = persisted(first)
    with pytest.raises(RunError, match="temperature"):
        rollouts(model, temperature=0.7).load(state)
    fewer = Rollouts(model, renderer(model), tasks()[:2], [Part(name="letters", judge=letters)], plan())
    with pytest.raises(RunError, match="6 prompts, and there are 2"):
        fewer.load(state)
    rollouts(model, tokens=99, batch=1, packing=True).load(state)


# ---------------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 1}, "at least 2"),
        ({"temperature": 0.0}, "same answer"),
        ({"inner": 0, "prompts": 0}, "2 problems|3 problems"),
        ({"parts": 4}, "at most one"),
        ({"kl_target": 1.0}, "with kl"),
        ({"discount": 0.0}, "discount"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 2.0}, "top_p"),
        ({"kl": 0.1}, "needs a reference"),
    ],
)
def test_plans_that_cannot_work_are_refused_at_once(model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rollouts(model, **options)


def test_one_sample_is_enough_where_nothing_is_compared(model: Model) -> None:
    assert rollouts(model, advantage="reward_to_go", samples=1)(0)


def test_a_reward_that_is_no_number_stops_the_run_before_anything_is_learned(model: Model) -> None:
    source = rollouts(model, judge=lambda answers, tasks: [float("nan")] + [0.0] * (len(answers) - 1))
    before = source.state()
    with pytest.raises(RunError, match=r"'letters' is not a finite number for 1 of 12 answers.*prompts\.jsonl:"):
        source(0)
    assert source.state() == before


def test_a_learner_that_diverged_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        outputs = plain_forward(*arguments)
        assert outputs.logprobs_N is not None
        return dataclasses.replace(outputs, logprobs_N=outputs.logprobs_N * float("nan"))

    monkeypatch.setattr("burnish.rollouts_sequences.forward", broken)
    with pytest.raises(RunError, match=r'"sampled".*prompts\.jsonl'):
        rollouts(model)(0)


# ---------------------------------------------------------------------------------------------------------------------- watchdogs


def history(count: int = 20, **changes: Callable[[float], float]) -> list[Record]:
    """A healthy run, or one in which some figures follow a function of the way gone, 0 to 1."""
    healthy: dict[str, Callable[[float], float]] = {
        "reward": lambda way: 0.2 + 0.5 * way,
        "deviation": lambda way: 0.3,
        "equal_groups": lambda way: 0.2 * way,
        "length": lambda way: 40.0,
        "stop_rate": lambda way: 0.95,
        "entropy": lambda way: 2.0 - way,
        "mismatch": lambda way: 0.004,
        "kl": lambda way: 6.0 * way,
    }
    figures = {**healthy, **changes}
    return [
        Record(number=number, step=number, **{name: figure(number / (count - 1)) for name, figure in figures.items()})  # type: ignore[arg-type]
        for number in range(count)
    ]


RISING, FALLING = [(0, 0.3), (10, 0.4), (19, 0.5)], [(0, 0.3), (10, 0.5), (19, 0.2)]


def test_a_healthy_history_warns_of_nothing() -> None:
    assert warnings(history(), RISING) == []
    assert warnings(history(), []) == []
    assert warnings(history(count=3, entropy=lambda way: 0.0), FALLING) == [], "too short to judge"
    assert warnings([dataclasses.replace(record, kl=None) for record in history()], RISING) == []
    assert warnings(history(), [(0, 0.5), (19, 0.49)]) == [], "a fall within the tolerance"


@pytest.mark.parametrize(
    ("changes", "scores", "said"),
    [
        ({}, FALLING, "exploits the reward"),
        ({"entropy": lambda way: 2.0 * (1 - way) ** 3}, RISING, "Entropy collapsed"),
        ({"kl": lambda way: 60.0 * way}, RISING, "from its reference"),
        ({"equal_groups": lambda way: 0.9}, RISING, "nothing is learned from them"),
        ({"mismatch": lambda way: 0.2 * way}, RISING, "Sampler and learner differ"),
    ],
)
def test_each_watchdog_barks_alone(changes: dict[str, Any], scores: list[tuple[int, float]], said: str) -> None:
    """Pain 15: reinforcement learning collapses, exploits its reward, or learns from another policy than it samples."""
    found = warnings(history(**changes), scores)
    assert len(found) == 1 and said in found[0], found


def test_reward_and_score_that_fall_together_are_no_exploit() -> None:
    assert warnings(history(reward=lambda way: 0.7 - 0.5 * way), FALLING) == []
