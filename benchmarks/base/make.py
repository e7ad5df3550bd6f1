"""Write the training text and the reading tasks of the bundled base models.

    burnish data get openstax gsm8k
    python benchmarks/base/make.py FOLDER

In: the public sets `openstax` and `gsm8k`. Out, in FOLDER: books.jsonl, dev.jsonl, held_out.jsonl (text by module), reading.jsonl,
reading_more.jsonl, reading_chat.jsonl, labelling.jsonl, copying.jsonl and questions.jsonl (dialogs to train on), reading_test.jsonl,
reading_unanswerable.jsonl and two_shot_test.jsonl (to measure on). The same on every machine; `--only` writes some of them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import facts
import finding
import invented
import labels
import reading
import reading_more
import stories
from copying import copying_rows
from text import UNSEEN_TOPIC, Passage, common_words, held_out, held_out_for_choosing, modules, openstax_rows, passages
from wording import ABSENT_ANSWER, KINDS, layout, phrase

from burnish.data.public import locate

DIALOGS = {"reading.jsonl": 30_000, "reading_more.jsonl": 5_000, "reading_chat.jsonl": 36_000}
"""Dialogs for the first and the second stretch of `tiny`, and for `tiny-chat`."""
COPIES = 8_000
LABELLINGS = 8_000
FILES = (
    *("books.jsonl", "dev.jsonl", "held_out.jsonl", "questions.jsonl"),
    *("reading_test.jsonl", "reading_unanswerable.jsonl", "two_shot_test.jsonl"),
    *(*DIALOGS, "labelling.jsonl", "copying.jsonl"),
)
LONGEST_DIALOG = 1600
LONGEST_ANSWER = 700
INVENTED_SHARE = 0.34
LABEL_SHARE = 0.07
PLAIN_SHARE = 0.12
"""Of the passages that no rule can ask a natural question about, so many are used all the same."""
Row = dict[str, Any]


def ask(kind: str, passage: Passage, other: Passage, draw: random.Random) -> list[reading.Asked]:
    """Return the questions of a kind over a passage."""
    if kind in reading_more.GENERATORS:
        return reading_more.GENERATORS[kind](passage, draw)
    if kind in finding.ALONE:
        return finding.ALONE[kind](passage, draw)
    return finding.BESIDE[kind](passage, draw, other)


NATURAL = [kind for kind in KINDS if kind in reading_more.GENERATORS]
PLAIN = [kind for kind in KINDS if kind not in reading_more.GENERATORS]


def questions(passage: Passage, other: Passage, draw: random.Random, *, count: int) -> list[tuple[str, str]]:
    """Return up to `count` training questions on a passage: natural ones first, then others, and sometimes one without an answer."""
    found: list[tuple[str, str]] = []
    natural = [kind for kind in NATURAL if not KINDS[kind].held_out]
    plain = [kind for kind in PLAIN if not KINDS[kind].held_out]
    draw.shuffle(natural)
    draw.shuffle(plain)
    for kind in [*natural, *plain]:
        wanted = ask(kind, passage, other, draw)
        draw.shuffle(wanted)
        for one in wanted[: 2 if kind in natural else 1]:
            found.append((phrase(kind, one.slots, draw), one.answer))
        if len(found) >= count:
            break
    draw.shuffle(found)
    found = found[:count]
    if draw.random() < 0.7 and (missing := unanswerable(passage, other, draw)):
        found.insert(draw.randrange(len(found) + 1), (missing, ABSENT_ANSWER))
    return found


def unanswerable(passage: Passage, other: Passage, draw: random.Random, *, unseen: bool = False) -> str | None:
    """Return a question that another passage answers and this one does not."""
    kinds = ["when", "who", "what-is", "term-for", "how-many", "why", "what-object", "stands-for", "percentage"]
    draw.shuffle(kinds)
    for kind in kinds:
        for one in ask(kind, other, passage, draw):
            if one.answer.lower() not in passage.text.lower():
                return phrase(kind, one.slots, draw, unseen=unseen)
    return None


def dialog(turns: Sequence[tuple[str, str]], passage: str, draw: random.Random, module: str) -> Row | None:
    """Make a dialog of a passage with a first question and further turns; turns that would make it too long are left off."""
    if not turns:
        return None
    prompt, _ = layout(passage, turns[0][0], draw)
    messages = [labels.user(prompt), labels.assistant(turns[0][1])]
    size = len(prompt) + len(turns[0][1])
    for question, answer in turns[1:]:
        size += len(question) + len(answer)
        if size <= LONGEST_DIALOG:
            messages += [labels.user(question), labels.assistant(answer)]
    return {"messages": messages, "module": module} if size <= LONGEST_DIALOG or len(messages) > 2 else None


def made_up(draw: random.Random, *, unseen: bool = False) -> invented.Invented:
    """Make an invented text: a frame, facts put together, and in training also records and little stories."""
    chance = draw.random()
    if not unseen and chance < 0.12:
        return invented.record(draw)
    if not unseen and chance < 0.22:
        return stories.story(draw)
    if chance < 0.55:
        return facts.facts_text(draw, unseen=unseen)
    return invented.filled(draw.choice(invented.frames(unseen=unseen)), draw)


def worth_asking(found: Sequence[Passage], draw: random.Random) -> list[Passage]:
    """Return the passages in a random order, of those without any natural question only a part."""
    kept: list[Passage] = []
    for passage in found:
        natural = any(reading_more.GENERATORS[kind](passage, draw) for kind in NATURAL if not KINDS[kind].held_out)
        if natural or draw.random() < PLAIN_SHARE:
            kept.append(passage)
    draw.shuffle(kept)
    return kept


def training_dialogs(found: Sequence[Passage], draw: random.Random, *, count: int) -> Iterator[Row]:
    """Yield `count` dialogs: passages in turn, with invented texts and labelling in between."""
    pool = labels.sentence_pool(found)
    order = worth_asking(found, draw)
    print(f"  {len(order):,} passages chosen to ask about", flush=True)
    place = made = 0
    while made < count:
        chance = draw.random()
        if chance < INVENTED_SHARE:
            text = made_up(draw)
            row = dialog(invented.dialog_pairs(text, draw, count=draw.randint(3, 6)), text.text, draw, f"invented/{made}")
        elif chance < INVENTED_SHARE + LABEL_SHARE:
            task = labels.labelling(pool, draw)
            row = {"messages": [*task.messages, labels.assistant(task.answer)], "module": f"labels/{made}"}
            row = row if sum(len(message["content"]) for message in row["messages"]) <= LONGEST_DIALOG else None
        else:
            passage = order[place % len(order)]
            place += 1
            row = dialog(questions(passage, draw.choice(order), draw, count=draw.randint(3, 6)), passage.text, draw, passage.module)
        if row:
            made += 1
            yield row
            if made % 10_000 == 0:
                print(f"  {made:,} dialogs", flush=True)


def test_row(text: str, question: str, answer: str, kind: str, draw: random.Random, *, unseen: bool, kind_unseen: bool) -> Row:
    """Make one row of the test: a passage and one question."""
    prompt, bare = layout(text, question, draw, unseen=unseen)
    return {
        "question": prompt,
        "bare": bare,
        "answer": answer,
        "kind": kind,
        "wording_held_out": unseen,
        "kind_held_out": kind_unseen,
    }


def reading_tests(found: Sequence[Passage], draw: random.Random, *, count: int = 1200) -> list[Row]:
    """Return test rows balanced over kinds, a quarter of them over invented texts of unseen frames."""
    rows: dict[str, list[Row]] = {}
    kinds = [kind for kind in KINDS if KINDS[kind].extractive]
    for passage in found:
        for kind in kinds:
            for one in ask(kind, passage, draw.choice(found), draw):
                if one.answer in passage.text and len(one.answer.split()) <= 12:
                    unseen = draw.random() < 0.5
                    question = phrase(kind, one.slots, draw, unseen=unseen)
                    rows.setdefault(kind, []).append(
                        test_row(passage.text, question, one.answer, kind, draw, unseen=unseen, kind_unseen=KINDS[kind].held_out)
                    )
    chosen = balanced(rows, draw, count=count - count // 4)
    while len(chosen) < count:
        made = made_up(draw, unseen=True)
        question, answer = draw.choice(made.pairs)
        if answer in made.text:
            chosen.append(test_row(made.text, question, answer, "invented", draw, unseen=draw.random() < 0.5, kind_unseen=True))
    return chosen


def balanced(rows: dict[str, list[Row]], draw: random.Random, *, count: int) -> list[Row]:
    """Take rows of all kinds in turn until there are `count`."""
    for found in rows.values():
        draw.shuffle(found)
    chosen: list[Row] = []
    while len(chosen) < count and any(rows.values()):
        chosen += [rows[kind].pop() for kind in sorted(rows) if rows[kind]]
    return chosen[:count]


def unanswerable_tests(found: Sequence[Passage], draw: random.Random, *, count: int = 100) -> list[Row]:
    """Return rows whose question the passage does not answer."""
    rows: list[Row] = []
    while len(rows) < count:
        unseen = draw.random() < 0.5
        if draw.random() < 0.4:
            made = made_up(draw, unseen=True)
            text, question = made.text, draw.choice(made.absent)
        else:
            passage = draw.choice(found)
            text, question = passage.text, unanswerable(passage, draw.choice(found), draw, unseen=unseen)
        if question:
            rows.append(test_row(text, question, ABSENT_ANSWER, "absent", draw, unseen=unseen, kind_unseen=False))
    return rows


def label_tests(found: Sequence[Passage], draw: random.Random, *, count: int = 300) -> list[Row]:
    """Return labelling tasks over held-out passages."""
    pool = labels.sentence_pool(found)
    rows: list[Row] = []
    while len(rows) < count:
        task = labels.labelling(pool, draw, unseen=len(rows) % 2 == 0)
        if sum(len(message["content"]) for message in task.messages) <= LONGEST_DIALOG:
            rows.append({"messages": list(task.messages), "answer": task.answer, "choices": list(task.choices)})
    return rows


def question_dialogs() -> Iterator[Row]:
    """Yield the exercises of the textbooks and the arithmetic problems as dialogs."""
    for row in openstax_rows("exercises.jsonl.xz"):
        key = f"{row['book']}/{row['module']}"
        text = row["question"] + row["answer"]
        if (
            not held_out(key)
            and not held_out_for_choosing(key)
            and not UNSEEN_TOPIC.search(text)
            and len(row["answer"]) <= LONGEST_ANSWER
            and len(text) <= LONGEST_DIALOG
        ):
            yield {"messages": [labels.user(row["question"]), labels.assistant(row["answer"])], "module": key}
    lines = (locate("gsm8k") / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        answer = re.sub(r"<<[^<>]*>>", "", row["answer"]).replace("#### ", "The answer is ")
        if len(answer) <= LONGEST_ANSWER:
            yield {"messages": [labels.user(row["question"]), labels.assistant(answer + ".")], "module": f"gsm8k/{number}"}


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSON lines; return how many, and say so."""
    count = characters = 0
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            characters += len(line)
            count += 1
            file.write(line + "\n")
    part.replace(path)
    print(f"{path.name}: {count:,} rows, {characters / 1e6:.1f} M characters", flush=True)
    return count


def label_dialogs(found: Sequence[Passage], draw: random.Random, *, count: int) -> Iterator[Row]:
    """Yield `count` dialogs in which text after text is labelled."""
    pool = labels.sentence_pool(found)
    for number in range(count):
        yield {"messages": labels.practice(pool, found, draw), "module": f"labels/{number}"}


def write_texts(folder: Path, wanted: Container[str]) -> tuple[list[Row], list[Row]]:
    """Write the text files that are wanted; return the modules to train on and those held out."""
    found = list(modules())
    held = [row for row, apart in found if apart]
    choosing = [row for row, apart in found if not apart and held_out_for_choosing(row["module"])]
    training = [row for row, apart in found if not apart and not held_out_for_choosing(row["module"])]
    files = {"books.jsonl": training, "dev.jsonl": choosing, "held_out.jsonl": held, "questions.jsonl": question_dialogs()}
    for name, rows in files.items():
        if name in wanted:
            write(folder / name, rows)
    return training, held


def write_tests(folder: Path, wanted: Container[str], found: Sequence[Passage]) -> None:
    """Write the files to measure on that are wanted, over passages that are held out."""
    if "reading_test.jsonl" in wanted:
        tests = reading_tests(found, random.Random(1))
        write(folder / "reading_test.jsonl", tests)
        print(dict(Counter(row["kind"] for row in tests)))
    if "reading_unanswerable.jsonl" in wanted:
        write(folder / "reading_unanswerable.jsonl", unanswerable_tests(found, random.Random(2)))
    if "two_shot_test.jsonl" in wanted:
        write(folder / "two_shot_test.jsonl", label_tests(found, random.Random(3)))


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=FILES, default=FILES, metavar="FILE", help="write only these files")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    wanted: list[str] = arguments.only
    folder.mkdir(parents=True, exist_ok=True)
    training, held = write_texts(folder, wanted)
    common = common_words(training)
    seen = [passage for seed in range(3) for passage in passages(training, random.Random(seed), common=common)]
    unseen = [passage for seed in range(2) for passage in passages(held, random.Random(seed), common=common)]
    print(f"{len(seen):,} passages to train on, {len(unseen):,} held out", flush=True)
    write_tests(folder, wanted, unseen)
    for name, count in DIALOGS.items():
        if name in wanted:
            write(folder / name, training_dialogs(seen, random.Random(name), count=count))
    if "labelling.jsonl" in wanted:
        write(folder / "labelling.jsonl", label_dialogs(seen, random.Random(5), count=LABELLINGS))
    if "copying.jsonl" in wanted:
        write(folder / "copying.jsonl", copying_rows([row["text"] for row in training], random.Random(4), count=COPIES))


if __name__ == "__main__":
    main()
