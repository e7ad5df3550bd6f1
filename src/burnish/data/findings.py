"""What a check found, and how it is told.

In: rows that a rule points at. Out: findings with a level, a message and the first few origins. `checks` and `check_*` make them,
the data report shows them, and `raise_for_errors` stops a run before any weights are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from typing import Any, Literal

from burnish.errors import DataError, combined
from burnish.types import Origin

Level = Literal["error", "warning", "note"]

# How many rows a message names; the count tells about the rest.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that rows break: the first few of them, and how many there are."""

    level: Level
    rule: str
    message: str
    origins: tuple[Origin, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the checks found, errors first."""

    findings: tuple[Finding, ...] = ()

    def of(self, level: Level) -> tuple[Finding, ...]:
        """Return the findings of one level."""
        return tuple(found for found in self.findings if found.level == level)

    def rule(self, name: str) -> Finding | None:
        """Return the finding of a rule, None where the rule holds."""
        return next((found for found in self.findings if found.rule == name), None)

    def raise_for_errors(self, heading: str = "The data cannot be trained on") -> None:
        """Raise one DataError that lists every finding of level error; return where there is none."""
        if errors := self.of("error"):
            raise combined(DataError, heading, [found.message for found in errors])

    def as_json(self) -> list[dict[str, Any]]:
        """Return the findings as plain values, for reports."""
        return [
            {
                "level": found.level,
                "rule": found.rule,
                "message": found.message,
                "origins": [str(origin) for origin in found.origins],
                "count": found.count,
            }
            for found in self.findings
        ]


def joined(parts: Iterable[Findings | Finding | None]) -> Findings:
    """Return several findings as one, errors before warnings before notes, in order within a level."""
    order = {"error": 0, "warning": 1, "note": 2}
    flat: list[Finding] = []
    for part in parts:
        flat += part.findings if isinstance(part, Findings) else [part] if part is not None else []
    return Findings(tuple(sorted(flat, key=lambda found: order[found.level])))


def finding(
    level: Level, rule: str, *, what: str, hits: ListOf[tuple[Origin, str]], fix: str, shown: int = SHOWN, count: int | None = None
) -> Finding | None:
    """Return the finding of a rule that points at `hits` (origin, detail), one per row; None without hits.

    `what` completes "3 rows ..." or "1 row ..." ("... with an empty field"); `fix` is a sentence that says what to do. `count` is
    given where the rows are more than the hits.
    """
    if not hits:
        return None
    count = len(hits) if count is None else count
    named = "; ".join(f"{origin} ({detail})" if detail else str(origin) for origin, detail in hits[:shown])
    more = f"; and {count - shown} more" if count > shown else ""
    message = f"{rows(count)} {what}: {named}{more}. {fix}".rstrip()
    return Finding(level, rule, message, tuple(origin for origin, _ in hits[:shown]), count)


def rows(count: int) -> str:
    """Return '1 row', '2 rows'."""
    return f"{count:,} row" + ("" if count == 1 else "s")


def share(part: int, whole: int) -> str:
    """Return a part as a percentage with enough digits to tell it from none."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.2f} %" if percent < 1 else f"{percent:.1f} %"
