"""The schema of `burnish decide` in a run file: documents, the ways to compare, what they may cost, and how much effort each gets.

Enters: plain values of the table [decide]. Leaves: a frozen `DecideConfig`, a part of the run's (`config_schema`). Tuning reads none of it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from burnish.config_parts import Count, CountOrZero, Table, Text, listed

Texts = Annotated[tuple[Text, ...], BeforeValidator(listed, json_schema_input_type=list[Text])]
Counts = Annotated[tuple[Count, ...], BeforeValidator(listed, json_schema_input_type=list[Count])]


class DecideConfig(Table):
    """What `burnish decide` compares, and by which measure; without meaning for tuning."""

    documents: Text | None = None
    """file or folder of documents, or a set by name, in which answers are looked for; not set: the contexts of the rows, if they have any"""
    arms: Texts = ()
    """which ways are compared (burnish ls arms); empty: all that can be carried out"""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """how far behind the best way is still good enough, in units of the first score"""
    trials: Count = 6
    """settings that each way may try on the dev rows"""
    examples: Counts = (2, 4, 8)
    """numbers of examples that are tried in a prompt"""
    passages: Counts = (1, 2, 4)
    """numbers of passages that are tried in a prompt, as far as they fit"""
    passage_size: Annotated[int, Field(ge=20)] = 80
    """words and signs of a passage"""
    instructions: Texts = ()
    """instructions that the optimised prompt tries; empty: a few general ones"""
    embedder: Text | None = None
    """folder or hub id of a sentence-transformers model, for looking by meaning; not set: by words alone"""
    train_rows: Count | None = None
    """most rows that every way may learn from; not set: all"""
    dev_rows: Count = 100
    """most dev rows that settings are tried on"""
    test_rows: Count = 500
    """most held-out rows that are answered, of seen and of new documents each"""
    seeds: Count = 1
    """seeds with which each tuned arm is trained in its chosen setting; its score is the mean over them"""
    paraphrases: Text | None = None
    """file of questions in other words, with the columns question and paraphrases, for consistency; not set: made by rule"""
    probe_rows: Count = 40
    """rows of the measurements beside quality: consistency, abstention, latency"""
    data_need: bool = True
    """measure quality at an eighth, a quarter and half of the rows too: three more trainings, smaller ones"""
    facts: CountOrZero = 10
    """facts that are changed in the documents to measure an update; 0: none"""
    queries: Annotated[float, Field(ge=0)] = 100000.0
    """questions over the time for which costs are added up"""
    updates: Annotated[float, Field(ge=0)] = 12.0
    """updates of the documents over the same time"""
    price_hour: Annotated[float, Field(gt=0)] | None = None
    """what an hour of this machine costs; not set: costs are seconds"""
    price_label: Annotated[float, Field(ge=0)] | None = None
    """what a labelled row costs, in the same currency; not set: nothing"""
    latency_limit: Annotated[float, Field(gt=0)] | None = None
    """milliseconds within which 95 % of single answers must come; not set: no limit"""
    forgetting_limit: Annotated[float, Field(ge=0)] | None = None
    """by how many bits per byte general text may become harder to read; not set: no limit"""
