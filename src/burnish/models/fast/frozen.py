"""Frozen prefixes: below the lowest parameter that moves a model says the same of a row in every epoch, so that is computed once.

Enters: a model whose parameters are marked, and the sequences that it learns from. Leaves: the same sequences, which name rows of a table
of hidden states, and a model whose forward pass begins at these rows where a batch names them (`begun`). The plain twin is the model as
it stands; every other batch still takes it. Where the layers end is found by running them: the first one whose output wants a gradient.

What a row costs is its hidden states in the format in which they were computed, those of all its tokens; of a trunk that is frozen
wholly only those that its head reads. Source of the idea: Liu et al. 2021, "AutoFreeze", arXiv 2102.01386.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.data.batching import collate, cut_padded
from burnish.models import virtual
from burnish.types import Batch, Kept, Layout, Sequence

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

Units = list[list[Sequence]]


@dataclass(slots=True, eq=False)
class Prefix:
    """The frozen part of a model that is passed over where its hidden states are at hand; a class because they persist."""

    modules: list[Any]
    """The layers from the first one on, or the trunk alone where no part of it moves and its head is run apart."""
    layers: tuple[int, int]
    """How many layers are passed over, of how many."""
    reads: Literal["all", "places", "first"]
    """Of which tokens hidden states are needed: of all, of those with a read-out, or of the first one."""
    width: int
    dtype: torch.dtype
    first_rows: list[int] = field(default_factory=list)
    tables: list[torch.Tensor] = field(default_factory=list)
    now: Any = None
    """Hidden states [B, T, H] at which the forward pass under way begins; None where it begins at the tokens."""
    noted: Any = None
    """What the last module said, where it is asked for: then nothing above it is run."""
    noting: bool = False

    @property
    def rows(self) -> int:
        """How many hidden states are kept."""
        return self.first_rows[-1] + len(self.tables[-1]) if self.tables else 0

    @property
    def size(self) -> int:
        """How many bytes they take."""
        return self.rows * self.row_size

    @property
    def row_size(self) -> int:
        """Bytes of one hidden state."""
        return self.width * self.dtype.itemsize

    def at(self, kept_BT: torch.Tensor) -> torch.Tensor:
        """Return hidden states [B, T, H] by their rows, which are all of one table."""
        number = bisect.bisect_right(self.first_rows, int(kept_BT[0, 0])) - 1
        return self.tables[number][kept_BT - self.first_rows[number]]


class _Enough(Exception):
    """The last module of a prefix has said what was asked for."""


@contextmanager
def begun(prefix: Prefix | None, layout: Layout) -> Iterator[None]:
    """Let the forward pass inside the `with` block begin where a layout's kept hidden states end; at its tokens where it has none."""
    if prefix is None or layout.kept_BT is None:
        yield
        return
    prefix.now = prefix.at(layout.kept_BT).to(layout.input_ids_BT.device)
    try:
        yield
    finally:
        prefix.now = None


def keep(
    model: Model,
    units: Units,
    *,
    limit: int,
    tokens: int,
    undropped: bool = False,
    all_or_none: bool = False,
    needs: tuple[str, ...] = (),
    between: Callable[[str], None] = lambda line: None,
) -> tuple[Units, str]:
    """Return the units with their frozen prefixes kept, as many as `limit` bytes hold, and what was done or why not in a sentence.

    With `undropped` the layers below drop nothing out from now on, where they would; else nothing is kept of such. `all_or_none` keeps
    nothing where not all fit. A few sequences are then read in both ways: of what the objective `needs` both must say the same.
    `between` is told how far it is, between batches of at most `tokens` positions, and may raise to stop. The sentence is empty
    where no layer is frozen below one that moves.
    """
    flat = [sequence for unit in units for sequence in unit]
    found = model.prefix or find(model, min(flat, key=lambda one: one.length), undropped=undropped)
    if not isinstance(found, Prefix):
        return units, found
    placed, distinct, rows = _placed(found, units, limit=limit - found.size)
    several = sum(one.kept is not None for unit in placed for one in unit)
    if not several or (all_or_none and several < len(flat)):
        needed = found.row_size * sum(len(_read(found, one)) for one in flat)
        return (
            units,
            f"Not kept: what {_named(found)} say would take {needed / 1e9:.2g} GB, and there are {limit / 1e9:.2g} GB for it.",
        )
    _pass_over(found)
    model.prefix = found
    _fill(model, found, distinct, rows, tokens=tokens, between=between)
    if not _agrees(model, units, placed, needs):
        let_go(model)
        return units, f"Not kept: this architecture gives other numbers where it begins behind {_named(found)}."
    return placed, f"What {_named(found)} say is kept of {several:,} of {len(flat):,} sequences: {found.size / 1e9:.2g} GB"


def _named(prefix: Prefix) -> str:
    """Return which layers a prefix is, in words."""
    number, total = prefix.layers
    return f"all {total} frozen layers" if number == total else f"the {number} lowest of {total} layers"


# --------------------------------------------------------------------------------------------------------------- where a prefix ends


def find(model: Model, sample: Sequence, *, undropped: bool = False) -> Prefix | str:
    """Return the frozen prefix of a model, found by running it over a sequence; else why there is none to keep, "" for nothing frozen."""
    layers, trunk = _layers(model.trunk()), model.trunk()
    if virtual.is_virtual(model.network):
        return "Not kept: virtual positions before every sequence change what each layer says."
    if not layers:
        return ""
    batch = _batch(model, [replace(sample, streams={})])
    with _in_mode(model.network, training=False):
        said = _observed(model, [*layers, trunk], batch)
    if [one.module for one in said] != [*layers, trunk]:
        return ""  # layers that are left out, repeated or run in another order are no prefix
    number = next((place for place, one in enumerate(said) if one.moves), len(said))
    if number == 0:
        return ""
    whole = number == len(said)
    apart = whole and model.head == "separate"
    last = said[-1] if apart else said[min(number, len(layers)) - 1]
    if _drops(model, [*layers, trunk], batch, last):
        if not undropped:
            return (
                f"Not kept: the {min(number, len(layers))} lowest of {len(layers)} layers do not move, but drop out a part of what they say. "
                f"With train.reuse = true they drop nothing and are computed once."
            )
        for module in last.before:
            _lock(module)
        if _drops(model, [*layers, trunk], batch, last):
            return "Not kept: layers that do not move say different things of the same tokens."
    prefix = Prefix(
        modules=[trunk] if apart else layers[:number],
        layers=(min(number, len(layers)), len(layers)),
        reads="places" if apart else "all",
        width=last.states_BTH.shape[-1],
        dtype=last.states_BTH.dtype,
    )
    if whole and not apart and model.encoder and model.spec is not None and _reads_first(model, prefix, batch, last.states_BTH):
        prefix.reads = "first"
    return prefix


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What a module said: its hidden states, whether they want a gradient, and the modules that were done before it."""

    module: Any
    states_BTH: torch.Tensor
    moves: bool
    before: list[Any]


def _layers(trunk: Any) -> list[Any]:
    """Return the layers of a trunk: the list that holds most of its weights."""
    import torch

    lists = [module for module in trunk.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=lambda item: sum(parameter.numel() for parameter in item.parameters()), default=()))


def _batch(model: Model, sequences: list[Sequence]) -> Batch:
    """Return sequences as they stand in a padded batch."""
    return collate(sequences, packing=False, pad_id=model.pad_id(), device=model.device, mask=model.encoder)


def _observed(model: Model, watched: list[Any], batch: Batch) -> list[_Said]:
    """Run the trunk as where gradients are computed, and return what the watched modules said, in the order in which they did."""
    import torch

    from burnish.models.forward import as_in_training, model_inputs

    said: list[_Said] = []
    done: list[Any] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        done.append(module)
        if any(module is one for one in watched):
            states_BTH = _states(output)
            said.append(_Said(module, states_BTH.detach(), states_BTH.requires_grad, list(done)))

    hooks = [module.register_forward_hook(note) for module in model.trunk().modules()]
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.compiler.set_stance("force_eager"),
            torch.enable_grad(),
            as_in_training(model),
        ):
            model.trunk()(**model_inputs(model, batch.layout))
    finally:
        for hook in hooks:
            hook.remove()
    return said


def _states(output: Any) -> torch.Tensor:
    """Return the hidden states in what a layer or a trunk gives."""
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0] if isinstance(output, tuple) else output


def _drops(model: Model, watched: list[Any], batch: Batch, last: _Said) -> bool:
    """Return whether a module says something else in training than in use: dropout, or its like."""
    import torch

    with _in_mode(model.network, training=True):
        said = _observed(model, watched, batch)
    return not all(torch.equal(one.states_BTH, last.states_BTH) for one in said if one.module is last.module)


@contextmanager
def _in_mode(network: Any, *, training: bool) -> Iterator[None]:
    """Run a network in training or in use inside the `with` block; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, before in modes:
            module.training = before


def _lock(module: Any) -> None:
    """Leave a module in the mode in which a model is used, whatever its network is switched to."""
    module.eval()
    module.train = lambda mode=True: module


def _reads_first(model: Model, prefix: Prefix, batch: Batch, states_BTH: torch.Tensor) -> bool:
    """Return whether a head that is part of its class reads nothing but the first token of a text."""
    import torch

    from burnish.models.forward import model_inputs
    from burnish.models.heads import whole_scores
    from burnish.models.probe import exact_products

    if states_BTH.shape[1] < 2 or model.spec is None or model.spec.kind != "sequence":
        return False
    inputs = model_inputs(model, batch.layout)
    first: dict[str, Any] = {name: value[:, :1] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    _pass_over(prefix)
    try:
        with _in_mode(model.network, training=False), torch.no_grad(), exact_products():
            whole = whole_scores(model, inputs)
            prefix.now = states_BTH[:, :1]
            return bool(torch.allclose(whole_scores(model, first), whole, rtol=1e-2, atol=1e-3))
    except (TypeError, ValueError, RuntimeError):
        return False
    finally:
        prefix.now = None


# ------------------------------------------------------------------------------------------------------------------- passing it over


def _pass_over(prefix: Prefix) -> None:
    """Let the modules of a prefix give what is kept where a forward pass begins behind them; names and weights stay as they are."""
    last = prefix.modules[-1]
    if "_burnish_prefix" in vars(last):
        return
    trunk = len(prefix.modules) == 1 and prefix.reads == "places"
    for module in prefix.modules:
        module.forward = _either(prefix, module.forward, last=module is last, trunk=trunk)
    vars(last)["_burnish_prefix"] = True


def _either(prefix: Prefix, plain: Callable[..., Any], *, last: bool, trunk: bool) -> Callable[..., Any]:
    """Return a module's forward pass that gives what is kept, or its input where another one will, and else runs as it stands."""
    as_tuple = False

    def forward(*inputs: Any, **options: Any) -> Any:
        nonlocal as_tuple
        if prefix.now is None:
            output = plain(*inputs, **options)
            as_tuple = isinstance(output, tuple)
            if last and prefix.noting:
                prefix.noted = _states(output)
                raise _Enough
            return output
        states_BTH = prefix.now if last else inputs[0] if inputs else options["hidden_states"]
        if trunk:
            return SimpleNamespace(last_hidden_state=states_BTH)
        return (states_BTH,) if as_tuple else states_BTH

    return forward


# --------------------------------------------------------------------------------------------------------------------- what is kept


def _placed(prefix: Prefix, units: Units, *, limit: int) -> tuple[Units, list[Sequence], list[np.ndarray]]:
    """Return the units, those that fit with the rows of their sequences; each distinct sequence, and the places of it that are kept.

    Sequences of the same tokens share their rows; of places that are not read, the tokens are left out of what is returned.
    """
    rows_of: dict[bytes, int] = {}
    distinct: list[Sequence] = []
    places: list[np.ndarray] = []
    placed: Units = []
    used = 0
    for unit in units:
        wanted = {}
        for one in unit:
            at = _read(prefix, one)
            wanted[one.tokens_T.tobytes() + (b"|" + at.tobytes() if prefix.reads == "places" else b"")] = (one, at)
        new = {key: value for key, value in wanted.items() if key not in rows_of}
        more = sum(len(at) for _, at in new.values())
        if (used + more) * prefix.row_size > limit:
            placed.append(unit)
            continue
        for key, (one, at) in new.items():
            rows_of[key] = prefix.rows + used
            used += len(at)
            distinct.append(one)
            places.append(at)
        placed.append([_shrunk(prefix, one, rows_of) for one in unit])
    return placed, distinct, places


def _read(prefix: Prefix, sequence: Sequence) -> np.ndarray:
    """Return the places of a sequence whose hidden states are needed."""
    if prefix.reads == "places":
        return np.unique(sequence.at_N)
    return np.arange(1 if prefix.reads == "first" else sequence.length)


def _shrunk(prefix: Prefix, one: Sequence, rows_of: dict[bytes, int]) -> Sequence:
    """Return a sequence of the tokens whose hidden states are kept, with their rows."""
    at = _read(prefix, one)
    row = rows_of[one.tokens_T.tobytes() + (b"|" + at.tobytes() if prefix.reads == "places" else b"")]
    kept = Kept(row, one.length)
    if prefix.reads == "all":
        return replace(one, kept=kept)
    at_N = np.searchsorted(at, one.at_N) if prefix.reads == "places" else np.zeros_like(one.at_N)
    return replace(one, tokens_T=one.tokens_T[at], at_N=at_N.astype(one.at_N.dtype), kept=kept)


def _fill(
    model: Model,
    prefix: Prefix,
    distinct: list[Sequence],
    places: list[np.ndarray],
    *,
    tokens: int,
    between: Callable[[str], None],
) -> None:
    """Run the prefix over the distinct sequences, in batches of like lengths that follow from them alone, and keep what it says."""
    import torch

    starts = np.cumsum([0, *(len(at) for at in places)])
    table_RH = torch.empty((int(starts[-1]), prefix.width), dtype=prefix.dtype)
    # The group carries each sequence's number through the batches, which are cut by length.
    units = [[replace(one, group=number + 1, task="main", streams={})] for number, one in enumerate(distinct)]
    micro_batches = cut_padded(units, tokens)
    tenth = max(1, len(micro_batches) // 10)
    for number, micro in enumerate(micro_batches, 1):
        states_BTH = _said_of(model, prefix, micro).cpu()
        for row, one in enumerate(micro):
            at, first = places[one.group - 1], int(starts[one.group - 1])
            table_RH[first : first + len(at)] = states_BTH[row, torch.from_numpy(at)]
        far = number % tenth == 0 and len(micro_batches) >= 20
        between(f"Reading what {_named(prefix)} say, once: {number} of {len(micro_batches)} batches" if far else "")
    prefix.first_rows.append(prefix.rows)
    prefix.tables.append(table_RH)


def _said_of(model: Model, prefix: Prefix, sequences: list[Sequence]) -> torch.Tensor:
    """Return what a prefix says of sequences, [B, T, H], computed as where gradients are; nothing above it is run."""
    import torch

    from burnish.models.forward import as_in_training, model_inputs

    prefix.noting = True
    try:
        with _in_mode(model.network, training=False), torch.no_grad(), as_in_training(model):
            model.trunk()(**model_inputs(model, _batch(model, sequences).layout))
    except _Enough:
        return prefix.noted
    finally:
        prefix.noting, prefix.noted = False, None
    raise AssertionError("the prefix was not run")


def _agrees(model: Model, units: Units, placed: Units, needs: tuple[str, ...]) -> bool:
    """Return whether a few kept sequences give what they give as they stand."""
    import torch

    from burnish.models.forward import as_in_training, forward
    from burnish.models.probe import alike

    pairs = [
        pair for old, new in zip(units, placed, strict=True) for pair in zip(old, new, strict=True) if pair[1].kept is not None
    ]
    few = sorted(pairs, key=lambda pair: pair[0].length)[:4]
    with _in_mode(model.network, training=False), torch.no_grad(), as_in_training(model):
        plain, begun = (
            forward(model, _batch(model, [replace(pair[way], group=0, task=few[0][0].task) for pair in few]), needs)
            for way in (0, 1)
        )
    both = [(getattr(plain, name), getattr(begun, name)) for name in plain.__dataclass_fields__]
    assert model.prefix is not None, "what is compared begins behind it"
    kind = model.prefix.dtype  # which says how far rounding may go
    return all(alike(found.to(kind), expected.to(kind)) for expected, found in both if expected is not None)


def let_go(model: Model) -> None:
    """Free what is kept of a model's frozen layers, whose rows no batch names any more."""
    if model.prefix is not None:
        model.prefix.tables.clear()
        model.prefix.first_rows.clear()
