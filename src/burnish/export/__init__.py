"""Export: a tuned model in the forms that other programs open, each compared with the tuned model before it gets its name.

Enters: a `Subject` (a model that is loaded, with rows it has not seen) and the user's `Choices`. Leaves: a folder, or a refusal with its
reason before anything was written. A target is one file and one line below.
"""

from __future__ import annotations

from typing import Any

from burnish.errors import UsageError, suggestion
from burnish.export import adapter, gguf, hub, merged, ollama, onnx, vllm
from burnish.export.bundle import Target, write_export
from burnish.export.subject import Choices, Subject

TARGETS: dict[str, Target] = {
    "adapter": Target("the adapter beside its base, for PEFT", adapter.refuse, adapter.fill),
    "merged": Target("the whole model, for transformers", merged.refuse, merged.fill, ("dtype", "force")),
    "gguf": Target("one file for llama.cpp and what is built on it", gguf.refuse, gguf.fill, ("bits",)),
    "ollama": Target("GGUF with a Modelfile: template, stops, system message", ollama.refuse, ollama.fill, ("bits",)),
    "vllm": Target("a folder and the command that serves it", vllm.refuse, vllm.fill, ("dtype", "force")),
    "onnx": Target("a head or an encoder, for ONNX Runtime", onnx.refuse, onnx.fill),
    "hub": Target("a repository on a model hub, private", hub.refuse, hub.fill, ("dtype", "force", "repo", "public"), hub.upload),
}
"""Where a model can go, what writes it there, and which of the user's choices mean something to it."""


def find_target(name: str) -> Target:
    """Return a target by name; UsageError with the known ones, and the one that was probably meant."""
    if name not in TARGETS:
        raise UsageError(f"--to {name} is not known.{suggestion(name, TARGETS)} Targets: {', '.join(TARGETS)}.")
    return TARGETS[name]


def export(subject: Subject, to: str, choices: Choices) -> dict[str, Any]:
    """Export a subject and return what export.json holds, with the output and its files; raises what `write_export` raises."""
    return write_export(to, find_target(to), subject, choices)


__all__ = ["TARGETS", "Choices", "Subject", "Target", "export", "find_target"]
