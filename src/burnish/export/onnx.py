"""Export to ONNX: a head, or an encoder, for ONNX Runtime.

Enters: a `Subject` that reads and does not write. Leaves: `model.onnx` (tokens and mask in, scores out; any number of rows of any length), the
tokenizer, and `scores.json` with what the scores mean. ONNX Runtime opens the file again, and its scores on held-out rows are compared, padded
together and one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.errors import BurnishError, ModelError, UsageError
from burnish.export.bundle import Made, step_failed
from burnish.export.ecosystem import at_places, head_facts, scores_check, text_checks, tuned_scores
from burnish.export.parity import Check
from burnish.export.subject import Choices, Probe, Subject, probes
from burnish.merge import exact, merge_in_place
from burnish.models import load_model

FILE = "model.onnx"


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise ModelError for a model that writes text, and for heads beside a network; UsageError without the libraries."""
    if not subject.has_head:
        raise ModelError(
            f"{subject.name} writes text, token by token with a cache, which an ONNX file of one step cannot. Use --to gguf, ollama or vllm; "
            f"--to onnx is for heads (classes, numbers, tags, answers) and encoders."
        )
    if subject.model.heads:
        raise ModelError(
            f"{subject.name} has heads of several tasks beside one network, and an ONNX file holds one. Tune the task alone."
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"ONNX files need the library {error.name}: pip install 'burnish[export]'") from None


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write file, tokenizer and meaning into `folder`, and compare with the tuned model."""
    rows = probes(subject)
    expected = tuned_scores(subject, rows)
    try:
        _write(_dense(subject), rows, folder / FILE, span=_is_span(subject))
        subject.model.tokenizer.save_pretrained(str(folder))
        (folder / "scores.json").write_text(json.dumps(head_facts(subject), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        checks = [*text_checks(subject, folder), *_compare(subject, folder / FILE, rows, expected, choices)]
    except BurnishError:
        raise
    except Exception as error:
        raise step_failed("writing and opening the ONNX file", error, to="onnx") from error
    use = (
        f"python -c \"import onnxruntime; print([i.name for i in onnxruntime.InferenceSession('{choices.output / FILE}').get_inputs()])\""
        "   # input_ids and attention_mask, int64 [rows, tokens]"
    )
    notes = []
    if subject.model.spec is not None and subject.model.spec.twice:
        notes.append("The head reads a text twice over: write its tokens twice before asking, as burnish does.")
    return Made(checks, "float32", use, {"file": FILE, "head": head_facts(subject)}, notes)


def _is_span(subject: Subject) -> bool:
    return subject.model.spec is not None and subject.model.spec.kind == "span"


def _dense(subject: Subject) -> Any:
    """Return the network with an adapter merged into it."""
    if not subject.is_adapter:
        return subject.model.plain()
    again = load_model(subject.name, exact())
    merge_in_place(again, "float32")
    return again.network


def _write(network: Any, rows: Sequence[Probe], path: Path, *, span: bool) -> None:
    """Trace the network on two rows of unequal length and write it, weights inside the file where it can hold them."""
    import logging
    import warnings

    import torch

    network.config.use_cache = False
    # Eager attention is made of operations that every runtime has.
    network.set_attn_implementation("eager")

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        outputs = network(input_ids=input_ids, attention_mask=attention_mask)
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1) if span else outputs.logits

    # Plain tensors in and one tensor out, as a traced module must have them.
    scores = torch.nn.Module()
    scores.add_module("network", network)
    scores.forward = forward
    ids_BT, mask_BT = padded([probe.tokens_T for probe in (*rows, *rows)[:2]], int(network.config.pad_token_id or 0))
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    told = logging.getLogger("torch.onnx")
    level = told.level
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        told.setLevel(logging.ERROR)  # it tells of libraries that are not installed and not needed
        program: Any = torch.onnx.export(
            scores.eval(),
            (torch.as_tensor(ids_BT), torch.as_tensor(mask_BT)),
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["scores"],
            dynamic_shapes=(dynamic, dynamic),
            verbose=False,
        )
    told.setLevel(level)
    program.save(str(path))


def padded(rows: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as one array filled up on the right, and its mask."""
    longest = max(map(len, rows))
    ids_BT, mask_BT = np.full((len(rows), longest), pad_id, np.int64), np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)], mask_BT[number, : len(row)] = row, 1
    return ids_BT, mask_BT


def _compare(subject: Subject, path: Path, rows: Sequence[Probe], expected: Sequence[np.ndarray], choices: Choices) -> list[Check]:
    """Return the checks of the file's scores: rows one by one, and in padded batches of eight."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pad_id: Any = subject.model.tokenizer.pad_token_id

    def asked(part: Sequence[Probe]) -> list[np.ndarray]:
        ids_BT, mask_BT = padded([probe.tokens_T for probe in part], int(pad_id or 0))
        scores: Any = session.run(["scores"], {"input_ids": ids_BT, "attention_mask": mask_BT})[0]
        found = []
        for number, probe in enumerate(part):
            one = scores[number]
            found.append(at_places(subject, one if one.ndim == 1 else one[: len(probe.tokens_T)], probe))
        return found

    alone = [asked([probe])[0] for probe in rows]
    together = [found for start in range(0, len(rows), 8) for found in asked(rows[start : start + 8])]
    return [
        scores_check("scores", expected, alone, choices.tolerance),
        scores_check("scores of padded rows", expected, together, choices.tolerance),
    ]
