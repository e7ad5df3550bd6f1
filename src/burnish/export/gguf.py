"""Export to GGUF: one file for llama.cpp and all that is built on it.

Enters: a `Subject` that writes text. Leaves: `NAME-F16.gguf` (or Q8_0, Q4_0) with weights, figures, tokenizer, chat template and where it
comes from. The file is read again by `gguf_read`, which shares no code with what wrote it, and computes from what the file itself says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from burnish import __version__
from burnish.errors import BurnishError, ModelError, UsageError
from burnish.export.bundle import Made, step_failed
from burnish.export.gguf_network import FAMILIES, refuse_network, tensors, write_figures
from burnish.export.gguf_tokenizer import Vocabulary, composes, vocabulary, write_vocabulary
from burnish.export.parity import Check, logits_checks, texts_check, tokens_check, tuned_logits
from burnish.export.subject import Choices, Probe, Subject, dialogs, probes, rendered, texts
from burnish.merge import exact, merge_in_place
from burnish.models import Model, load_model
from burnish.techniques.prompt import WHY_NOT

BITS = ("F16", "Q8_0", "Q4_0")
BLOCK = 32
"""Numbers that share a scale in Q8_0 and Q4_0."""


def refuse(subject: Subject, choices: Choices) -> None:
    """Raise ModelError for a model that GGUF cannot hold as it is, with the reason; UsageError without the library or for other bits."""
    if choices.bits not in BITS:
        raise UsageError(f"--bits {choices.bits} is not known. Use one of: {', '.join(BITS)}.")
    if subject.has_head or subject.model.heads:
        raise ModelError(
            f"{subject.name} reads by a head ({_labels(subject)}), and GGUF files are for models that write text. Use --to onnx, or --to merged."
        )
    if subject.has_virtual:
        raise ModelError(f"{subject.name} cannot be exported to GGUF: {WHY_NOT}. Tune with technique.name = 'lora' or 'full'.")
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UsageError("GGUF files need the library gguf: pip install 'burnish[export]'") from None
    try:
        refuse_network(subject.model.plain().config)
        _vocabulary(subject)
    except ModelError as error:
        raise ModelError(f"{subject.name} cannot be exported to GGUF: {error}") from error


def _labels(subject: Subject) -> str:
    spec = subject.model.spec or next(iter(subject.model.heads.values()))
    return ", ".join(spec.labels[:5]) or spec.kind


def _vocabulary(subject: Subject) -> Vocabulary:
    """Return the tokenizer as the file will hold it."""
    model = subject.model
    table: Any = model.plain().get_input_embeddings()
    return vocabulary(model.tokenizer, rows=int(table.weight.shape[0]), end_ids=model.end_ids(), starts=starts(subject))


def starts(subject: Subject) -> bool:
    """Return whether what the model was taught begins with the start token, which the runtime then puts there."""
    bos: Any = subject.model.tokenizer.bos_token
    if bos is None:
        return False
    return subject.settings.get("form") == "text" or rendered(subject, dialogs(subject)[0]).startswith(bos)


def fill(subject: Subject, folder: Path, choices: Choices) -> Made:
    """Write the file into `folder`, read it again and compare."""
    name = f"{subject.called}-{choices.bits}.gguf"
    # What the tuned model says is asked first, so that two models are never in memory at once for it.
    rows = probes(subject)
    expected = tuned_logits(subject.model, rows)
    update = write_gguf(subject, folder / name, choices.bits)
    try:
        checks = compare(subject, folder / name, rows, expected, choices)
    except BurnishError:
        raise
    except Exception as error:
        raise step_failed("reading the GGUF file again", error, to="gguf") from error
    facts: dict[str, Any] = {"file": name, "bits": choices.bits, "update": update}
    notes = []
    if update is not None and update["kept"] < 0.9:
        notes.append(
            f"Stored as {choices.bits}, {update['kept']:.0%} of what tuning changed is kept; the logits above tell what that costs."
        )
    if composes(subject.model.tokenizer):
        notes.append(
            "Its tokenizer composes accents (NFC) and llama.cpp does not: text whose accents stand apart has other tokens there."
        )
    return Made(checks, choices.bits, _use(choices, name, subject), facts, notes)


def _use(choices: Choices, name: str, subject: Subject) -> str:
    path = choices.output / name
    if subject.settings.get("form") == "text":
        return f"llama-cli -m {path} -no-cnv -p TEXT"
    # --jinja uses the template that is in the file, not llama.cpp's guess of it.
    return f"llama-server -m {path} --jinja"


# ------------------------------------------------------------------------------------------------------------------------- writing


def write_gguf(subject: Subject, path: Path, bits: str) -> dict[str, float] | None:
    """Write a tuned model as GGUF, and return how much of what an adapter changed is kept in these bits, None where there is none."""
    import gguf

    network, update = _dense(subject, bits)
    config = network.config
    writer = gguf.GGUFWriter(str(path), FAMILIES[config.model_type].architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(subject.called)
    writer.add_description(f"Tuned from {subject.base} with burnish {__version__}")
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, subject.base)
    writer.add_file_type(
        {"F16": gguf.LlamaFileType.MOSTLY_F16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}.get(bits, gguf.LlamaFileType.MOSTLY_Q4_0)
    )
    if bits != "F16":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    write_figures(writer, config, int(network.get_input_embeddings().weight.shape[0]))
    template = subject.model.tokenizer.chat_template if subject.settings.get("form") != "text" else None
    write_vocabulary(writer, _vocabulary(subject), template=_template(template))
    for name, weight in tensors(network):
        kind = stored_as(name, weight.shape, bits)
        writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return update


def _template(template: Any) -> str | None:
    """Return the one template of a tokenizer that has several by name: the default one."""
    return template.get("default") if isinstance(template, Mapping) else template


def stored_as(name: str, shape: tuple[int, ...], bits: str) -> Any:
    """Return in which number format a tensor is stored: vectors whole, tables in 8 bits at least, the rest as asked for."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(shape) == 1:
        return kinds.F32
    if bits == "F16" or shape[-1] % BLOCK:
        return kinds.F16
    if bits == "Q4_0" and name in ("token_embd.weight", "output.weight"):
        return kinds.Q8_0
    return kinds[bits]


def _dense(subject: Subject, bits: str) -> tuple[Any, dict[str, float] | None]:
    """Return the network with its adapter merged in float32, and what storing keeps of the update."""
    if not subject.is_adapter:
        return subject.model.plain(), None
    again: Model = load_model(subject.name, exact())
    update = merge_in_place(again, _rounding(bits))[1]
    return again.network, asdict(update)


def _rounding(bits: str) -> Any:
    """Return what storing a float32 matrix in these bits and reading it again makes of it."""

    def rounded(weight: Any) -> Any:
        import gguf
        import torch

        kind = stored_as("", tuple(weight.shape), bits)
        values = np.ascontiguousarray(weight.detach().float().numpy())
        return torch.from_numpy(gguf.dequantize(gguf.quantize(values, kind), kind).copy()) if weight.ndim > 1 else weight

    return rounded


# ----------------------------------------------------------------------------------------------------------------------- comparing


def compare(subject: Subject, path: Path, rows: list[Probe], expected: list[np.ndarray], choices: Choices) -> list[Check]:
    """Return the checks of a GGUF file against the tuned model: tokens, template, logits."""
    from burnish.data.template import render_prompt
    from burnish.data.tokens import token_ids
    from burnish.export.gguf_read import Opened, logits

    opened = Opened.of(path)
    own = subject.model.tokenizer
    compared = [normalize("NFC", text) for text in texts(subject)] if composes(own) else texts(subject)
    checks = [tokens_check("tokens", compared, lambda text: token_ids(own, text), opened.tokenizer())]
    if subject.settings.get("form") != "text":
        shapes = dialogs(subject)
        teller = opened.template_teller()
        wanted = [rendered(subject, messages) for messages in shapes]
        checks.append(texts_check("template", wanted, lambda number: render_prompt(teller, shapes[number])))
    found = logits(opened, [probe.tokens_T for probe in rows], [probe.places_P for probe in rows])
    checks += logits_checks("logits", expected, found, stored=choices.bits, tolerance=choices.tolerance)
    return checks
