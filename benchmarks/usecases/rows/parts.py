"""Rows of the use case automotive-parts: questions to a parts desk, the fields that answer them, and the catalogue behind both.

The cars, part numbers and oil quantities are made up. A number says what fits: the part, the platform, and a letter for the phase, which changes with
the facelift; in the year of the facelift the new part fits. Fault codes are the public ones of SAE J2012, in short words.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from phrases import different, drawn, mixed, slipped, wordings


@dataclass(frozen=True, slots=True)
class Car:
    """A car of the catalogue: name, platform, first year, year of the facelift, last year, oil grade and litres."""

    name: str
    platform: str
    first: int
    facelift: int
    last: int
    grade: str
    litres: float

    def phase(self, year: int) -> str:
        """Return the letter of the phase that a year belongs to."""
        return "A" if year < self.facelift else "B"

    def years(self, year: int) -> str:
        """Return the years of that phase."""
        return f"{self.first}-{self.facelift - 1}" if year < self.facelift else f"{self.facelift}-{self.last}"


CARS = (
    Car("Arden 1.4", "21", 2009, 2013, 2018, "5W-30", 3.8),
    Car("Arden 2.0 diesel", "22", 2010, 2014, 2018, "5W-40", 5.2),
    Car("Tessel 1.2", "34", 2011, 2016, 2021, "0W-20", 3.4),
    Car("Tessel Estate 1.6", "35", 2012, 2016, 2021, "5W-30", 4.1),
    Car("Morrow 1.8", "40", 2008, 2012, 2016, "5W-40", 4.6),
    Car("Morrow Hybrid", "41", 2013, 2017, 2022, "0W-16", 3.6),
    Car("Calder Van 2.2", "57", 2010, 2015, 2020, "5W-30", 6.9),
    Car("Pike Pickup 3.0", "63", 2012, 2018, 2023, "10W-40", 8.5),
)
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "front brake pads": ("BP", ("front brake pads", "front pads", "pads for the front axle", "brake pads front")),
    "rear brake pads": ("BR", ("rear brake pads", "rear pads", "brake pads rear", "pads, rear axle")),
    "brake disc": ("BD", ("front discs", "brake discs", "front rotors")),
    "oil filter": ("OF", ("oil filter", "oil filter element", "oil filter with seal")),
    "air filter": ("AF", ("air filter", "air filter element", "engine air filter")),
    "cabin filter": ("CF", ("pollen filter", "cabin filter", "pollen filter with charcoal")),
    "timing belt kit": ("TB", ("timing belt kit", "cambelt kit", "timing belt with rollers")),
    "wiper blades": ("WB", ("wiper blades", "wipers, pair", "front wipers")),
    "water pump": ("WP", ("water pump", "water pump with gasket", "coolant pump")),
    "battery": ("BT", ("battery", "starter battery", "12 V battery")),
}
ODD = (
    "a cigarette lighter knob", "floor mats in red", "a roof tent", "a spare key blank", "an ashtray", "the owner's handbook", "a tow rope", "gold wheel nuts",
    "a dog guard", "seat covers", "a dashcam", "a steering lock", "snow chains", "a bike rack", "a touch-up pen", "a gear knob in wood", "mud flaps",
    "a boot liner", "a phone holder", "a first aid kit", "a parking disc", "a sun blind", "a jack", "roof bars",
)  # fmt: skip
FOREIGN = (
    "Hollin 1.5", "Vesper GT", "Brack 4x4", "Arden 3.0 V6", "Tessel Cabrio", "Orrin Electric", "Kestrel 125", "Lomond 2.4", "Morrow 1.4", "Calder Bus 3.5",
    "Pike Pickup 2.0", "Tessel 2.0 turbo", "Sorrel 1.0", "Arden 1.6", "Juniper 1.3 diesel", "Marlow Coupe", "Quill Mini", "Rowan 2.2", "Teasel Hybrid",
    "Umber 1.8", "Morrow Electric", "Wold Van 1.9", "Yarrow 1.1", "Fallow 2.8",
)  # fmt: skip
CODES = {
    "P0300": ("ignition", "random misfire"),
    "P0301": ("ignition", "misfire cylinder 1"),
    "P0302": ("ignition", "misfire cylinder 2"),
    "P0303": ("ignition", "misfire cylinder 3"),
    "P0304": ("ignition", "misfire cylinder 4"),
    "P0171": ("fuel", "mixture too lean bank 1"),
    "P0172": ("fuel", "mixture too rich bank 1"),
    "P0174": ("fuel", "mixture too lean bank 2"),
    "P0101": ("air", "air mass sensor range"),
    "P0113": ("air", "intake air temperature high"),
    "P0128": ("cooling", "coolant below thermostat temperature"),
    "P0217": ("cooling", "engine too hot"),
    "P0335": ("engine", "crankshaft sensor circuit"),
    "P0340": ("engine", "camshaft sensor circuit"),
    "P0401": ("exhaust", "exhaust gas recirculation low"),
    "P0420": ("exhaust", "catalyst weak bank 1"),
    "P0430": ("exhaust", "catalyst weak bank 2"),
    "P0442": ("tank vent", "small leak"),
    "P0455": ("tank vent", "large leak"),
    "P0500": ("speed", "vehicle speed sensor"),
    "P0562": ("electrics", "system voltage low"),
    "P0700": ("gearbox", "transmission control fault"),
    "C0035": ("brakes", "wheel speed sensor front left"),
    "C0040": ("brakes", "wheel speed sensor front right"),
    "U0100": ("network", "no contact with engine control"),
    "U0121": ("network", "no contact with ABS control"),
}
OTHER = {
    "order": ["60417", "60982", "61305"],
    "plate": ["left-hand drive", "import", "estate badge", "white one"],
    "day": ["Monday", "tomorrow", "noon", "Friday"],
}
UNKNOWN = json.dumps({"part": "unknown"})


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by file, and the catalogue that they rest on."""
    ask: dict[str, list[str]] = {}
    for one in wordings("parts.txt"):
        ask.setdefault(one.heading, []).append(one.line)
    made = [*_lookups(ask["lookup"]), *_checks(ask["check"]), *_oils(ask["oil"]), *_codes(ask["code"]), *_unknown(ask)]
    return {"parts.jsonl": mixed(made, "ask"), "catalogue.jsonl": _catalogue()}


def _row(line: str, answer: str, kind: str, group: str, draw: random.Random, **words: str) -> dict[str, Any]:
    question = drawn(line, draw, OTHER, words)
    return {"question": slipped(question[:1].upper() + question[1:], draw), "answer": answer, "kind": kind, "group": group}


def _fitting(car: Car, prefix: str, year: int) -> str:
    return f"{prefix}-{car.platform}{car.phase(year)}"


def _lookups(lines: list[str]) -> list[dict[str, Any]]:
    found = []
    for car in CARS:
        for name, (prefix, said) in PARTS.items():
            draw = random.Random(f"lookup {car.name} {name}")
            years = draw.sample(range(car.first, car.last + 1), k=5)
            years += [car.facelift] * (draw.random() < 0.35 and car.facelift not in years)
            for year in years:
                answer = json.dumps({"part": _fitting(car, prefix, year), "years": car.years(year)})
                kind = "year of the facelift" if year == car.facelift else "part wanted"
                group = f"{car.name} {name} {car.phase(year)}"
                found.append(
                    _row(draw.choice(lines), answer, kind, group, draw, part=draw.choice(said), model=car.name, year=str(year))
                )
    return found


def _checks(lines: list[str]) -> list[dict[str, Any]]:
    found = []
    for car in CARS:
        draw = random.Random(f"check {car.name}")
        for name, (prefix, _) in draw.sample(sorted(PARTS.items()), k=8):
            year = draw.randint(car.first, car.last)
            right = _fitting(car, prefix, year)
            other = right[:-1] + ("B" if right.endswith("A") else "A")
            asked = draw.choice((right, other, other))
            answer = json.dumps({"fits": "yes" if asked == right else "no", "part": right})
            kind = "year of the facelift" if year == car.facelift else "does it fit"
            found.append(
                _row(
                    draw.choice(lines), answer, kind, f"check {car.name} {name}", draw, number=asked, model=car.name, year=str(year)
                )
            )
    return found


def _oils(lines: list[str]) -> list[dict[str, Any]]:
    found = []
    for car in CARS:
        draw = random.Random(f"oil {car.name}")
        answer = json.dumps({"oil": car.grade, "litres": car.litres})
        for number, line in enumerate(lines):
            year = str(draw.randint(car.first, car.last))
            found.append(_row(line, answer, "oil", f"oil {car.name} {number}", draw, model=car.name, year=year))
    return found


def _codes(lines: list[str]) -> list[dict[str, Any]]:
    found = []
    for code, (system, meaning) in CODES.items():
        draw = random.Random(f"code {code}")
        answer = json.dumps({"code": code, "system": system, "meaning": meaning})
        for number, line in enumerate(draw.sample(lines, k=6)):
            car = draw.choice(CARS)
            year = str(draw.randint(car.first, car.last))
            found.append(_row(line, answer, "fault code", f"code {code} {number}", draw, code=code, model=car.name, year=year))
    return found


def _unknown(ask: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return questions about what the catalogue does not hold: other things, other cars, years before the car was built."""
    found = []
    for odd in ODD:
        draw = random.Random(f"odd {odd}")
        for line in draw.sample(ask["strange part"], k=2):
            car = draw.choice(CARS)
            found.append(
                _row(line, UNKNOWN, "not in the catalogue", odd, draw, odd=odd, model=car.name, year=str(draw.randint(2010, 2018)))
            )
    for foreign in FOREIGN:
        draw = random.Random(f"foreign {foreign}")

        def one(foreign: str = foreign, draw: random.Random = draw) -> dict[str, Any]:
            part = draw.choice(draw.choice(list(PARTS.values()))[1])
            line, year = draw.choice(ask["strange car"]), str(draw.randint(2008, 2022))
            return _row(line, UNKNOWN, "not in the catalogue", foreign, draw, part=part, foreign=foreign, year=year)

        found += different(one, 4, key=lambda row: row["question"])
    return found


def _catalogue() -> list[dict[str, Any]]:
    """Return the catalogue as rows, a part and phase each."""
    return [
        {
            "part": _fitting(car, prefix, year),
            "name": name,
            "car": car.name,
            "years": car.years(year),
            "oil": car.grade,
            "litres": car.litres,
        }
        for car in CARS
        for name, (prefix, _) in PARTS.items()
        for year in (car.first, car.facelift)
    ]
