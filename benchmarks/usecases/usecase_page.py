"""The pages of the use cases, made of their figures and their words: docs/usecases/NAME.md, its plot, and the gallery docs/usecases.md.

Enters: figures/NAME.json, the use case's own guide, `usecase_cases`. Leaves: text. Nothing is measured here, and a page holds no figure that is not in
its file of figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from usecase_cases import CASES, Case

from burnish.report_words import figure, interval
from burnish.usecases import UseCase, find

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
DOCS = HERE.parents[1] / "docs"
IMAGES = DOCS / "images" / "usecases"

PRICE_HOUR = 0.10
"""What an hour of a rented machine with two processor cores is taken to cost, in euros: a price for reckoning, not an offer."""

ARMS = {
    "zero_shot": "question alone",
    "few_shot_fixed": "fixed examples",
    "few_shot_nearest": "nearest examples",
    "optimised_prompt": "searched prompt",
    "retrieval_bm25": "retrieval",
    "tuned": "**tuned**",
    "classical": "classical",
}
"""The columns of a table by arm; the prompted ones are the base, untuned."""

Figures = dict[str, Any]


def read(name: str) -> Figures | None:
    """Return the figures of a use case, None where there are none yet."""
    file = FIGURES / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def measured() -> dict[str, Figures]:
    """Return the figures of all use cases that have some, in the order of the gallery."""
    return {name: found for name in CASES if (found := read(name)) is not None}


# --------------------------------------------------------------------------------------------------------------------------- words


def verdict(found: Figures) -> tuple[str, bool]:
    """Return a sentence that says first where tuning loses, and whether the tuned model beats the best prompt beyond chance."""
    score = found["headline"]
    row, told = found["scores"][score], []
    sign = 1 if row["higher_is_better"] else -1
    better = row["difference"]["low"] > 0 if sign > 0 else row["difference"]["high"] < 0
    tuned, classical = row["tuned"], row["classical"]
    if sign * classical["mean"] > sign * tuned["mean"]:
        told.append(
            f"**A classical row does better here**: {found['classical']} reaches {score} {_value(classical)}, the tuned model {_value(tuned)}. Take it where "
            f"its answers are all that you need."
        )
    prompt = f"{_plain_arm(found['best_prompt'])}, {figure(row[found['best_prompt']]['mean'])}"
    change = f"{figure(row['difference']['mean'], signed=True)} [{interval(row['difference'], signed=True)}]"
    if better:
        told.append(
            f"Tuned, {score} is {figure(tuned['mean'])}; the best prompt ({prompt}) is behind by {change}, on {_counted(row)}."
        )
    else:
        told.insert(
            0,
            f"**Tuning is not proven to help here**: {score} {figure(tuned['mean'])}, the best prompt ({prompt}); {change}, on {_counted(row)}.",
        )
    return " ".join(told), better


def _plain_arm(arm: str) -> str:
    return ARMS[arm].strip("*")


def _counted(row: Mapping[str, Any]) -> str:
    return f"{row['n']:,} rows in {row['groups']:,} groups"


def _value(value: Mapping[str, Any] | None) -> str:
    """Return a value with its interval."""
    if value is None or value.get("mean") is None:
        return "–"
    return f"{figure(value['mean'])} [{interval(value)}]" if value.get("low") is not None else figure(value["mean"])


def filled(words: str, found: Figures) -> str:
    """Return words with their figures in place; KeyError where one is named that is not there."""

    def one(match: re.Match[str]) -> str:
        slice_, _, rest = " ".join(match[1].split()).rpartition("@")
        score, arm = rest.split("/")
        table = found["slices"][slice_]["scores"] if slice_ else found["scores"]
        return f"{figure(table[score][arm]['mean'], signed=arm == 'difference')} [{interval(table[score][arm], signed=arm == 'difference')}]"

    return re.sub(r"\{([^{}]+/[a-z_]+)\}", one, words)


# --------------------------------------------------------------------------------------------------------------------------- tables


def score_table(found: Figures) -> list[str]:
    """Return the table of all scores: prompts of the base, tuned, the difference from the best prompt, the classical row."""
    arms = [arm for arm in ARMS if any(arm in row for row in found["scores"].values())]
    heads = ["score", *(ARMS[arm] for arm in arms), "tuned − best prompt", "n", "groups"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for score, row in found["scores"].items():
        cells = [score + ("" if row["higher_is_better"] else " (lower is better)"), *(_value(row.get(arm)) for arm in arms)]
        lines.append(f"| {' | '.join([*cells, _difference(row), str(row['n']), str(row['groups'])])} |")
    return lines


def _difference(row: Mapping[str, Any]) -> str:
    return f"{figure(row['difference']['mean'], signed=True)} [{interval(row['difference'], signed=True)}]"


def slice_table(found: Figures) -> list[str]:
    """Return how each slice does by the score that decides."""
    best, score = found["best_prompt"], found["headline"]
    lines = [
        f"| slice: {score} | best prompt ({_plain_arm(best)}) | **tuned** | classical | tuned − best prompt | n | groups |",
        f"|{'---|' * 7}",
    ]
    for name, part in found["slices"].items():
        row = part["scores"].get(score)
        if row is not None:
            cells = [
                name,
                _value(row[best]),
                _value(row["tuned"]),
                _value(row.get("classical")),
                _difference(row),
                str(row["n"]),
                str(row["groups"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def costs(found: Figures) -> list[str]:
    """Return rows, time, memory, latency and money as a table."""
    run, rows, times = found["run"], found["rows"], found["milliseconds"]
    once = run["seconds"] / 3600 * PRICE_HOUR
    thousand = {arm: ms / 3600 * PRICE_HOUR for arm, ms in times.items()}
    best = found["best_prompt"]
    return [
        "| question | answer |",
        "|---|---|",
        f"| how many rows | {rows['train']:,} to learn from, {rows['dev']:,} to choose by, {rows['test']:,} held out |",
        f"| how long | {run['seconds']:,.0f} s of tuning, {run['steps']:,} steps, {run['tokens']:,} tokens |",
        f"| what machine | {found['cpu']['model']}, {found['cpu']['cores']} cores; {run['device']}; {run['peak_memory_gb'] or 0:.2f} GB of memory at most |",
        f"| what it costs | {once:.4f} euros to tune; 1,000 answers {thousand['tuned']:.4f}, by the best prompt {thousand[best]:.4f} "
        f"(at {PRICE_HOUR:.2f} euros an hour) |",
        f"| one answer | {times['tuned']:,.0f} ms tuned, {times[best]:,.0f} ms by the best prompt, median of single answers |",
        f"| what moves | {run['trainable']:,} of {run['parameters']:,} parameters, technique {run['technique']}, objective {run['objective']} |",
    ]


def _answers(found: Figures) -> list[str]:
    lines = []
    for one in found["examples"]:
        lines += ["", f"*{one['slice']}*" if one["slice"] else "", "", "```text"]
        lines += [f"asked     {_flat(one['prompt'])}", f"expected  {_flat(one['expected'])}"]
        lines += [f"before    {_flat(one['before'])}", f"after     {_flat(one['after'])}", "```"]
    return lines


def _flat(text: str, limit: int = 400) -> str:
    """Return a text with line ends in the column of the block; a very long one is cut, and says so."""
    cut = text if len(text) <= limit else text[:limit] + " …"
    return cut.replace("```", "'''").replace("\n", "\n          ") or "(nothing)"


# ------------------------------------------------------------------------------------------------------------------------- the page


def page(name: str, found: Figures) -> str:
    """Return the page of one use case."""
    usecase, case = find(name), CASES[name]
    assert usecase.guide is not None, f"{name} has no guide"
    lines = [f"# {name}", "", usecase.summary, "", verdict(found)[0], "", "```sh", f"burnish init {name} my-{name}"]
    lines += [f"cd my-{name}", "burnish check run.toml", "burnish tune run.toml", "```", ""]
    for title, words in usecase.guide.sections():
        lines += [f"## {title}", "", words.strip(), ""]
    lines += [*_figures(name, found, case), *_other_way(found, case), *_rest(found, case), *_made(usecase, found)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _figures(name: str, found: Figures, case: Case) -> list[str]:
    chosen = "; ".join(f"{_plain_arm(arm)}: {told}" for arm, told in found["prompts"].items() if arm != "zero_shot")
    return [
        "## What came out",
        "",
        f"![{name}: {found['headline']} of each way, with intervals](../images/usecases/{name}.svg)",
        "",
        *score_table(found),
        "",
        f"The first columns are the untuned base ({found['prompted_model']}), prompted as by `burnish decide`, each chosen on dev rows "
        f'({chosen}). "Best prompt" is the one that did best on the held-out rows themselves, which favours prompting. The classical row is: '
        f"{found['classical']}. In brackets 95 % intervals by a paired bootstrap over groups.",
        "",
        case.read.strip(),
        "",
        *slice_table(found),
        "",
    ]


def _other_way(found: Figures, case: Case) -> list[str]:
    other = found["alternative"]
    if other is None:
        return [f"The alternative, {case.alternative_is} (`{case.alternative}`), is not measured yet.", ""]
    score = found["headline"]
    row = other["scores"][score]
    return [
        f"The alternative, {case.alternative_is} (`{other['overrides']}`): {score} {_value(row['tuned'])} in {other['run']['seconds']:,.0f} s, against "
        f"{_value(found['scores'][score]['tuned'])} in {found['run']['seconds']:,.0f} s; difference {_difference(row)}.",
        "",
    ]


def _rest(found: Figures, case: Case) -> list[str]:
    general = [
        f"| {score}{'' if row['higher_is_better'] else ' (lower is better)'} | {_value(row.get('base'))} | {_value(row.get('tuned'))} | {_difference(row)} |"
        for score, row in found["forgetting"].items()
    ]
    table = ["", "| general questions | base | tuned | difference |", "|---|---|---|---|", *general] if general else []
    return [
        "## How many rows, how long, what machine, what it costs",
        "",
        *costs(found),
        "",
        "Times were taken beside other work of the machine, so they are upper bounds. A model of a billion parameters takes a hundred times the arithmetic "
        "for the same tokens: minutes on one GPU.",
        "",
        "## What was forgotten",
        "",
        found["forgetting_told"],
        *table,
        "",
        "## Three answers before and after",
        "",
        "Held-out rows, the first of each slice, not chosen by how they came out. Before: the best prompt.",
        *_answers(found),
        "",
        "## When tuning was not the right answer",
        "",
        filled(case.not_right.strip(), found),
        "",
    ]


def _made(usecase: UseCase, found: Figures) -> list[str]:
    return [
        "## How it was made",
        "",
        f"The sample rows are made up for burnish ({', '.join(f'`{name}`' for name in usecase.samples)}; people, firms and products do not exist), written by "
        "`python benchmarks/usecases/rows/write.py`. The figures:",
        "",
        "```sh",
        f"python benchmarks/usecases/make.py {usecase.name}",
        "```",
        "",
        f"which carries out {', '.join(f'`{command}`' for command in found['commands'])}, then the prompts; finished {found['run']['finished']} UTC.",
    ]


# ------------------------------------------------------------------------------------------------------------------- gallery and plot


def gallery(all_found: Mapping[str, Figures]) -> str:
    """Return the page that shows every measured use case in a line."""
    better = [name for name, found in all_found.items() if verdict(found)[1]]
    behind = [name for name, found in all_found.items() if _behind_classical(found)]
    lines = [
        "# Use cases",
        "",
        "People come with a job, not with a method. `burnish init NAME DIR` writes a folder for one of these jobs: run file, sample rows, and a page that",
        "says when to choose it. `burnish tune` works on it at once; the same file with another `model` works on any Hugging Face model.",
        "",
    ]
    told = f"{len(better)} of {len(all_found)} improve their main score over the best prompt, beyond chance"
    lines += [
        f"On the bundled model ({len(all_found)} measured so far), {told}"
        + (
            f"; in {', '.join(behind)} a classical row without any language model is better still, and the page says so first."
            if behind
            else "."
        ),
        "",
        "| use case | job | main score: best prompt → tuned | command |",
        "|---|---|---|---|",
    ]
    for name, found in all_found.items():
        row = found["scores"][found["headline"]]
        told = f"{found['headline']} {figure(row[found['best_prompt']]['mean'])} → **{figure(row['tuned']['mean'])}** ({_difference(row)}, n {row['n']})"
        lines.append(f"| [{name}](usecases/{name}.md) | {find(name).summary} | {told} | `burnish init {name} my-{name}` |")
    for name in CASES:
        if name not in all_found:
            lines.append(f"| {name} | {find(name).summary} | not measured yet | `burnish init {name} my-{name}` |")
    lines.append("")
    for name in all_found:
        lines += [f"[![{name}](images/usecases/{name}.svg)](usecases/{name}.md)", ""]
    lines += ["`make usecases` measures all of them again and writes these pages."]
    return "\n".join(lines) + "\n"


def _behind_classical(found: Figures) -> bool:
    row = found["scores"][found["headline"]]
    sign = 1 if row["higher_is_better"] else -1
    return sign * row["classical"]["mean"] > sign * row["tuned"]["mean"]


STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.r{stroke:#bbb;stroke-width:1}.b{stroke:#888;stroke-width:3}.d{fill:#888}"
    ".b.t{stroke:#0a7d5a}.d.t{fill:#0a7d5a}@media(prefers-color-scheme:dark){text{fill:#ddd}.r{stroke:#555}.b{stroke:#999}.d{fill:#999}"
    ".b.t{stroke:#3fc99a}.d.t{fill:#3fc99a}}"
)


def plot(name: str, found: Figures) -> str:
    """Return the headline of each way as a dot with its interval, as an SVG for light and dark pages."""
    score = found["headline"]
    row = found["scores"][score]
    arms = [arm for arm in ARMS if arm in row]
    left, width, line = 130, 520, 22
    top = max([1.0, *(row[arm]["high"] or row[arm]["mean"] for arm in arms)])
    height = 30 + line * len(arms) + 22

    def at(value: float) -> float:
        return left + (width - left - 20) * value / top

    parts = [f'<text x="8" y="18">{escape(name)}: {escape(score)}</text>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = at(tick * top)
        parts.append(
            f'<line class="r" x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="{height - 20}"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{tick * top:g}</text>'
        )
    for number, arm in enumerate(arms):
        y, value, mark = 30 + line * (number + 0.5), row[arm], " t" if arm == "tuned" else ""
        parts.append(f'<text x="8" y="{y + 4:g}">{escape(_plain_arm(arm))}</text>')
        if value["low"] is not None:
            parts.append(f'<line class="b{mark}" x1="{at(value["low"]):.1f}" x2="{at(value["high"]):.1f}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<circle class="d{mark}" cx="{at(value["mean"]):.1f}" cy="{y:g}" r="5"/>')
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img"><style>{STYLE}</style>{"".join(parts)}</svg>\n'


def write() -> None:
    """Write all pages and plots that have figures."""
    (DOCS / "usecases").mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    found = measured()
    for name, figures in found.items():
        (DOCS / "usecases" / f"{name}.md").write_text(page(name, figures), encoding="utf-8")
        (IMAGES / f"{name}.svg").write_text(plot(name, figures), encoding="utf-8")
    (DOCS / "usecases.md").write_text(gallery(found), encoding="utf-8")
