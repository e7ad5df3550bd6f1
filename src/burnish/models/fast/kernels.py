"""Element-wise work between matrix products, one pass over memory each: norms, gated activations, heads, attention weights, the head.

Enters and leaves: tensors. On a CPU with a C++ compiler the loops of `kernels.cpp` do it, compiled once in a second or two and kept in
the user's cache; elsewhere, and for other types than float32 and bfloat16, the plain twins (`kernels_plain`) do. `choose` says which,
once before step 1, since they round differently. Letters beyond `types`: K heads of keys, G queries that share one, D their width.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from burnish.devices import cpu_flags, missing_compiler
from burnish.models.fast import kernels_plain as plain

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),  # what vectors need; not a number stays not a number
)

SOURCES = ("kernels.cpp", "token.cpp")

WIDEST_HEAD = 512
"""What `token.cpp` has room for."""

_chosen: dict[str, Any] = {"library": None}
"""The compiled loops, while this process uses them."""


def choose(compiled: bool) -> None:
    """Use the compiled loops from here on, or the plain twins. Raises RuntimeError where they cannot be compiled."""
    _chosen["library"] = _library() if compiled else None


def can_compile() -> str | None:
    """Compile the loops where that was not done yet; return None, or why it cannot be done here."""
    lacking = missing_compiler("cpu")
    if lacking is not None:
        return lacking
    try:
        _library()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"The loops of models/fast/kernels.cpp cannot be compiled here: {str(error).strip().splitlines()[0][:200]}"
    return None


@cache
def _library() -> ctypes.CDLL:
    """Return the compiled loops, from the cache where they are there."""
    import torch

    compiler = shlex.split(os.environ.get("CXX", "g++"))
    wide = ("-mprefer-vector-width=512",) if "avx512f" in cpu_flags() else ()
    read = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("numbers.h", *SOURCES))
    key = hashlib.sha256(read + repr((compiler, FLAGS, wide, sorted(cpu_flags()))).encode()).hexdigest()[:20]
    built = _folder() / f"kernels-{key}.so"
    if not built.is_file():
        _compile(built, [*compiler, *FLAGS, *wide])
    # The threads are those of torch: its OpenMP is the one whose names the library finds.
    for runtime in sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*")):
        ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(built))


def _folder() -> Path:
    """Return the folder of the user's cache for compiled loops, or a fresh one where there is none to write to."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base).expanduser() if base else Path.home() / ".cache") / "burnish" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="burnish-kernels-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="burnish-kernels-"))


def _compile(built: Path, command: list[str]) -> None:
    """Write the library, whole or not at all; RuntimeError with the compiler's first words where it fails."""
    with tempfile.TemporaryDirectory(dir=built.parent) as room:
        made = {name: Path(room) / f"{name}.o" for name in SOURCES}
        linked = Path(room) / "kernels.so"
        steps = [[*command, "-c", str(Path(__file__).with_name(name)), "-o", str(to)] for name, to in made.items()]
        for step in (*steps, [command[0], "-shared", *map(str, made.values()), "-o", str(linked)]):
            done = subprocess.run(step, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0:
                raise RuntimeError(done.stderr or f"{command[0]} failed")
        linked.replace(built)


# ---------------------------------------------------------------------------------------------------------------------------- calling


def _suffix(*tensors: Any) -> str | None:
    """Return how the loops for these tensors are called, None where there are none."""
    import torch

    names = {torch.bfloat16: "b", torch.float32: "f"}
    if _chosen["library"] is None or any(one.device.type != "cpu" or one.dtype not in names for one in tensors):
        return None
    return "".join(names[one.dtype] for one in tensors)


def _run(name: str, *arguments: Any) -> None:
    """Call a loop: tensors by address, None as a null pointer, floats in single precision, integers in 64 bits; the threads last."""
    import torch

    given: list[Any] = []
    for item in arguments:
        if isinstance(item, torch.Tensor):
            given.append(ctypes.c_void_p(item.data_ptr()))
        elif isinstance(item, float):
            given.append(ctypes.c_float(item))
        elif isinstance(item, bool):
            given.append(ctypes.c_int(item))
        else:
            given.append(ctypes.c_int64(item) if isinstance(item, int) else None)
    getattr(_chosen["library"], name)(*given, ctypes.c_int(torch.get_num_threads()))


def _floats(tensor: Any) -> Any:
    """Return a tensor's numbers as contiguous float32."""
    import torch

    return tensor.detach().to(torch.float32).contiguous()


def norm_forward(x_NH: Any, weight_H: Any, epsilon: float, dtype: Any) -> tuple[Any, Any]:
    """Return x scale weight in `dtype`, and scale [N] = 1 / sqrt(mean(x²) + epsilon) in float32 at least; `weight_H` as it multiplies.

    Source: Zhang and Sennrich 2019, arXiv 1910.07467.
    """
    import torch

    y_NH = torch.empty(x_NH.shape, dtype=dtype)
    kind = _suffix(x_NH, y_NH) if x_NH.is_contiguous() else None
    if kind not in ("bb", "fb", "ff"):
        return plain.norm_forward(x_NH, weight_H, epsilon, dtype)
    scale_N = torch.empty(len(x_NH), dtype=torch.float32)
    _run(f"norm_forward_{kind}", x_NH, _floats(weight_H), float(epsilon), y_NH, scale_N, *x_NH.shape)
    return y_NH, scale_N


def norm_again(x_NH: Any, weight_H: Any, scale_N: Any, dtype: Any) -> Any:
    """Return what `norm_forward` gave, from the scales that it gave beside it."""
    import torch

    y_NH = torch.empty(x_NH.shape, dtype=dtype)
    kind = _suffix(x_NH, y_NH) if x_NH.is_contiguous() else None
    if kind not in ("bb", "fb", "ff"):
        return plain.norm_again(x_NH, weight_H, scale_N, dtype)
    _run(f"norm_again_{kind}", x_NH, _floats(weight_H), scale_N, y_NH, *x_NH.shape)
    return y_NH


def norm_backward(gradient_NH: Any, x_NH: Any, weight_H: Any, scale_N: Any, moves: bool) -> tuple[Any, Any]:
    """Return the gradient at x, and (where the weight moves, else None) that at the weight, summed over rows in float32 at least."""
    import torch

    gradient_NH = gradient_NH.contiguous()
    kind = _suffix(x_NH, gradient_NH) if x_NH.is_contiguous() else None
    if kind not in ("bb", "fb", "ff"):
        return plain.norm_backward(gradient_NH, x_NH, weight_H, scale_N, moves)
    to_NH = torch.empty_like(x_NH)
    moved_KH = torch.zeros(torch.get_num_threads(), x_NH.shape[1], dtype=torch.float32) if moves else None
    _run(f"norm_backward_{kind}", gradient_NH, x_NH, _floats(weight_H), scale_N, to_NH, moved_KH, *x_NH.shape)
    return to_NH, None if moved_KH is None else moved_KH.sum(0)


def gate_forward(kind: str, gate_NH: Any, up_NH: Any) -> Any:
    """Return act(gate) up for `kind` "silu" or "gelu" (by tanh). Rows may stand apart, both by the same distance."""
    import torch

    name = _suffix(gate_NH)
    if name is None or not _same_rows(gate_NH, up_NH):
        return plain.gate_forward(kind, gate_NH, up_NH)
    to_NH = torch.empty(gate_NH.shape, dtype=gate_NH.dtype)
    _run(f"{kind}_forward_{name}", gate_NH, up_NH, to_NH, *gate_NH.shape, gate_NH.stride(0))
    return to_NH


def gate_backward(kind: str, gradient_NH: Any, gate_NH: Any, up_NH: Any) -> tuple[Any, Any]:
    """Return the gradients at gate and up."""
    import torch

    gradient_NH = gradient_NH.contiguous()
    name = _suffix(gate_NH)
    if name is None or not _same_rows(gate_NH, up_NH):
        return plain.gate_backward(kind, gradient_NH, gate_NH, up_NH)
    to_gate, to_up = (torch.empty(gate_NH.shape, dtype=gate_NH.dtype) for _ in range(2))
    shape = (*gate_NH.shape, gate_NH.stride(0), gate_NH.shape[1])
    _run(f"{kind}_backward_{name}", gradient_NH, gate_NH, up_NH, to_gate, to_up, *shape)
    return to_gate, to_up


def _same_rows(one: Any, other: Any) -> bool:
    """Return whether two matrices hold their rows alike, numbers of a row side by side."""
    return one.stride() == other.stride() and one.stride(1) == 1 and one.dtype == other.dtype


def heads_forward(x_BTH: Any, turn: tuple[Any, Any] | None, shared: int, width: int) -> Any:
    """Return heads in the order [B, K, T, G, D], the first numbers of each turned by (cos, sin) [B, T, R], float32; K is `shared`.

    Source: Su et al. 2021, arXiv 2104.09864, halves of a head as pairs.
    """
    import torch

    batch, length, columns = x_BTH.shape
    group = columns // (shared * width)
    name = _suffix(x_BTH) if x_BTH.is_contiguous() else None
    if name is None:
        return plain.heads_forward(x_BTH, turn, shared, width)
    to = torch.empty(batch, shared, length, group, width, dtype=x_BTH.dtype)
    _run(f"heads_forward_{name}", x_BTH, *_turn(turn), to, batch, length, shared, group, width, columns, _turned(turn))
    return to


def heads_backward(gradient: Any, turn: tuple[Any, Any] | None) -> Any:
    """Return the gradient at what `heads_forward` was given, [B, T, K G D], from that at what it gave; without `turn`: the order alone."""
    import torch

    gradient = gradient.contiguous()
    name = _suffix(gradient)
    if name is None:
        return plain.heads_backward(gradient, turn)
    batch, shared, length, group, width = gradient.shape
    columns = shared * group * width
    to_BTH = torch.empty(batch, length, columns, dtype=gradient.dtype)
    _run(f"heads_backward_{name}", gradient, *_turn(turn), to_BTH, batch, length, shared, group, width, columns, _turned(turn))
    return to_BTH


def _turn(turn: tuple[Any, Any] | None) -> tuple[Any, Any]:
    return (_floats(turn[0]), _floats(turn[1])) if turn is not None else (None, None)


def _turned(turn: tuple[Any, Any] | None) -> int:
    return turn[0].shape[-1] if turn is not None else 0


def weights_forward(scores: Any, first: int, group: int, causal: bool, factor: float) -> Any:
    """Turn scores [B, R, K], in place, into softmax(factor scores) over the keys that each row may see; return log-normalisers [B, R].

    Row r belongs to the query at place `first + r // group`; where `causal`, it sees the keys up to its own place.
    """
    import torch

    name = _suffix(scores)
    if name is None:
        return plain.weights_forward(scores, first, group, causal, factor)
    assert scores.is_contiguous()
    normaliser = torch.empty(scores.shape[:2], dtype=torch.float32)
    _run(f"weights_forward_{name}", scores, normaliser, _room(scores), *scores.shape, first, group, causal, float(factor))
    return normaliser


def weights_backward(scores: Any, above: Any, normaliser: Any, first: int, group: int, causal: bool, factor: float) -> None:
    """Turn scores into weights and `above`, the gradient at the weights, into that at the scores before the factor, both in place."""
    name = _suffix(scores)
    if name is None:
        plain.weights_backward(scores, above, normaliser, first, group, causal, factor)
        return
    assert scores.is_contiguous() and above.is_contiguous() and normaliser.is_contiguous()
    room = _room(scores)
    _run(f"weights_backward_{name}", scores, above, normaliser, room, *scores.shape, first, group, causal, float(factor))


def running(states: Any) -> bool:
    """Return whether the compiled loops are in use, for numbers like these."""
    return _suffix(states) is not None


def can_attend_token(states: Any, past: Any, width: int) -> bool:
    """Return whether there are loops for a token of each row over keys like `past`, heads `width` wide."""
    return width % 2 == 0 and width <= WIDEST_HEAD and _suffix(states) is not None and states.dtype == past.dtype


def token_forward(
    parts: tuple[Any, Any, Any], turn: tuple[Any, Any], past: tuple[Any, Any], column_B: Any, most: int, factor: float
) -> Any:
    """Put the keys and values of a token of each row into its slot and return what its queries mix of all that is there, [B, H D].

    `parts` are queries [B, H, D], keys and values [B, K, D], not turned yet; `turn` cos and sin [B, D], float32; `past` the slots of keys
    and values [S, K, C, D], of which row b has number b; the token stands at column `column_B`, `most` columns are seen at most.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; Su et al. 2021, arXiv 2104.09864.
    """
    import torch

    name, (rows, heads, width), shared = _suffix(parts[0]), parts[0].shape, parts[1].shape[1]
    group, columns = heads // shared, past[0].shape[2]
    assert name is not None and all(one.is_contiguous() for one in past) and all(one.stride()[1:] == (width, 1) for one in parts)
    assert most <= columns and rows <= len(past[0])
    room = torch.empty(torch.get_num_threads() * (group * width + 4 * most), dtype=torch.float32)
    to_BH = torch.empty(rows, heads * width, dtype=parts[0].dtype)
    shape = (rows, shared, group, width, columns, most)
    _run(
        f"token_forward_{name}",
        *parts,
        *(one.stride(0) for one in parts),
        *turn,
        *past,
        column_B,
        room,
        to_BH,
        *shape,
        float(factor),
    )
    return to_BH


def _room(scores: Any) -> Any:
    """Return room for a row of weights of each thread, in whole vectors."""
    import torch

    return torch.empty(torch.get_num_threads() * (scores.shape[2] + 16), dtype=torch.float32)


def head_forward(logits_NV: Any, target_N: Any, entropy: bool) -> tuple[Any, Any, Any]:
    """Return the targets' log-probabilities, log-normalisers and (where asked, else empty) entropies, [N] in float32 at least."""
    import torch

    name = _suffix(logits_NV)
    if name is None:
        return plain.head_forward(logits_NV, target_N, entropy)
    assert logits_NV.is_contiguous()
    target_N = target_N.to(torch.int64).contiguous()
    logprob_N, normaliser_N = (torch.empty(len(target_N), dtype=torch.float32) for _ in range(2))
    entropy_N = torch.empty(len(target_N) if entropy else 0, dtype=torch.float32)
    shape = logits_NV.shape
    _run(f"head_forward_{name}", logits_NV, target_N, logprob_N, normaliser_N, entropy_N if entropy else None, *shape)
    return logprob_N, normaliser_N, entropy_N


def head_backward(logits_NV: Any, target_N: Any, normaliser_N: Any, gradient_N: Any, entropy: tuple[Any, Any] | None) -> None:
    """Turn logits, in place, into the gradient at them: of log-probabilities by `gradient_N` (None: ones), and of entropies.

    `entropy` holds the entropies and the gradients at them. With p the probabilities: d logprob / d logit_j = [j = target] − p_j, and
    d entropy / d logit_j = −p_j (log p_j + entropy).
    """
    name = _suffix(logits_NV)
    if name is None:
        plain.head_backward(logits_NV, target_N, normaliser_N, gradient_N, entropy)
        return
    assert logits_NV.is_contiguous()
    target_N = target_N.long().contiguous()
    gradient_N = None if gradient_N is None else _floats(gradient_N)
    level_N, above_N = (None, None) if entropy is None else (_floats(entropy[0]), _floats(entropy[1]))
    _run(f"head_backward_{name}", logits_NV, target_N, normaliser_N, gradient_N, level_N, above_N, *logits_NV.shape)
