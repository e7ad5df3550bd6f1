"""Scores of assistants and letters: words and calls by one figure, facts that are kept, rules of ruff by choice."""

from __future__ import annotations

import pytest

from burnish.errors import ConfigError
from burnish.evaluate import resolve_score
from burnish.scores import SCORES
from burnish.scores.facts import facts_of, required
from burnish.types import Answer, Expected, Message, Origin, Task, ToolCall, content


def task(expected: Expected, asked: str = "?") -> Task:
    return Task(messages=(Message("user", content(asked)),), expected=expected, origin=Origin("rows.jsonl", 1))


def worth(name: str, answer: str, one: Task) -> float:
    score = resolve_score(name)
    return float(score.combine(score.statistics([Answer(answer)], [one]).sum(0)))


def test_a_reply_is_right_in_words_or_by_its_call_and_never_by_the_other() -> None:
    says = task(Expected(texts=("We are open on Saturdays.",)))
    calls = task(Expected(texts=("",), tool_calls=(ToolCall("order_status", {"order": "40213"}),)))
    call = '<|tool_call|>{"name": "order_status", "arguments": {"order": "40213"}}<|/tool_call|>'
    assert worth("reply", "We are open on Saturdays.", says) == 1.0
    assert 0.0 < worth("reply", "We are closed on Saturdays.", says) < 1.0
    assert worth("reply", call, says) == 0.0, "a call where words were expected"
    assert worth("reply", call, calls) == 1.0
    assert worth("reply", call.replace("40213", "40231"), calls) == 0.0, "another order"
    assert worth("reply", "Your order is on its way.", calls) == 0.0


def test_facts_are_figures_and_names_that_the_request_holds_and_the_reference_takes_up() -> None:
    asked = "Ms Ines Sato; R-2041 ready, pick up at the workshop until 14:00; 1,450 euros; from Pete"
    one = task(Expected(texts=("Hi Ines,\nR-2041 is ready! Come by at the workshop until 14:00.\nRide safe,\nPete",)), asked)
    assert set(required(one)) == {"Ines", "R-2041", "14:00"}, "Pete begins a line, 1,450 is not taken up"
    assert worth("facts_kept", "Ines: R-2041 until 14:00", one) == 1.0
    assert worth("facts_kept", "Ines: R-2041, come any time", one) == pytest.approx(2 / 3)
    assert worth("facts_kept", "Ines: R-2041 until 15:00", one) == 0.0, "a figure that nobody gave"
    assert worth("facts_kept(invented=false)", "Ines: R-2041 until 15:00", one) == pytest.approx(2 / 3)
    assert facts_of("At 10:30, Ann paid 3.50 in Paris.") == ["10:30", "Ann", "3.50", "Paris"]
    assert not SCORES["facts_kept"].applies(task(Expected(texts=("nothing to keep",)), "nothing"))


def test_the_rules_of_ruff_can_be_chosen() -> None:
    bare = "def sumPrices(prices):\n    return sum(prices)\n"
    clean = 'def sum_prices(prices: list[float]) -> float:\n    """Sum the prices."""\n    return sum(prices)\n'
    one = task(Expected(texts=("x",)))
    assert worth("python_clean", bare, one) == 1.0, "ruff's own rules leave names alone"
    name = 'python_clean(select="E,F,N,ANN,D103")'
    assert worth(name, bare, one) == 0.0 and worth(name, clean, one) == 1.0
    with pytest.raises(ConfigError, match="Expected rules of ruff"):
        worth('python_clean(select="NOSUCH999")', clean, one)
