"""The model card: what a person must know before using a tuned model, with figures and how sure they are.

Enters: a `Subject` and what an export measured. Leaves: README.md with the YAML head that model hubs read. Nothing is claimed that the run
did not record; what is not known is said to be unknown. Places on this machine stay out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish import __version__
from burnish.assets import BUNDLED
from burnish.data.public import PUBLIC
from burnish.export.subject import Choices, Subject

if TYPE_CHECKING:
    from burnish.export.bundle import Made

RELATION = {"adapter": "adapter", "vllm": "adapter", "gguf": "quantized", "ollama": "quantized"}
SAMPLES = tuple(f"{name}.jsonl" for name in ("chat", "extract", "instruct", "support"))
ARMS = ("base", "tuned", "difference", "baseline")


def card(subject: Subject, choices: Choices, made: Made, *, target: str) -> str:
    """Return the text of the card."""
    parts = [
        _head(subject, choices, target),
        f"# {subject.called}",
        _about(subject),
        f"## Use\n\n```sh\n{made.use}\n```\n\n{_form(subject)}",
        _intended(subject),
        _data(subject),
        _scores(subject),
        _forgot(subject),
        _licence(subject, choices),
        _checks(made),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(subject: Subject, choices: Choices, target: str) -> str:
    """Return the YAML head; values are JSON strings, which YAML reads as they are."""
    relation = RELATION.get(target, "finetune")
    if not subject.is_adapter and relation == "adapter":
        relation = "finetune"
    lines = ["---", f"base_model: {json.dumps(subject.base)}", f"base_model_relation: {relation}"]
    if choices.licence:
        lines.append(f"license: {json.dumps(choices.licence)}")
    lines.append(f"library_name: {'peft' if relation == 'adapter' else 'gguf' if relation == 'quantized' else 'transformers'}")
    lines.append(f"pipeline_tag: {_pipeline(subject)}")
    lines += ["tags:", "- burnish", f"- {json.dumps(_run(subject).get('objective', 'tuned'))}", "---"]
    return "\n".join(lines)


def _pipeline(subject: Subject) -> str:
    kind = subject.model.spec.kind if subject.model.spec is not None else ""
    kinds = {
        "sequence": "text-classification",
        "token": "token-classification",
        "span": "question-answering",
        "masked": "fill-mask",
    }
    return kinds.get(kind, "text-generation")


def _run(subject: Subject) -> Mapping[str, Any]:
    return subject.report.get("run") or {}


def _about(subject: Subject) -> str:
    run = _run(subject)
    if not run:
        return f"A model that burnish {__version__} exported. No report of its tuning was there, so its scores are not known."
    made = f"`{subject.base}` tuned with burnish {run.get('burnish', __version__)}: objective {run.get('objective')}, technique "
    made += f"{run.get('technique')}, {run.get('steps')} steps; {run.get('trainable', 0):,} of {run.get('parameters', 0):,} parameters moved."
    verdict = subject.report.get("verdict")
    return made + (f"\n\n{verdict}" if verdict else "")


def _form(subject: Subject) -> str:
    """Return how the model must be asked, since another form than it was taught in makes it worse."""
    if subject.has_head:
        spec = subject.model.spec
        names = ", ".join(spec.labels[:40]) if spec is not None else ""
        return f"It reads a text and gives scores. Labels: {names}." if names else "It reads a text and gives scores."
    if subject.settings.get("form") == "text":
        return "It continues plain text: it was not taught to answer."
    system, prompt = subject.settings.get("system"), subject.settings.get("prompt")
    said = "It answers in its own chat template (`chat_template.jinja`, or inside the file)."
    said += (
        f"\n\nIt was taught with this system message, without which it answers worse:\n\n```text\n{system}\n```" if system else ""
    )
    said += f"\n\nEach message of a user was put into this prompt:\n\n```text\n{prompt}\n```" if prompt else ""
    return said


def _intended(subject: Subject) -> str:
    what = {
        "text-classification": "telling the label (or number) of texts like those it was tuned on",
        "token-classification": "finding the spans of texts like those it was tuned on",
        "question-answering": "finding answers in a text that is given with the question",
        "fill-mask": "restoring tokens, and as a beginning for other heads",
    }.get(_pipeline(subject), "answering questions like those it was tuned on")
    return (
        f"## Intended use\n\nFor {what}, in their language and form. Nothing below says how it does on other text, and its scores say how "
        f"often it is wrong: let a person decide wherever a wrong answer would harm somebody. It was not tested for safety."
    )


def _data(subject: Subject) -> str:
    sources = subject.data.get("sources") or []
    if not sources:
        return "## Data\n\nNot known: the model came without the report of its data."
    rows = ["| data | rows | sha256 | licence |", "|---|---|---|---|"]
    for source in sources:
        rows.append(
            f"| {_cell(_source_name(source['name']))} | {source['rows']:,} | `{source['sha256']}` | {_cell(licence_of(source['name']))} |"
        )
    sides = subject.data.get("sides") or {}
    divided = ", ".join(f"{side} {part['rows']:,}" for side, part in sides.items())
    return "## Data\n\n" + "\n".join(rows) + (f"\n\nRows by side: {divided}. The test rows were not learned." if divided else "")


def _source_name(name: str) -> str:
    """Return a source without the place it had on a machine."""
    return name if name.startswith(("public:", "hub:")) or "/" not in name else Path(name).name


def licence_of(source: str) -> str:
    """Return the licence of a data source: of a public set by its entry, else a file beside it that names one, else that none is stated."""
    if source.startswith("public:"):
        entry = PUBLIC.get(source.removeprefix("public:").split("/")[0])
        return entry.licence if entry is not None else "not stated"
    place = Path(source).expanduser()
    if place.is_absolute() and place.name in SAMPLES and place.parent.name == "samples":
        return "Apache-2.0, written for burnish"
    folder = place if place.is_dir() else place.parent
    if place.is_absolute() and folder.is_dir():
        for name in ("LICENSE", "LICENCE", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "LICENCE.md"):
            if (folder / name).is_file():
                first = (folder / name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                return f"{name}: {first[0].strip()[:80]}" if first else "not stated"
    return "not stated"


def _scores(subject: Subject) -> str:
    scores = subject.report.get("scores") or {}
    if not scores:
        return "## Scores\n\nNot measured."
    arms = [arm for arm in ARMS if any(isinstance(row.get(arm), Mapping) for row in scores.values())]
    lines = [f"| score | {' | '.join(arms)} | n |", "|---" * (len(arms) + 2) + "|"]
    for name, row in scores.items():
        lines.append(f"| {_cell(name)} | {' | '.join(_figure(row.get(arm)) for arm in arms)} | {row.get('n', '?')} |")
    return (
        "## Scores\n\nOn held-out rows, with 95 % intervals. These are the tuned model's before it was exported; how far the export "
        + ("differs stands at the end.\n\n" + "\n".join(lines))
    )


def _figure(value: Any) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("mean"), int | float):
        return "–"
    if not isinstance(value.get("low"), int | float):
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _forgot(subject: Subject) -> str:
    told = subject.report.get("forgetting") or {}
    if told.get("applicable") and told.get("scores"):
        lines = ["| general ability | base | tuned | difference | n |", "|---|---|---|---|---|"]
        for name, row in told["scores"].items():
            figures = " | ".join(_figure(row.get(arm)) for arm in ARMS[:3])
            lines.append(f"| {_cell(name)} | {figures} | {row.get('n', '?')} |")
        return f"## What it forgot\n\n{told.get('verdict', '')}\n\n" + "\n".join(lines)
    return f"## What it forgot\n\n{told.get('why') or told.get('verdict') or 'Not measured.'}"


def _licence(subject: Subject, choices: Choices) -> str:
    own = choices.licence or "not stated by whoever exported it (`--license`)"
    return (
        f"## Licence\n\nThis model: {own}. Its base, `{subject.base}`: {base_licence(subject)}. The licences of base and data bind the result "
        f"as far as they say so."
    )


def base_licence(subject: Subject) -> str:
    """Return the licence that the base's own folder states, or where to look."""
    folder = Path(subject.model.found.base)
    if subject.base in BUNDLED:
        return "Apache-2.0"
    if not folder.is_dir():
        return "see the card of that model"
    for name in ("README.md", "LICENSE", "LICENSE.txt"):
        path = folder / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if name == "README.md" and (found := re.search(r"^license:\s*[\"']?([\w.-]+)", text, flags=re.MULTILINE)):
            return found[1]
        if name != "README.md" and text.strip():
            return text.strip().splitlines()[0].strip()[:80]
    return "not stated"


def _checks(made: Made) -> str:
    lines = [f"- {check.line()}" for check in made.checks]
    notes = [f"- {note}" for note in made.notes]
    return "## Compared with the tuned model\n\nThe exported files were read again and compared:\n\n" + "\n".join([*lines, *notes])


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
