"""The data report counts what will be learned, shows it, and estimates a run by formulas that agree with published figures."""

from __future__ import annotations

import inspect
import io
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from burnish.data.checks import check_examples, check_sequences
from burnish.data.estimate import flops_per_token, memory_parts
from burnish.data.findings import joined
from burnish.data.report import data_report, estimate, measure_matmul, pieces, print_data_report
from burnish.data.report_terminal import printable
from burnish.types import Labelled, Origin, Sequence, content


def decode(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def sequence(text: str, learned: str, *, line: int = 1) -> Sequence:
    """Characters as tokens; those of `learned` (a text of the same length with ^ below what is learned) are predicted."""
    tokens_T = np.asarray([ord(character) for character in text], dtype=np.int32)
    predicted_N = np.asarray([place for place, mark in enumerate(learned) if mark == "^"], dtype=np.int32)
    return Sequence(
        tokens_T, predicted_N - 1, tokens_T[predicted_N], np.ones(len(predicted_N), np.float32), Origin("rows.csv", line)
    )


def row(label: str, line: int) -> Labelled:
    return Labelled(origin=Origin("rows.csv", line), content=content(f"text number {line} on {label * 3}"), labels=(label,))


ROWS = {"train": [row("a", 1), row("b", 2), row("a", 3), replace(row("a", 1), origin=Origin("rows.csv", 4))], "test": [row("b", 5)]}
PARTS = [
    sequence("U:hi A:yes.", "       ^^^^", line=1),
    sequence("U:well then A:no.", "              ^^^", line=2),
    sequence("U:ok A:yes, of course it is, why not.", " " * 7 + "^" * 30, line=3),
    sequence("U:so A:.", "       ^", line=4),
]


def report(policy: Any = "drop", limit: int = 20, **more: Any) -> dict[str, Any]:
    rendered = [[part] for part in PARTS]
    findings = joined([check_examples(ROWS["train"]), check_sequences(ROWS["train"], rendered, limit=limit, policy=policy)])
    given: dict[str, Any] = {
        "findings": findings,
        "sources": [{"name": "rows.csv", "format": "labelled", "rows": 5, "sha256": "0123456789abcdef" * 4}],
        "limit": limit,
        "policy": policy,
        "decode": decode,
        "groups": {"train": ["x", "x", "y", "z"], "test": ["w"]},
        "notes": ["test has no row with 1 of the labels: 'a'."],
    }
    return data_report(ROWS, {"train": rendered}, **(given | more))


def printed(found: dict[str, Any], *, colour: bool = False) -> str:
    stream = io.StringIO()
    print_data_report(found, Console(file=stream, width=120, force_terminal=colour, color_system="standard" if colour else None))
    return stream.getvalue()


def test_the_report_is_json_and_counts_rows_groups_tokens_and_labels_by_side() -> None:
    found = report()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    train, test = found["sides"]["train"], found["sides"]["test"]
    assert (found["rows"], found["types"]) == (5, {"Labelled": 5})
    assert (train["rows"], train["groups"], train["over_limit"], train["dropped"], train["cut"]) == (4, 3, 1, 1, 0)
    assert (train["tokens"], train["trained_tokens"], train["sequences"]) == (11 + 17 + 8, 4 + 3 + 1, 3)
    assert sum(entry["rows"] for entry in train["trained_histogram"]) == 3
    assert train["length"] == {"min": 8, "median": 11, "mean": 12.0, "p95": 17, "max": 17}
    assert test == {"rows": 1, "groups": 1, "tokens": None}
    assert found["labels"]["rows"] == {"a": {"train": 3, "test": 0}, "b": {"train": 1, "test": 1}}
    assert found["sources"][0]["sha256"].startswith("0123") and found["duplicates"] == {"exact": 1, "near": 0}
    assert found["findings"][0]["rule"] == "over_limit"


def test_pain_8_dropped_and_cut_rows_are_counted_in_what_is_learned() -> None:
    cut = report("cut")["sides"]["train"]
    assert (cut["over_limit"], cut["dropped"], cut["cut"]) == (1, 0, 1)
    assert (cut["tokens"], cut["trained_tokens"]) == (11 + 17 + 8 + 20, 4 + 3 + 1 + 13)
    whole = report(limit=100)["sides"]["train"]
    assert (whole["over_limit"], whole["dropped"], whole["trained_tokens"]) == (0, 0, 38)


def test_pain_1_the_histogram_has_a_bin_for_rows_that_learn_nothing() -> None:
    silent = [[replace(part, weight_N=part.weight_N * (number != 0))] for number, part in enumerate(PARTS)]
    bins = data_report(ROWS, {"train": silent}, findings=joined([]), sources=[], limit=99, policy="drop", decode=decode)
    train = bins["sides"]["train"]
    told = [(entry["from"], entry["to"], entry["rows"]) for entry in train["trained_histogram"]]
    assert told == [(0, 0, 1), (1, 1, 1), (2, 3, 1), (4, 7, 0), (8, 15, 0), (16, 31, 1)]
    assert sum(rows for _, _, rows in told) == train["rows"] and train["groups"] is None


@given(st.lists(st.sampled_from("ab ^"), min_size=2, max_size=40))
def test_pieces_reassemble_the_text_and_mark_exactly_what_is_predicted(marks: list[str]) -> None:
    text = "".join(chr(97 + number % 26) for number in range(len(marks)))
    learned = " " + "".join(marks[1:])
    found = pieces(sequence(text, learned), decode)
    assert "".join(piece["text"] for piece in found) == text
    assert "".join(("^" if piece["trained"] else ".") * len(piece["text"]) for piece in found) == "".join(
        "^" if mark == "^" else "." for mark in learned
    )
    assert all(first["trained"] != second["trained"] for first, second in pairwise(found))


def test_pieces_keep_spaces_of_tokenizers_that_drop_the_first_and_show_no_untrained_weight() -> None:
    part = sequence(" ab cd", "   ^^^")
    assert [piece["text"] for piece in pieces(part, lambda ids: decode(ids).lstrip())] == ["ab", " cd"]
    assert [piece["trained"] for piece in pieces(replace(part, weight_N=part.weight_N * 0), decode)] == [False]
    assert pieces(part, decode, limit=2) == [{"text": " a", "trained": False}]


def test_the_example_is_the_first_row_that_is_learned_and_is_cut_where_it_is_long() -> None:
    assert report()["example"]["pieces"] == [{"text": "U:hi A:", "trained": False}, {"text": "yes.", "trained": True}]
    long = sequence("x" * 600, " " + "^" * 599)
    found = data_report(
        {"train": ROWS["train"][:1]}, {"train": [[long]]}, findings=joined([]), sources=[], limit=999, policy="drop", decode=decode
    )
    assert found["example"]["left_out_tokens"] == 344 and sum(len(piece["text"]) for piece in found["example"]["pieces"]) == 256
    assert "344 more tokens" in printed(found)
    none = data_report({"train": []}, {"train": []}, findings=joined([]), sources=[], limit=9, policy="drop", decode=decode)
    assert none["example"] is None and none["labels"] is None and none["sides"]["train"]["length"] is None
    assert "Nothing found wrong" in printed(none)


def test_the_terminal_marks_learned_tokens_by_brackets_or_by_colour() -> None:
    plain, coloured = printed(report()), printed(report(), colour=True)
    header = next(line for line in plain.splitlines() if "side" in line)
    assert [cell.strip() for cell in header.split("┃")][1:4] == ["side", "rows", "groups"]
    assert "U:hi A:[[yes.]]" in plain and "\x1b" not in plain
    assert "[[" not in coloured and "\x1b[1;32myes." in coloured
    for words in (
        "rows.csv",
        "0123456789ab",
        "Learned tokens per training row",
        "over_limit",
        "rows.csv:3",
        "note: test has no row",
    ):
        assert words in plain


def test_rows_cannot_steer_the_terminal_or_be_read_as_markup() -> None:
    assert printable("a\x1b[31m\tb\u202e\n\ud800") == "a\\x1b[31m    b\\u202e\n\\ud800"
    evil = sequence("\x1b]0;x\x07[bold]U", " " + "^" * 12)
    found = data_report(
        {"train": [row("[red]\x1b", 1)]},
        {"train": [[evil]]},
        findings=joined([]),
        sources=[],
        limit=99,
        policy="drop",
        decode=decode,
    )
    shown = printed(found)
    assert "\x1b" not in shown and "\x07" not in shown and "[bold]" in shown and "[red]\\x1b" in shown


# -------------------------------------------------------------------------------------------------------------------- estimates

# Layers, hidden, query heads, key heads, head width, feed-forward, vocabulary, rank-16 adapter weights in millions, and GFLOP per token
# of full tuning, of LoRA with every token trained, and with 0.3 of them; sequences of 2,048 tokens, tied embeddings but for the last.
MODELS = {
    "SmolLM2-135M": (30, 576, 9, 3, 64, 1536, 49152, 4.9, 1.02, 0.78, 0.70, True),
    "Qwen2.5-0.5B": (24, 896, 14, 2, 64, 4864, 151936, 8.8, 3.23, 2.29, 1.91, True),
    "Qwen3-0.6B": (28, 1024, 16, 8, 128, 3072, 151936, 10.1, 4.28, 3.15, 2.71, True),
    "Llama-3.2-1B": (16, 2048, 32, 8, 64, 8192, 128256, 11.3, 7.82, 5.41, 4.68, True),
    "Llama-3.1-8B": (32, 4096, 32, 8, 128, 14336, 128256, 41.9, 46.6, 31.9, 30.4, False),
}


@pytest.mark.parametrize("name", MODELS)
def test_operations_per_token_agree_with_the_count_by_hand(name: str) -> None:
    layers, hidden, heads, key_heads, width, wide, vocabulary, adapters, full, lora, lora_few, tied = MODELS[name]
    query, keys = heads * width, key_heads * width
    body = layers * (2 * hidden * query + 2 * hidden * keys + 3 * hidden * wide)
    parameters = body + vocabulary * hidden * (1 if tied else 2)
    given: dict[str, Any] = {"parameters": parameters, "hidden": hidden, "layers": layers, "vocabulary": vocabulary, "tied": tied}
    given |= {"attended": 2048.0, "attention_width": query}
    assert flops_per_token(trainable=parameters, adapter=False, **given) / 1e9 == pytest.approx(full, rel=0.01)
    small: dict[str, Any] = {"trainable": round(adapters * 1e6), "adapter": True}
    assert flops_per_token(**small, **given) / 1e9 == pytest.approx(lora, rel=0.01)
    assert flops_per_token(**small, **given, trained_share=0.3) / 1e9 == pytest.approx(lora_few, rel=0.01)
    assert 0.66 < lora / full < 0.78
    # The feed-forward width is found from the parameter count where it is not given.
    sizes: dict[str, Any] = {key: given[key] for key in ("parameters", "hidden", "layers", "vocabulary", "tied", "attention_width")}
    sizes |= {"trainable": 0, "adapter": True, "bytes_per_weight": 2.0, "tokens_per_batch": 4096, "key_width": keys}
    assert memory_parts(**sizes)["activations"] == pytest.approx(memory_parts(**sizes, feed_forward=wide)["activations"], rel=1e-6)


PLAN: dict[str, Any] = {
    "parameters": 494_000_000, "trainable": 8_800_000, "hidden": 896, "layers": 24, "vocabulary": 151936, "bytes_per_weight": 2.0,
    "tokens_per_step": 4096.0, "steps": 100, "flops": 2e12, "adapter": True, "attended": 512.0, "trained_share": 0.3,
    "attention_width": 896, "key_width": 128, "feed_forward": 4864,
}  # fmt: skip


def test_memory_agrees_with_the_published_figures_of_a_half_billion_model() -> None:
    parts = estimate(**PLAN)["memory"]["parts"]
    sizes = {key: value for key, value in PLAN.items() if key in inspect.signature(memory_parts).parameters}
    least = memory_parts(**sizes, tokens_per_batch=4096, fused=True)
    assert least["activations"] / 4096 == pytest.approx(0.65e6, rel=0.02)
    assert 2 < parts["activations"] / least["activations"] < 4.5, "plain layers with adapters keep several times as much"
    assert parts["weights"] == 2 * 494_000_000
    assert parts["adapter"] + parts["gradients"] + parts["optimizer"] == 16 * 8_800_000
    full = estimate(**{**PLAN, "trainable": 494_000_000, "adapter": False})["memory"]["parts"]
    assert full["gradients"] + full["optimizer"] == 10 * 494_000_000 and full["adapter"] == 0
    again = estimate(**PLAN, checkpointing=True)
    assert again["memory"]["parts"]["activations"] < parts["activations"] / 8
    assert again["flops_per_token"] > estimate(**PLAN)["flops_per_token"]


def test_an_estimate_has_ranges_and_says_what_it_assumes() -> None:
    """Pain 18: nobody says before the start what a run will need."""
    found = estimate(**PLAN)
    assert found["memory"]["low"] < found["memory"]["expected"] == sum(found["memory"]["parts"].values()) < found["memory"]["high"]
    assert found["time"]["low"] < found["time"]["expected"] < found["time"]["high"]
    assert found["time"]["expected"] * found["tokens_per_second"]["expected"] == pytest.approx(found["tokens"])
    assert (found["steps"], found["tokens"]) == (100, 409_600)
    assert any("of the measured matrix-product rate" in assumed for assumed in found["assumes"]) and any(
        "30 % of the tokens" in a for a in found["assumes"]
    )
    assert estimate(**{**PLAN, "steps": 200})["time"]["expected"] == pytest.approx(2 * found["time"]["expected"])
    assert estimate(**PLAN, tokens_per_batch=1024)["memory"]["low"] < found["memory"]["low"]
    shown = printed(report(estimated=found))
    assert "memory free here" not in shown
    for free, told in ((found["memory"]["expected"] * 2, False), (found["memory"]["expected"] / 2, True)):
        again = printed(report(estimated={**found, "memory": {**found["memory"], "free": free}}))
        assert "memory free here" in again and ("too little" in again) == told
    assert "assuming:" in shown and "memory" in shown and json.dumps(report(estimated=found))


def test_the_matrix_product_rate_is_measured_for_about_the_time_given() -> None:
    import time

    start = time.perf_counter()
    rate = measure_matmul(0.1, "float32", rows=128, hidden=128)
    assert 1e8 < rate < 1e15 and time.perf_counter() - start < 30
