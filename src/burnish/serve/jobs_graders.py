"""What the graders of a hosted service are in scores of ours, where they correspond; what does not correspond is refused with the reason.

Enters: the `grader` of a reinforcement job. Leaves: parts of a reward by score and weight, and the column that holds what is expected. A
grader that runs code or asks another model of a hosted service has no counterpart: code that comes over a network is not run here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.config_named import parted
from burnish.errors import ConfigError, suggestion
from burnish.scores import SCORES

ANSWER = re.compile(r"\s*\{\{\s*sample\.output_text\s*\}\}\s*")
FIELD = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
ITEM = re.compile(r"item\.([^.\[\]{}]+)")
SIMILAR = {"rouge_l": "rouge_l", "bleu": "bleu"}
"""Metrics of text similarity that a score of ours counts."""
OPERATIONS = {"eq": "exact_match(strict=true)"}
"""Checks of a string that a score of ours is; the space around both is taken away."""
REFUSED = {
    "python": "it runs code that came over the network, which is not done here. Use a score of burnish by its name, or write one of your "
    "own for `burnish tune`",
    "score_model": "it asks a judge model of the hosted service. A reward model of your own judges in `burnish tune` (rollout.reward)",
    "label_model": "it asks a judge model of the hosted service. A reward model of your own judges in `burnish tune` (rollout.reward)",
    "endpoint": "it asks another server",
}
KNOWN = ("string_check", "text_similarity", "multi", "burnish")


@dataclass(frozen=True, slots=True)
class Graded:
    """What a grader became: score -> weight, and the column, or template of columns, that holds what is expected (None: none is read)."""

    rewards: Mapping[str, float]
    reference: str | None


def graded(grader: Any, where: str) -> Graded:
    """Return what a grader is in scores of ours; raises ConfigError, which names the part that has no counterpart."""
    if not isinstance(grader, Mapping):
        raise ConfigError(f"{where}: expected an object with a type, one of {', '.join(KNOWN)}.")
    kind = grader.get("type")
    if kind != "multi":
        return _single(grader, where)
    graders = grader.get("graders")
    if isinstance(graders, Mapping) and isinstance(graders.get("type"), str):  # a single one, not yet by name
        graders = {str(graders.get("name")): graders}
    if not isinstance(graders, Mapping) or not graders:
        raise ConfigError(f"{where}.graders: expected an object with a grader by each name.")
    weights = linear(grader.get("calculate_output"), f"{where}.calculate_output")
    if unknown := sorted(set(weights) - set(graders)):
        raise ConfigError(f"{where}.calculate_output: there is no grader {unknown[0]!r}.{suggestion(unknown[0], graders)}")
    if unused := sorted(set(graders) - set(weights)):
        raise ConfigError(f"{where}.calculate_output: does not use the grader {unused[0]!r}: take it out, or use it.")
    rewards: dict[str, float] = {}
    references: set[str] = set()
    for name, one in graders.items():
        found = graded_part(one, f"{where}.graders.{name}")
        for score, weight in found.rewards.items():
            if score in rewards:
                raise ConfigError(f"{where}.graders.{name}: is the same score as another one ({score}): give it one weight.")
            rewards[score] = weight * weights[name]
        references |= set() if found.reference is None else {found.reference}
    if len(references) > 1:
        raise ConfigError(
            f"{where}.graders: compare with {len(references)} different texts; here all graders of a job compare with one reference."
        )
    return Graded(rewards, next(iter(references), None))


def graded_part(grader: Any, where: str) -> Graded:
    """Return what a grader inside a mix is; one mix inside another is refused."""
    if not isinstance(grader, Mapping) or grader.get("type") == "multi":
        raise ConfigError(f"{where}: expected a grader of one of the types {', '.join(KNOWN[:2])}, burnish.")
    return _single(grader, where)


def _single(grader: Mapping[str, Any], where: str) -> Graded:
    kind = grader.get("type")
    if kind in REFUSED:
        raise ConfigError(f"{where}: a grader of the type {kind!r} is not offered: {REFUSED[str(kind)]}.")
    if kind == "string_check":
        _refuse_others(grader, where, {"type", "name", "input", "reference", "operation"})
        operation = grader.get("operation")
        if operation not in OPERATIONS:
            raise ConfigError(f"{where}.operation: {operation!r} is not offered; expected 'eq' (the answer equals the reference).")
        score = OPERATIONS[operation]
    elif kind == "text_similarity":
        _refuse_others(grader, where, {"type", "name", "input", "reference", "evaluation_metric"})
        metric = grader.get("evaluation_metric")
        if metric not in SIMILAR:
            raise ConfigError(
                f"{where}.evaluation_metric: {metric!r} is not offered; expected one of {', '.join(SIMILAR)}. "
                "Another score of burnish is named by a grader {'type': 'burnish', 'score': 'token_f1', 'reference': …}."
            )
        score = SIMILAR[metric]
    elif kind == "burnish":
        _refuse_others(grader, where, {"type", "name", "score", "reference"})
        score = _score(grader.get("score"), f"{where}.score")
        reference = grader.get("reference")
        return Graded({score: 1.0}, None if reference is None else _reference(reference, f"{where}.reference"))
    else:
        raise ConfigError(f"{where}.type: {kind!r} is not one of {', '.join(KNOWN)}.{suggestion(str(kind), KNOWN)}")
    if not isinstance(grader.get("input"), str) or not ANSWER.fullmatch(grader["input"]):
        raise ConfigError(
            f"{where}.input: expected '{{{{sample.output_text}}}}', the whole answer; parts of it are not graded here."
        )
    return Graded({score: 1.0}, _reference(grader.get("reference"), f"{where}.reference"))


def _refuse_others(grader: Mapping[str, Any], where: str, known: set[str]) -> None:
    for name in grader:
        if name not in known:
            raise ConfigError(f"{where}.{name}: is not known here.{suggestion(str(name), known)}")


def _score(given: Any, where: str) -> str:
    """Return a score by its name, perhaps with options; code of a user's own is not named over the network."""
    if not isinstance(given, str):
        raise ConfigError(f"{where}: expected the name of a score, such as 'token_f1' or 'last_number(tolerance=0.1)'.")
    name, _ = parted(given)
    if name not in SCORES:
        raise ConfigError(f"{where}: unknown score {name!r}.{suggestion(name, SCORES)} Expected one of {', '.join(SCORES)}.")
    if SCORES[name].needs != "text":
        raise ConfigError(
            f"{where}: {name!r} measures the likelihood of a given text, which an answer of the model's own does not have."
        )
    return given


def _reference(given: Any, where: str) -> str:
    """Return the column that a reference names, or a template of columns as `data.columns` takes it."""
    if not isinstance(given, str) or not FIELD.search(given):
        raise ConfigError(
            f"{where}: expected a field of the row such as '{{{{item.answer}}}}'; a fixed text is not compared with here."
        )
    pieces: list[str] = []
    last = 0
    names = []
    for match in FIELD.finditer(given):
        item = ITEM.fullmatch(match[1])
        if item is None:
            raise ConfigError(f"{where}: {match[0]} is not a field of the row; expected '{{{{item.NAME}}}}'.")
        names.append(item[1].strip())
        pieces += [_braced(given[last : match.start()]), f"{{{names[-1]}}}"]
        last = match.end()
    pieces.append(_braced(given[last:]))
    return names[0] if given.strip() == FIELD.search(given)[0] else "".join(pieces)  # type: ignore[index]


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def linear(formula: Any, where: str) -> dict[str, float]:
    """Return the weights of names in a formula that is a weighted sum, such as "0.7 * a + 0.3 * b"; ConfigError for any other."""
    refused = ConfigError(
        f"{where}: expected a weighted sum of graders such as '0.7 * a + 0.3 * b'; other formulas are not offered."
    )
    if not isinstance(formula, str) or len(formula) > 2000:
        raise refused
    try:
        weights, constant = _terms(ast.parse(formula.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, ArithmeticError):
        raise refused from None
    if constant or not weights or not all(weights.values()):
        raise refused
    return weights


def _terms(node: ast.expr) -> tuple[dict[str, float], float]:
    """Return the weights of names and the constant of a linear expression; ValueError for any other."""
    if isinstance(node, ast.Name):
        return {node.id: 1.0}, 0.0
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return {}, float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _scaled(_terms(node.operand), -1.0)
    if isinstance(node, ast.BinOp):
        left, right = _terms(node.left), _terms(node.right)
        if isinstance(node.op, ast.Add | ast.Sub):
            other = _scaled(right, 1.0 if isinstance(node.op, ast.Add) else -1.0)
            return {name: left[0].get(name, 0.0) + other[0].get(name, 0.0) for name in {**left[0], **other[0]}}, left[1] + other[1]
        if isinstance(node.op, ast.Mult) and not (left[0] and right[0]):
            return _scaled(right, left[1]) if right[0] else _scaled(left, right[1])
        if isinstance(node.op, ast.Div) and not right[0]:
            return _scaled(left, 1.0 / right[1])
    raise ValueError


def _scaled(terms: tuple[dict[str, float], float], factor: float) -> tuple[dict[str, float], float]:
    return {name: weight * factor for name, weight in terms[0].items()}, terms[1] * factor
