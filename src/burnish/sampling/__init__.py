"""Sampling: let a model continue prompts, and measure how likely it finds given tokens.

Enters: a `Model` and token arrays. Leaves: `Generated` answers, pieces of text as they arise, or likelihoods. Nothing here draws from
a global random generator, and no result depends on how the prompts were batched.
"""

from __future__ import annotations

from burnish.sampling.choose import Options, choose, uniforms
from burnish.sampling.flight import Generated, Reason, text_of
from burnish.sampling.generate import generate, stream
from burnish.sampling.likelihoods import likelihoods

__all__ = ["Generated", "Options", "Reason", "choose", "generate", "likelihoods", "stream", "text_of", "uniforms"]
