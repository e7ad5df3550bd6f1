"""Rows of the use case legal-analysis: clauses of contracts, and what each says in plain words, with the section that says so.

The contracts are made up. A clause is made of a section, parties, a wording in the language of contracts and its figures; the plain words follow from kind,
parties and figures alone. A kind with its wording and figures is a group.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from phrases import different, drawn, mixed

PARTIES = (
    ("the Supplier", "the Customer"), ("the Licensor", "the Licensee"), ("the Landlord", "the Tenant"), ("the Contractor", "the Employer"),
    ("the Agency", "the Client"), ("the Lender", "the Borrower"),
)  # fmt: skip
NUMBERS = {"seven": 7, "ten": 10, "fourteen": 14, "twenty": 20, "thirty": 30, "forty-five": 45, "sixty": 60, "ninety": 90}
SMALL = {"two": 2, "three": 3, "five": 5, "seven": 7, "ten": 10}
SLOTS = {
    "sum": ["10,000 euros", "25,000 euros", "50,000 euros", "100,000 euros", "250,000 euros"],
    "rate": ["2", "4", "5", "8", "9"],
    "city": ["Norwick", "Eastmere", "Stonewell", "Calder Bridge"],
}


@dataclass(frozen=True, slots=True)
class Clause:
    """A kind of clause: its wordings, and what they come to in plain words. A is the first party, B the second."""

    kind: str
    plain: str
    wordings: tuple[str, ...]


CLAUSES = (
    Clause(
        "notice",
        "Either side can end the contract with {n} days' notice.",
        (
            "This Agreement may be terminated by either Party (for convenience|at any time) upon not less than {nw} ({n}) days' prior written notice.",
            "Notwithstanding the foregoing, each Party may terminate (this Agreement|the same) by giving {n} days' notice in writing to the other.",
            "Either Party may determine this Agreement by serving on the other a written notice of (no fewer than|at least) {nw} ({n}) days.",
        ),
    ),
    Clause(
        "breach",
        "{B} must repair a breach within {n} days or {a} can end the contract.",
        (
            "Should {b} commit a material breach and fail to remedy the same within {nw} ({n}) days of notice thereof, {a} may terminate forthwith.",
            "{A} may rescind this Agreement with immediate effect where {b} has not cured a default within {n} days after receipt of a demand.",
            "In the event of a breach by {b} that remains unremedied {nw} ({n}) days after written notice, {a} shall have the right to terminate.",
        ),
    ),
    Clause(
        "payment",
        "{B} must pay within {n} days of the invoice.",
        (
            "All undisputed sums shall be payable by {b} within {nw} ({n}) days of the date of (the invoice|a valid invoice).",
            "{B} shall remit payment in full no later than {n} days following receipt of {a}'s invoice.",
            "Invoices rendered by {a} fall due for settlement by {b} {nw} ({n}) days from their date.",
        ),
    ),
    Clause(
        "interest",
        "Late payments cost {B0} {rate} percent interest a year.",
        (
            "Sums not paid when due shall bear interest, payable by {b}, at the rate of {rate} per cent per annum until (discharged|paid in full).",
            "{B} shall be liable for interest on overdue amounts, accruing daily at {rate} % p.a.",
            "Where {b} is in default of payment, {a} may charge interest thereon at {rate} per cent per annum.",
        ),
    ),
    Clause(
        "cap",
        "{A} pays at most {sum} for damage.",
        (
            "The aggregate liability of {a}, howsoever arising, shall in no event exceed {sum}.",
            "Save for death or personal injury, {a}'s total liability hereunder is limited to {sum}.",
            "In no circumstances shall {a} be liable for losses in excess of {sum} in the aggregate.",
        ),
    ),
    Clause(
        "secrecy",
        "{B} must keep secrets for {s} years after the end.",
        (
            "The obligations of confidence imposed upon {b} shall survive termination for a period of {sw} ({s}) years.",
            "{B} shall hold all Confidential Information in strict confidence during the term and for {s} years thereafter.",
            "For {sw} ({s}) years following expiry, {b} shall not disclose any Confidential Information to any third party.",
        ),
    ),
    Clause(
        "renewal",
        "The contract renews each year unless somebody objects {n} days before.",
        (
            "This Agreement shall renew automatically for successive terms of one year unless notice of non-renewal is given {n} days prior to expiry.",
            "Absent written objection at least {nw} ({n}) days before the anniversary, the term is deemed extended by twelve months.",
            "Upon expiry the term shall be prolonged by a year each time, save where a Party gives {nw} ({n}) days' notice to the contrary.",
        ),
    ),
    Clause(
        "law",
        "Disputes are decided in {city}.",
        (
            "The courts of {city} shall have exclusive jurisdiction over any dispute arising out of or in connection herewith.",
            "Any controversy hereunder shall be submitted to the competent courts at {city}.",
            "The Parties irrevocably submit to the jurisdiction of the courts seated in {city}.",
        ),
    ),
    Clause(
        "warranty",
        "{A} repairs defects for {s} years.",
        (
            "{A} warrants that the goods shall be free from defects for {sw} ({s}) years from delivery and shall make good any defect at its own cost.",
            "For a period of {s} years {a} shall, free of charge, rectify any defect in materials or workmanship.",
            "Defects notified within {sw} ({s}) years of acceptance shall be remedied by {a} without cost to {b}.",
        ),
    ),
    Clause(
        "assignment",
        "{B} may not pass the contract on without consent of {a}.",
        (
            "{B} shall not assign, novate or otherwise transfer its rights hereunder without the prior written consent of {a}.",
            "Any purported assignment by {b} absent {a}'s written consent shall be null and void.",
            "The rights and obligations of {b} are personal and may not be assigned save with the express consent of {a}.",
        ),
    ),
    Clause(
        "audit",
        "{A} may look at the books of {b} with {n} days' notice.",
        (
            "{A} may, on {n} days' notice, inspect the books and records of {b} relating hereto.",
            "Upon {nw} ({n}) days' notice {b} shall afford {a} access to its accounts for the purposes of audit.",
            "{B} shall permit {a} or its auditors to examine all relevant records, subject to {n} days' prior notice.",
        ),
    ),
    Clause(
        "rival",
        "{B} may not compete for {s} years after the end.",
        (
            "{B} covenants not to engage in any competing business for {sw} ({s}) years after termination.",
            "For a period of {s} years post termination, {b} shall refrain from any activity in competition with {a}.",
            "{B} shall not, within {sw} ({s}) years of the end hereof, directly or indirectly compete with {a}.",
        ),
    ),
)
PER_WORDING = 16


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for clause in CLAUSES:
        for place, wording in enumerate(clause.wordings):
            draw = random.Random(f"legal {clause.kind} {place}")
            made = different(lambda c=clause, w=wording, d=draw: _row(c, w, d), PER_WORDING, key=lambda row: row["clause"])
            found += made
    return {"clauses.jsonl": mixed(found, "clause")}


def _row(clause: Clause, wording: str, draw: random.Random) -> dict[str, Any]:
    """Return a clause with its section, and what it says; now and then one with an exception behind it."""
    first, second = draw.choice(PARTIES)
    (word, number), (small_word, small) = draw.choice(list(NUMBERS.items())), draw.choice(list(SMALL.items()))
    fixed = {"a": first, "b": second, "A": _large(first), "B": _large(second), "B0": second}
    fixed |= {"n": str(number), "nw": word, "s": str(small), "sw": small_word} | {
        name: draw.choice(words) for name, words in SLOTS.items()
    }
    section = f"{draw.randint(2, 24)}.{draw.randint(1, 9)}"
    said, plain = drawn(wording, draw, SLOTS, fixed), drawn(clause.plain, draw, SLOTS, fixed)
    kind = "plain"
    if draw.random() < 0.18:
        kind = "with an exception"
        other = draw.choice(("consumers", "orders under 500 euros", "the first year", "public holidays"))
        said += f" This clause shall not apply to {other}."
        plain = plain.removesuffix(".") + f", but not for {other}."
    figures = " ".join(fixed[name] for name in ("n", "s", "sum", "rate", "city") if f"{{{name}}}" in wording)
    return {
        "clause": f"{section} {said}",
        "plain": f"{section}: {plain}",
        "kind": kind,
        "group": f"{clause.kind} {wording} {figures}",
    }


def _large(party: str) -> str:
    return party[:1].upper() + party[1:]
