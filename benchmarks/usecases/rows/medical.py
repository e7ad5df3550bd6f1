"""Rows of the use case medical-assessment: triage notes, and the fields that a nurse line writes down of each, red flags first.

Made up for burnish; no patient is behind a note, and none of it is medical advice. The rule is the line's own: a red flag of the complaint that the patient
has makes it "now" or "today", one that the patient denies does not, and without any the case is "routine" or "self care" by how long it lasts; a pain in
the chest is always seen. A complaint with its signs is a group.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from phrases import different, mixed, slipped


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint: how patients and nurses say it, its harmless signs, and its red flags with how fast each must be seen."""

    name: str
    said: tuple[str, ...]
    signs: tuple[str, ...]
    flags: tuple[tuple[str, str, str], ...]


COMPLAINTS = (
    Complaint(
        "back pain",
        ("low back pain", "pain in the lower back", "lumbago", "back pain"),
        ("worse on bending", "stiff in the morning", "after gardening", "better when walking", "lifted a crate"),
        (
            ("numbness in the saddle area", "saddle numbness", "now"),
            ("cannot hold urine", "loss of bladder control", "now"),
            ("a weak leg", "leg weakness", "today"),
            ("fever with it", "fever", "today"),
        ),
    ),
    Complaint(
        "headache",
        ("headache", "head pain", "a dull headache", "cephalgia"),
        ("behind the eyes", "after screen work", "like her usual ones", "both temples", "slept badly"),
        (
            ("the worst ever, all at once", "thunderclap onset", "now"),
            ("a stiff neck", "stiff neck", "now"),
            ("slurred speech", "slurred speech", "now"),
            ("vomiting every morning", "morning vomiting", "today"),
        ),
    ),
    Complaint(
        "chest pain",
        ("chest pain", "pain in the chest", "tightness in the chest", "a sore chest"),
        ("sore to press on", "after a cough", "moved a wardrobe", "on twisting"),
        (
            ("it goes into the left arm", "pain into the arm", "now"),
            ("cold sweat", "cold sweat", "now"),
            ("short of breath at rest", "breathless at rest", "now"),
            ("a swollen calf", "swollen calf", "today"),
        ),
    ),
    Complaint(
        "cough",
        ("a cough", "cough", "coughing", "a chesty cough"),
        ("runny nose too", "kids have it as well", "yellow phlegm", "worse at night", "hoarse"),
        (
            ("coughing up blood", "blood in sputum", "today"),
            ("blue lips", "blue lips", "now"),
            ("breathing very fast", "fast breathing", "now"),
            ("weight loss over months", "weight loss", "today"),
        ),
    ),
    Complaint(
        "belly pain",
        ("stomach ache", "belly pain", "abdominal pain", "cramps in the belly"),
        ("after a rich meal", "comes and goes", "wind", "loose stool once", "before her period"),
        (
            ("a belly hard as a board", "rigid belly", "now"),
            ("black stool", "black stool", "today"),
            ("blood in the vomit", "blood in vomit", "now"),
            ("pain moved to the lower right", "pain lower right", "today"),
        ),
    ),
    Complaint(
        "sore throat",
        ("sore throat", "throat pain", "a raw throat", "pain on swallowing"),
        ("hoarse", "runny nose", "swollen glands", "sang at a wedding"),
        (
            ("cannot swallow spit", "drooling", "now"),
            ("cannot open the mouth", "locked jaw", "today"),
            ("noisy breathing in", "stridor", "now"),
        ),
    ),
    Complaint(
        "rash",
        ("a rash", "skin rash", "red spots on the skin", "an itchy rash"),
        ("new washing powder", "itches at night", "on both forearms", "after the garden", "had it last spring"),
        (
            ("spots do not fade under a glass", "spots that do not blanch", "now"),
            ("swollen lips and tongue", "swelling of lips", "now"),
            ("blisters in the mouth", "blisters in mouth", "today"),
        ),
    ),
    Complaint(
        "dizziness",
        ("dizziness", "feels dizzy", "giddy", "spinning"),
        ("on turning in bed", "skipped breakfast", "on standing up", "new glasses"),
        (
            ("one side of the face droops", "facial droop", "now"),
            ("double vision", "double vision", "today"),
            ("fainted while sitting", "fainting", "today"),
        ),
    ),
)
WHO = ("f {a}", "m {a}", "woman, {a}", "man, {a}", "{a} y f", "{a} y m", "pt {a}", "caller, {a},")
LASTS = (
    ("since this morning", "1 day"),
    ("for two days", "2 days"),
    ("for 4 days", "4 days"),
    ("since last week", "1 week"),
    ("for two weeks", "2 weeks"),
    ("for a month", "1 month"),
)
FLOOR = {"chest pain": "today"}
"""How fast a complaint must be seen even without a red flag."""

LONG = ("1 week", "2 weeks", "1 month")
HAS = ("{}", "reports {}", "has {}", "now also {}", "and {}")
DENIES = ("denies {}", "no {}", "not {}", "without {}", "never {}")
PER_COMPLAINT = 84


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file."""
    found = []
    for complaint in COMPLAINTS:
        draw = random.Random(f"medical {complaint.name}")
        found += different(lambda c=complaint, d=draw: _row(c, d), PER_COMPLAINT, key=lambda row: row["note"], tries=2000)
    return {"triage.jsonl": mixed(found, "note")}


def _row(complaint: Complaint, draw: random.Random) -> dict[str, Any]:
    """Return a note with a sign and perhaps a red flag that is there, denied, or one of each, and its fields."""
    who = draw.choice(WHO).format(a=draw.randint(19, 88))
    said, (lasts, since) = draw.choice(complaint.said), draw.choice(LASTS)
    sign, case = draw.choice(complaint.signs), draw.choice(("flag", "flag", "none", "denied", "denied", "both"))
    present, absent = draw.sample(complaint.flags, k=2)
    told = [sign]
    if case in ("flag", "both"):
        told.append(draw.choice(HAS).format(present[0]))
    if case in ("denied", "both"):
        told.append(_denied(absent[0], draw))
    draw.shuffle(told)
    note = f"{who} {said} {lasts}, {', '.join(told)}."
    flag, urgency = (
        (present[1], present[2])
        if case in ("flag", "both")
        else ("none", FLOOR.get(complaint.name) or ("routine" if since in LONG else "self care"))
    )
    fields = {"complaint": complaint.name, "since": since, "red_flag": flag, "see": urgency}
    kind = {"flag": "red flag", "both": "one flag there, one denied", "denied": "flag denied", "none": "no flag"}[case]
    group = f"{complaint.name} {sign} {present[0] if flag != 'none' else ''} {absent[0] if case in ('denied', 'both') else ''}"
    return {
        "note": slipped(note[:1].upper() + note[1:], draw, share=0.08),
        "fields": json.dumps(fields),
        "kind": kind,
        "group": group,
    }


def _denied(flag: str, draw: random.Random) -> str:
    """Return a red flag as one that is not there."""
    bare = flag.removeprefix("a ").removeprefix("it ")
    if bare.startswith(("cannot", "goes", "the worst", "one side", "spots do", "pain moved", "fainted")):
        return f"asked about {DENIED_AS[flag]}: no"
    return draw.choice(("denies {}", "no {}", "without {}", "{}: no")).format(bare)


DENIED_AS = {
    "cannot hold urine": "bladder control",
    "the worst ever, all at once": "sudden onset",
    "it goes into the left arm": "pain in the arm",
    "cannot swallow spit": "drooling",
    "cannot open the mouth": "locked jaw",
    "spots do not fade under a glass": "the glass test",
    "one side of the face droops": "a drooping face",
    "fainted while sitting": "fainting",
    "pain moved to the lower right": "pain lower right",
}
