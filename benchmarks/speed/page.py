"""docs/performance.md and its picture, from benchmarks/results/*.json alone.

    python benchmarks/speed/page.py

Enters: the results of `run` and the words of `reasons`. Leaves: the page and docs/images/performance.svg. Nothing is measured here, and no
figure stands on the page that is not in a file of results; tests/test_speed.py holds the page up to date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plot
from measures import judged
from reasons import NOTES, REASONS
from rows import ROWS

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "performance.svg"
NOISY = 0.15
"""Processors busy with something else, on average over a run, from which its figures are called noisy."""

HEAD = """# Performance

What burnish costs in time and memory, beside the tools that a user would take instead, on the same work. This page and its picture are written
from `benchmarks/results/*.json` by a script; no figure is put in by hand.

## How it is measured

- **The same work.** One Llama shape of 135 M parameters (hidden 576, 30 layers, 9 heads and 3 of keys, feed-forward 1,536, vocabulary 49,152, tied)
  with random weights from a fixed seed; the same token ids, labels, first values of the adapters, loss over the step's trained tokens, eight
  examples a step, AdamW at a constant rate, no dropout, LoRA of rank 16 and alpha 32 on all linear layers. The text is real, out of the bundled
  samples, cut to lengths that spread as those of instruction data do.
- **burnish as a user gets it**: the run goes through `burnish.tune`, and nothing but the run file is set.
- **Peers twice**: as their README shows, and tuned by hand: the quickest of the settings that are listed in the results under `tried`. Each has an
  environment of its own.
- **The same result first.** Before anything is measured the losses of two steps, and the gradient at the weights after the first step, are compared
  with transformers and PEFT in float32, row by row without padding: cosine above 0.999, losses within 0.5 %, weights that move. A row that fails
  is refused. Where gradients cannot be compared (a head, attempts), first losses are, or that something moves.
- **One process at a time, sides in turn**, five times unless a line says otherwise: medians, with the range in brackets. Steps that warm up are
  dropped; the seconds of the whole process are in the results. Tokens are real ones, padding aside. Peak memory is that of the kernel
  (VmHWM), import and loading included.
- **Share of peak**: model FLOPs over wall time times the median of a 2048 × 4096 × 4096 bfloat16 product, measured before and after each process.
  For each real token 4 N_b + 6 N_A + 4 N_h l + 6 L d_q S with LoRA, 6 N_b + 6 N_h l + 6 L d_q S with all weights: nothing that is computed
  twice counts, and no padding.
- **Noise.** Time that the machine beneath took away, and processors that others kept busy, are recorded with each run.
"""

LAST = """## Make it again

```sh
make bench          # every row, more than an hour on two quiet cores; environments of the peers are made first
make bench-sft      # the first two rows
```

One row alone is `python benchmarks/speed/run.py ROW`; with `--quick` each side runs twice. The rows and their sides stand in
[rows.py](../benchmarks/speed/rows.py), the formulae in [formulae.py](../benchmarks/speed/formulae.py).
"""

WORDS = {
    "tokens_per_second": "real tokens/s",
    "label_tokens_per_second": "trained tokens/s",
    "examples_per_second": "examples/s",
    "pairs_per_second": "pairs/s",
    "steps_per_second": "steps/s",
    "share_of_peak": "share of peak",
    "padding_share": "padding",
    "peak_gb": "peak memory, GB",
    "ready": "until the first step, s",
    "first_step": "first step made, s",
    "seconds_to_last": "last step made, s",
}
"""The measures that a table of a row shows, in their order, by what they are called there."""


def read() -> dict[str, dict[str, Any]]:
    """Return the results that are there, in the order of the rows."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    return {name: found[name] for name in ROWS if name in found}


def text(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the whole page."""
    parts = [HEAD, "## The table\n", _table(results)]
    if any(result.get("sides") for result in results.values()):
        parts += ["![Real work a second, burnish beside its peers](images/performance.svg)\n"]
    parts += [_machine(results), "## Row by row\n", *(_section(name, result) for name, result in results.items()), LAST]
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------------------------ the big table


def _table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for each figure with a target, and for each row that has none."""
    lines = ["| work | figure | measured | must reach | |", "|---|---|---|---|---|"]
    for name, row in ROWS.items():
        result = results.get(name, {})
        figures = result.get("figures") or [judged(figure, {}) for figure in row.figures]
        shown = [figure for figure in figures if figure["target"]]
        if not shown:
            lines.append(f"| {row.title} | | | | {result.get('verdict', 'not measured')} |")
        for number, figure in enumerate(shown):
            word = "refused" if result.get("verdict") == "refused" else figure["verdict"]
            cells = ["" if number else row.title, _named(figure["name"]), value(figure), figure["target"], f"**{word}**"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _named(text: str) -> str:
    """Return the name of a figure with its measure in words."""
    for measure, words in WORDS.items():
        text = text.replace(measure, words)
    return text


def value(figure: Mapping[str, Any]) -> str:
    """Return a figure as it is read: a share in per cent, a ratio with its sign, a number of tokens."""
    if figure["value"] is None:
        return "–"
    if " over " in figure["name"] or ", over " in figure["name"]:
        return f"{figure['value']:.2f} ×"
    return f"{figure['value']:.1%}" if figure["measure"] == "share_of_peak" else f"{figure['value']:,.3g}"


# --------------------------------------------------------------------------------------------------------------------- one row


def _section(name: str, result: Mapping[str, Any]) -> str:
    """Return the part of the page for one row: its sides, its figures, and why it falls short."""
    lines = [f"### {name}: {result['title']}", ""]
    if result.get("lacks"):
        lines += [f"Not measured: it needs {result['lacks']}. {REASONS.get(name, '')}".rstrip(), ""]
        return "\n".join(lines)
    refused = result["gate"]["refused"]
    lines += [f"Refused: {reason}" for reason in refused] + ([""] if refused else [])
    lines += [*_sides(result["sides"]), ""]
    lines += [_figure(figure) for figure in result["figures"]] + [""]
    if result.get("dev"):
        lines += ["Loss on rows held out: " + ", ".join(f"{side} {loss:.4f}" for side, loss in result["dev"].items()) + ".", ""]
    if gate := [one for one in result["gate"]["sides"] if one.get("cosine")]:
        cosines = ", ".join(f"{one['arm']} {one['cosine']:.5f}" for one in gate)
        lines += [f"Gradient beside the plain float32 one, cosine: {cosines}.", ""]
    for arm, tried in result.get("tried", {}).items():
        lines += [f"{arm}, settings tried: {'; '.join(map(_tried, tried))}.", ""]
    if name in NOTES:
        lines += [NOTES[name], ""]
    if result["verdict"] == "falls short":
        lines += [f"**Why it falls short.** {REASONS.get(name, 'No reason is written down yet.')}", ""]
    lines += [f"{result['date']}, commit {result['commit']}, {result['repeats']} repeats{_noise(result)}.", ""]
    return "\n".join(lines)


def _sides(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table with a line for each side, and those measures as columns that any of them has."""
    good = {arm: side["measures"] for arm, side in sides.items() if "measures" in side}
    columns = [name for name in WORDS if any(name in found for found in good.values())]
    lines = [f"| side | {' | '.join(WORDS[name] for name in columns)} |", f"|{'---|' * (len(columns) + 1)}"] if good else []
    for arm, found in good.items():
        lines.append(f"| {arm} | {' | '.join(_range(name, found.get(name)) for name in columns)} |")
    failed = [f"{arm} did not run: {side['problem']}" for arm, side in sides.items() if "problem" in side]
    return [*lines, *([""] if failed else []), *failed]


def _range(name: str, found: Mapping[str, float] | None) -> str:
    """Return a measure with its range in brackets."""
    if found is None:
        return "–"
    form = "{:.1%}" if name in ("share_of_peak", "padding_share") else "{:,.3g}" if found["median"] < 100 else "{:,.0f}"
    told = [form.format(found[part]) for part in ("median", "least", "greatest")]
    return told[0] if told[1] == told[2] else f"{told[0]} [{told[1]}, {told[2]}]"


def _figure(figure: Mapping[str, Any]) -> str:
    target = f" (must reach {figure['target']})" if figure["target"] else ""
    said = "" if figure["verdict"] == "measured" else f": **{figure['verdict']}**"
    return f"- {_named(figure['name'])}: {value(figure)}{target}{said}"


def _tried(one: Mapping[str, Any]) -> str:
    """Return a setting of a peer and what it reached."""
    setting = ", ".join(f"{name} {json.dumps(item)}" for name, item in one["choice"].items())
    return f"{setting} → {'failed' if one['problem'] else format(one['speed'], ',.3g')}"


def _noise(result: Mapping[str, Any]) -> str:
    busy = result["machine"]["load_of_others"]
    return f"; **noisy**: other processes kept up to {busy:.1f} processors busy" if busy > NOISY else ""


def _machine(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return machine and versions, once for each that the results come from."""
    machines, versions = dict[str, None](), dict[str, None]()
    for result in results.values():
        if "machine" not in result:
            continue
        m = result["machine"]
        machines[f"{m['model']}, {m['cores']} cores ({', '.join(m['features'])}), {m['memory_gb']} GB, {m['system']}"] = None
        for peer, found in result["versions"].items():
            versions[f"{peer}: {', '.join(f'{name} {number}' for name, number in found.items())}"] = None
    if not machines:
        return "Nothing has been measured yet.\n"
    return "\n".join(
        [*(f"Machine: {name}." for name in machines), "", "Versions, by environment:", "", *(f"- {line}" for line in versions), ""]
    )


def files() -> Sequence[tuple[Path, str]]:
    """Return the page and its picture, each with what it should hold."""
    results = read()
    return [(PAGE, text(results)), (PICTURE, plot.draw(plot.bars(results)))]


def write() -> None:
    """Write the page and its picture from the results that are there."""
    for path, content in files():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write()
