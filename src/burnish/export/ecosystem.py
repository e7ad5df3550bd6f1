"""Open an exported folder with the ecosystem's own loaders, transformers and PEFT, as a stranger would, and compare.

Enters: a `Subject` and a folder that was just written. Leaves: networks that know nothing of burnish, and checks of texts, tokens and
heads. Nothing of `models.load` is used but the class of a head, so that a fault there cannot hide here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.template import render_prompt
from burnish.data.tokens import token_ids
from burnish.export.parity import EXACT, Check, texts_check, tokens_check
from burnish.export.subject import Probe, Subject, dialogs, rendered, texts
from burnish.models.heads import configure, loading_options, network_class


def open_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder, by transformers alone."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)


def open_network(subject: Subject, folder: Path) -> Any:
    """Return the network of a folder in float32: a whole model, or an adapter on its base, by transformers and PEFT alone."""
    import torch
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    spec, adapter = subject.model.spec, (folder / "adapter_config.json").is_file()
    place = subject.model.found.base if adapter else str(folder)
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    if spec is not None:
        pad_id: Any = subject.model.tokenizer.pad_token_id
        configure(config, spec, name=subject.name, pad_id=pad_id)
    network = network_class(None if spec is None else spec.kind).from_pretrained(
        place,
        config=config,
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
        **(loading_options(config, spec) if adapter else {}),
    )
    if adapter:
        from peft import PeftModel

        # New terms have their vectors in the adapter, and need rows in the base's table to stand for.
        rows = len(open_tokenizer(folder))
        if rows > network.get_input_embeddings().weight.shape[0]:
            network.resize_token_embeddings(rows, mean_resizing=False)
        network = PeftModel.from_pretrained(network, str(folder), is_trainable=False)
    return network.eval()


def text_checks(subject: Subject, folder: Path) -> list[Check]:
    """Return the checks that the folder's tokenizer cuts texts as the tuned model's, and that its template writes the same."""
    tokenizer = open_tokenizer(folder)
    own = subject.model.tokenizer
    checks = [
        tokens_check("tokens", texts(subject), lambda text: token_ids(own, text), lambda text: token_ids(tokenizer, text)),
    ]
    if not subject.has_head and subject.settings.get("form") != "text":
        shapes = dialogs(subject)
        wanted = [rendered(subject, messages) for messages in shapes]
        checks.append(texts_check("template", wanted, lambda number: render_prompt(tokenizer, shapes[number])))
    return checks


# -------------------------------------------------------------------------------------------------------------------------- heads


def head_differences(subject: Subject, folder: Path, rows: Sequence[Probe], *, tolerance: float | None) -> list[Check]:
    """Return the check of a head's scores: those of the tuned model against those of the folder, opened again."""
    if subject.model.heads or subject.model.spec is None:
        return [_beside(subject, folder, rows, tolerance)]
    network = open_network(subject, folder)
    return [scores_check("scores", tuned_scores(subject, rows), [_read(subject, network, probe) for probe in rows], tolerance)]


def tuned_scores(subject: Subject, rows: Sequence[Probe]) -> list[np.ndarray]:
    """Return the scores [N, C] that the tuned model's head gives to each row, by burnish's own way."""
    from burnish.reading import head_scores

    if subject.model.spec is not None and subject.model.spec.restores:
        return [_read(subject, subject.model.plain(), probe) for probe in rows]
    return head_scores(subject.model, [probe.row for probe in rows if probe.row is not None])


def _beside(subject: Subject, folder: Path, rows: Sequence[Probe], tolerance: float | None) -> Check:
    """Return the check of heads that stand beside the network, which only burnish opens."""
    from burnish.merge import exact
    from burnish.models import load_model
    from burnish.reading import head_scores

    again = load_model(str(folder), exact())
    sequences = [probe.row for probe in rows if probe.row is not None]
    return scores_check("scores", tuned_scores(subject, rows), head_scores(again, sequences), tolerance)


def _read(subject: Subject, network: Any, probe: Probe) -> np.ndarray:
    """Return what a network of the ecosystem says of one row, at the places that burnish reads."""
    import torch

    tokens_1T = torch.as_tensor(probe.tokens_T)[None]
    with torch.inference_mode():
        outputs = network(input_ids=tokens_1T, attention_mask=torch.ones_like(tokens_1T))
    if "start_logits" in outputs:
        whole = torch.stack([outputs.start_logits[0], outputs.end_logits[0]], dim=1).float().numpy()
    else:
        whole = outputs.logits[0].float().numpy()
    return at_places(subject, whole, probe)


def at_places(subject: Subject, whole: np.ndarray, probe: Probe) -> np.ndarray:
    """Return of a network's scores those that are read: one row for a pooled text, else one for each place."""
    spec = subject.model.spec
    if spec is not None and spec.kind == "sequence":
        return whole[None]
    if spec is not None and spec.restores:
        return whole[probe.places_P]
    assert probe.row is not None
    return whole[probe.row.at_N]


def scores_check(step: str, expected: Sequence[np.ndarray], found: Sequence[np.ndarray], tolerance: float | None) -> Check:
    """Return the check of scores: the largest difference as a share of the largest score."""
    limit = EXACT if tolerance is None else tolerance
    if [one.shape for one in expected] != [one.shape for one in found] or not expected:
        return Check(step, "scores of another shape:", float("inf"), limit, len(expected), "rows")
    largest = max(float(np.abs(one).max()) for one in expected if one.size)
    worst = max(float(np.abs(one - other).max()) for one, other in zip(expected, found, strict=True) if one.size)
    return Check(
        step, "largest difference of a score, as a share of the largest,", worst / max(largest, 1e-30), limit, len(expected), "rows"
    )


def head_facts(subject: Subject) -> dict[str, Any]:
    """Return what a reader of the scores must know: kind and labels of the head, and how a number is put back on its scale."""
    spec = subject.model.spec
    if spec is None:
        return {}
    return json.loads(json.dumps({"kind": spec.kind, "problem": spec.problem, "labels": list(spec.labels), "mean": spec.mean,
                                  "deviation": spec.deviation, "threshold": spec.threshold, "twice": spec.twice}))  # fmt: skip
