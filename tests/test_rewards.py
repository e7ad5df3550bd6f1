"""Rewards, advantages, and the scores of code and numbers that serve as rewards."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.advantages import generalised, group_normalised, leave_one_out, next_kl, returns, token_rewards, whitened
from burnish.errors import ConfigError, RunError
from burnish.rewards import LengthGuard, Part, check_parts, equal_groups, rewards
from burnish.scores import SCORES
from burnish.scores.code import code_of, passes, python_clean, python_code
from burnish.scores.numbers import has_number, last_number
from burnish.scores.parts import mean
from burnish.types import Answer, Expected, Message, Origin, Score, Task, content

numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=8)


def task(*texts: str, line: int = 1, number: float | None = None, text: str | None = None) -> Task:
    asked = () if text is not None else (Message("user", content("?")),)
    return Task(messages=asked, expected=Expected(texts=texts, number=number), origin=Origin("rows.jsonl", line), text=text)


# ---------------------------------------------------------------------------------------------------------------------- rewards


def test_a_reward_is_a_weighted_sum_of_scores_models_and_the_length_guard() -> None:
    answers = [Answer("Paris", tokens=10), Answer("Rome", tokens=35), Answer("Paris", tokens=90)]
    parts = [
        Part(name="exact_match", judge=SCORES["exact_match"], weight=2.0),
        Part(name="model", judge=lambda a, t: torch.tensor([0.5, 1.0, -1.0]), weight=0.1),
    ]
    found = rewards(answers, [task("Paris")] * 3, parts, guard=LengthGuard(soft=30, limit=40, penalty=1.0))
    assert found.parts.keys() == {"exact_match", "model", "length"}
    assert found.parts["length"].tolist() == [0.0, -0.5, -1.0]
    np.testing.assert_allclose(found.total_S, [2.05, 0.1 - 0.5, 2.0 - 0.1 - 1.0])


def test_options_reach_the_judge_and_lower_is_better_is_turned_round() -> None:
    def off(answers: Any, tasks: Any, *, by: float = 0.0) -> np.ndarray:
        return np.array([[len(answer.text) + by, 1.0] for answer in answers])

    score = Score(statistics=off, combine=mean, higher_is_better=False)
    found = rewards([Answer("abc")], [task()], [Part(name="short", judge=score, options={"by": 2.0})])
    assert found.total_S.tolist() == [-5.0]


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (lambda a, t: [0.0, float("inf")], r"not a finite number for 1 of 2 answers.*inf.*rows\.jsonl:2"),
        (lambda a, t: [0.0], "1 numbers for 2 answers"),
        (lambda a, t: [0.0, None], "did not give numbers"),
        (Score(statistics=lambda a, t: np.array([[1.0, 1.0], [np.nan, 1.0]]), combine=mean), r"finite.*rows\.jsonl:2"),
        (SCORES["accuracy"], r"nothing to compare.*rows\.jsonl:1"),
    ],
)
def test_what_is_no_number_is_refused_with_its_rows(judge: Any, said: str) -> None:
    with pytest.raises(RunError, match=said):
        rewards([Answer("a"), Answer("b")], [task("a", line=1), task("b", line=2)], [Part(name="x", judge=judge)])


def test_a_sum_that_overflows_is_refused() -> None:
    parts = [Part(name=name, judge=lambda a, t: [1e308], weight=1.0) for name in "ab"]
    with pytest.raises(RunError, match="sum of the rewards"), np.errstate(over="ignore"):
        rewards([Answer("a")], [task()], parts)


def test_mixes_that_say_nothing_are_refused_all_at_once() -> None:
    def judge(answers: Any, tasks: Any) -> list[float]:
        return [0.0]

    with pytest.raises(ConfigError, match="no score"):
        check_parts([])
    broken = [Part(name="a", judge=judge), Part(name="a", judge=judge, weight=0.0), Part(name="p", judge=SCORES["perplexity"])]
    with pytest.raises(ConfigError, match="3 problems"):
        check_parts(broken)
    with pytest.raises(ConfigError, match="length guard"):
        LengthGuard(soft=10, limit=10)


def test_groups_whose_rewards_are_all_equal_are_counted() -> None:
    assert equal_groups(np.array([1.0, 1.0, 0.0, 1.0, 0.3, 0.3]), np.array([1, 1, 2, 2, 3, 3])) == (2, 3)


# ------------------------------------------------------------------------------------------------------------------- advantages


@given(numbers)
def test_advantages_within_a_group(values: list[float]) -> None:
    """Against plain torch; whatever the group's level, and not looking at other groups."""
    mine, other = np.array(values), np.array([7.0, -3.0, 1.0])
    groups = np.array([1] * len(mine) + [2] * 3)
    both = np.concatenate([mine, other])
    tensor = torch.tensor(values, dtype=torch.float64)
    normal = group_normalised(both, groups)[: len(mine)]
    if np.ptp(mine) == 0:
        assert not normal.any()
    else:
        np.testing.assert_allclose(normal, (tensor - tensor.mean()) / (tensor.std() + 1e-4), atol=1e-9)
        np.testing.assert_allclose(group_normalised(both, groups, scale=False)[: len(mine)], mine - mine.mean(), atol=1e-9)
    others = [(sum(values) - value) / (len(values) - 1) for value in values]
    np.testing.assert_allclose(leave_one_out(both, groups)[: len(mine)], mine - others, atol=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 1e9])
def test_equal_rewards_have_no_advantage_not_even_by_rounding(level: float) -> None:
    rewards_S, groups_S = np.full(7, level), np.array([1, 2, 1, 2, 1, 2, 2])
    assert not group_normalised(rewards_S, groups_S).any()
    assert not leave_one_out(rewards_S, groups_S).any()
    assert not whitened(rewards_S).any()


@given(numbers)
def test_whitened_has_mean_zero_and_deviation_one(values: list[float]) -> None:
    white = whitened(np.array(values))
    assert abs(white.mean()) < 1e-6
    assert white.std() == pytest.approx(1.0, rel=1e-3) or np.std(values) < 1e-4


@given(numbers, numbers, st.floats(0.5, 1.0), st.floats(0.0, 1.0))
def test_generalised_advantages_equal_their_definition(
    left: list[float], right: list[float], discount: float, decay: float
) -> None:
    """The sum of (discount · decay)^l δ_{t+l} (equation 16), and its two ends: one step (decay 0), and the return (decay 1)."""
    count = min(len(left), len(right))
    r, v = np.array(left[:count]), np.array(right[:count])
    after = np.append(v[1:], 0.0)
    delta = r + discount * after - v
    expected = [sum((discount * decay) ** (k - t) * delta[k] for k in range(t, count)) for t in range(count)]
    advantages, goals = generalised(r, v, discount=discount, decay=decay)
    np.testing.assert_allclose(advantages, expected, atol=1e-9)
    np.testing.assert_allclose(goals, advantages + v)
    np.testing.assert_allclose(generalised(r, v, discount=discount, decay=0.0)[0], delta, atol=1e-9)
    np.testing.assert_allclose(generalised(r, v, discount=discount, decay=1.0)[1], returns(r, discount=discount), atol=1e-9)


def test_the_penalty_stands_at_each_token_and_the_reward_at_the_last() -> None:
    found = token_rewards(3.0, np.array([-1.0, -2.0, -0.5]), np.array([-1.5, -1.0, -0.5]), kl=0.2)
    np.testing.assert_allclose(found, [-0.1, 0.2, 3.0])
    np.testing.assert_allclose(token_rewards(3.0, np.zeros(2), None, kl=0.0), [0.0, 3.0])


def test_the_kl_weight_follows_its_target() -> None:
    """Ziegler's controller: a proportional error, held at a fifth."""
    assert next_kl(0.1, 6.0, target=6.0, horizon=100, answers=10) == pytest.approx(0.1)
    assert next_kl(0.1, 6.6, target=6.0, horizon=100, answers=10) == pytest.approx(0.1 * 1.01)
    assert next_kl(0.1, 600.0, target=6.0, horizon=100, answers=10) == pytest.approx(0.1 * 1.02)
    assert next_kl(0.1, -5.0, target=6.0, horizon=100, answers=10) == pytest.approx(0.1 * 0.98)


# ------------------------------------------------------------------------------------------------------------------------- code

CODE = "def add(a, b):\n    return a + b\n"
TESTS = (
    "import math\nassert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add(math.pi, 0) == math.pi\nassert add('a', 'b') == 'ab'\n"
)


def scored(text: str, *texts: str, **options: Any) -> float:
    return float(mean(python_code([Answer(text)], [task(*texts)], **options))[0])


def test_code_is_found_in_fences() -> None:
    assert code_of(f"Here:\n```python\n{CODE}```\nDone.") == CODE
    assert code_of(f"```\nls\n```\nand\n``` py\n{CODE}```") == CODE
    assert code_of(f"```python\n{CODE}") == CODE, "cut off before the fence was closed"
    assert code_of(CODE) == CODE


@pytest.mark.parametrize(
    ("text", "expected"),
    [(CODE, 1.0), (f"```python\n{CODE}```", 1.0), ("", 0.0), ("Hello", 0.0), ("42", 0.0), ("def add(:", 0.0), ("It adds them.", 0.0),
     ("\0", 0.0), ("\ud800 = 1", 0.0), ("(" * 5000, 0.0), ("-" * 200_000 + "1", 0.0), ("x = '\\d'", 1.0)],
)  # fmt: skip
def test_whether_it_parses(text: str, expected: float) -> None:
    assert scored(text) == expected


def test_a_share_of_the_tests_passes() -> None:
    assert scored(CODE, TESTS, tests="expected") == 1.0
    assert scored("def add(a, b):\n    return abs(a) + abs(b)", TESTS, tests="expected") == 0.5
    assert scored("def add(:", TESTS, tests="expected") == 0.0
    assert scored(CODE, "if add(1, 1) != 2:\n    raise SystemExit(1)", tests="expected") == 1.0, "no assertion: one test"
    assert not python_code([Answer(CODE)], [task()], tests="expected").any(), "a row without tests is not counted"
    assert not python_code([Answer(CODE)], [task(text="x")]).any()


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(0)",
        "import os\nos._exit(0)",
        "while True: pass",
        "import time\ntime.sleep(60)",
        "held = bytearray(2 ** 31)",
        "open('big', 'wb').write(bytes(10 ** 7))",
        "import os\nassert os.environ.get('BURNISH_SECRET')",
        "import torch",
        "import sys\nassert sys.stdin.read()",
        "open('reached', 'w').write('x')\nimport os\nos._exit(0)",
    ],
)
def test_junk_and_cheats_fail_in_time_and_touch_nothing(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BURNISH_SECRET", "s")
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    assert not passes(code, "", seconds=1.0, memory=256)
    assert time.monotonic() - started < 20
    assert list(tmp_path.iterdir()) == []


def test_what_the_code_started_does_not_outlive_it() -> None:
    """A child in the background is ended with its parent."""
    word = f"burnish-left-behind-{os.getpid()}"
    code = f"import os, time\nif os.fork() == 0:\n    os.execv({sys.executable!r}, [{sys.executable!r}, '-c', 'import time; time.sleep(60)', {word!r}])"
    passes(code, "", seconds=5.0, memory=512)
    time.sleep(0.2)
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if word.encode() in _bytes(path) and b"sleep" in _bytes(path)]
    assert not left


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"memory": 1}, {"tests": "all"}])
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="python_code"):
        scored(CODE, **options)


def test_clean_code_is_what_ruff_finds_nothing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Answer(CODE), Answer("import os\n" + CODE), Answer("def add(:"), Answer("```python\nx = 1\n```")]
    assert mean(python_clean(answers, [task()] * 4)).tolist() == [1.0, 0.0, 0.0, 1.0]
    monkeypatch.setattr("burnish.scores.code.sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="pip install ruff"):
        python_clean(answers, [task()] * 4)


# ---------------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The result is 42.", 1), ("42", 1), ("#### 42", 1), ("6 * 7 = 42", 1), ("$42.00", 1), ("84/2", 1), ("**42**", 1), ("42 %", 1),
     ("−42", 0), ("-42", 0), ("It is 42, not 43", 0), ("4.2", 0), ("", 0), ("none", 0), ("v42", 0), ("1/0", 0), ("9" * 5000, 0)],
)  # fmt: skip
def test_the_last_number_counts(text: str, expected: int) -> None:
    for row in (task("so 6 * 7 = 42"), task("other", number=42.0)):
        assert mean(last_number([Answer(text)], [row])).tolist() == [expected]


def test_thousands_fractions_and_tolerance() -> None:
    assert mean(last_number([Answer("1,234,567.5")], [task("1234567.50")])).tolist() == [1.0]
    assert mean(last_number([Answer("0.333")], [task("1/3")])).tolist() == [0.0]
    assert mean(last_number([Answer("0.333")], [task("1/3")], tolerance=0.01)).tolist() == [1.0]
    assert not has_number(task("none")) and not has_number(task())
    assert not last_number([Answer("3")], [task("none")]).any()


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_junk_is_a_number_or_none_and_never_an_error(text: str) -> None:
    assert last_number([Answer(text)], [task("7")]).shape == (1, 2)
    assert python_code([Answer(text)], [task()]).shape == (1, 2)
