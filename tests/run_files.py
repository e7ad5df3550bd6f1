"""Run files and registries for the tests of the configuration; nothing here is a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from pydantic import Field

from burnish import config
from burnish.errors import ConfigError

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
"""The machine may be busy, and a temporary folder may serve several examples."""


def sft(outputs: object, batch: object) -> None: ...


def dpo(
    outputs: object,
    batch: object,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    kind: Literal["sigmoid", "hinge"] = "sigmoid",
    reference: str | None = None,
) -> None: ...


def lora(network: object, *, rank: int = 8, alpha: float = 16, modules: tuple[str, ...] = ("all",), notes: Any = None) -> None: ...


def full(network: object) -> None: ...


def unfinished(network: object, *, width: int) -> None: ...


@dataclass(frozen=True)
class Entry:
    function: Callable[..., None]


REGISTRIES: config.Registries = {
    "objective": {"sft": Entry(sft), "dpo": Entry(dpo)},
    "technique": {"lora": lora, "full": full, "unfinished": unfinished},
    "score": ["accuracy", "macro_f1", "bleu"],
    "format": {"messages": None, "labelled": None},
}


def load(path: Path | None = None, *overrides: str, **layers: Any) -> config.Resolved:
    return config.load(path, overrides, registries=REGISTRIES, **layers)


def run_toml(folder: Path, text: str, name: str = "run.toml") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def problems(path: Path | None, *overrides: str, **layers: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, *overrides, **layers)
    assert caught.value.exit_code == 2
    heading, *rest = str(caught.value).replace(f"{path}", "run.toml").splitlines()
    assert heading.endswith(f": {len(rest)} problem{'s' if len(rest) != 1 else ''}")
    return [line.removeprefix("  - ") for line in rest]
