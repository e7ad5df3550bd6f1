"""Answers held to a form: valid for any model, at any limit of tokens, in the company of rows that are free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.errors import ConfigError
from burnish.models import Model
from burnish.sampling import Options
from burnish.sampling.flight import Flight, Generated, Row
from burnish.sampling.form import Place, calls_grammar, hold, json_grammar
from stub import load_stub

ORDER = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "amount": {"type": "integer"},
        "kind": {"enum": ["in", "out"]},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"t": {"type": "boolean"}}, "required": ["t"]}},
    },
    "required": ["name", "amount", "kind", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_stub(tmp_path_factory.mktemp("form"))


def held(model: Model, grammar: str) -> Any:
    size = int(model.output_head().weight.shape[0])
    return hold(model.tokenizer, grammar, size=size, ends=model.end_ids())


def answers(model: Model, grammar: str, options: list[Options]) -> list[Generated]:
    rows = [Row(n, n, 0, np.arange(60 + n, 80 + n), options=one, form=held(model, grammar)) for n, one in enumerate(options)]
    flight = Flight(model, options[0], rows=len(rows))
    flight.admit(rows)
    found: dict[Row, Generated] = {}
    while len(flight):
        found |= dict(flight.advance())
    return [found[row] for row in rows]


@pytest.mark.parametrize("limit", [60, 100, 200])
def test_a_random_model_answers_by_the_schema_at_any_limit(stub: Model, limit: int) -> None:
    """The stub says noise: whatever it would rather say, its answer is read by the schema, and ends in time."""
    options = [Options(max_tokens=limit, temperature=t, seed=s) for s in range(4) for t in (0.0, 1.0, 3.0)]
    for answer in answers(stub, json_grammar(ORDER), options):
        value = json.loads(answer.text)
        assert set(value) == set(ORDER["properties"]), answer.text
        assert isinstance(value["name"], str) and isinstance(value["amount"], int) and value["kind"] in ("in", "out")
        assert all(set(tag) >= {"t"} and isinstance(tag["t"], bool) for tag in value["tags"])
        assert len(answer.tokens) <= limit


def test_any_object_at_short_limits(stub: Model) -> None:
    options = [Options(max_tokens=limit, temperature=1.5, seed=limit) for limit in range(3, 60, 3)]
    for answer in answers(stub, json_grammar(None), options):
        assert isinstance(json.loads(answer.text), dict), answer.text


def test_a_call_between_marks(stub: Model) -> None:
    schema = {"type": "object", "properties": {"name": {"const": "find"}}, "required": ["name"], "additionalProperties": False}
    for answer in answers(stub, calls_grammar("<tool_call>", "</tool_call>", schema, special=False), [Options(max_tokens=60)]):
        assert json.loads(answer.text.removeprefix("<tool_call>").removesuffix("</tool_call>")) == {"name": "find"}
        assert answer.stopped


def test_the_company_of_a_form_changes_nothing(stub: Model) -> None:
    free, prompt = Options(max_tokens=20, temperature=1.0, seed=4), np.arange(60, 75)

    def alone_or_not(company: bool) -> list[int]:
        row = Row(0, 0, 0, prompt, options=free)
        flight = Flight(stub, free, rows=2)
        flight.admit([row, *([Row(1, 1, 0, prompt, form=held(stub, json_grammar(None)))] if company else [])])
        found: dict[Row, Generated] = {}
        while row not in found:
            found |= dict(flight.advance())
        return found[row].tokens.tolist()

    assert alone_or_not(True) == alone_or_not(False)


@pytest.mark.parametrize(
    "schema", [{"type": "objct"}, {"type": "string", "pattern": "("}, {"$ref": "http://localhost/x"}, {"uniqueItems": True}]
)
def test_a_schema_that_cannot_be_held_to_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be held to"):
        json_grammar(schema)


def test_place_in_json() -> None:
    place = Place()
    for text, inside in [('{"a', True), ('\\"b', True), ("\\\\", True), ('"', False), (': "x"', False)]:
        place.read(text)
        assert place.inside is inside


def test_likelihoods_are_the_models_own(stub: Model, tmp_path: Path) -> None:
    """What is forced is not certain: log-probabilities stay those of the model without the form."""
    (answer,) = answers(stub, json_grammar(ORDER), [Options(max_tokens=64)])
    assert answer.logprobs[0] < -1, "the stub does not expect a brace"
