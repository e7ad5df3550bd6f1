"""Use cases: complete runs with sample rows, for `burnish init`. The registry, and how a name becomes a use case.

Enters: a name. Leaves: a `UseCase`, or through `write` a folder that is ready to tune. Adding one: a file here and a line in USECASES.
"""

from __future__ import annotations

from collections.abc import Callable

from burnish.errors import ConfigError, suggestion
from burnish.usecases.automotive_parts import automotive_parts
from burnish.usecases.brand_voice import brand_voice
from burnish.usecases.chat import chat
from burnish.usecases.chatbot import chatbot
from burnish.usecases.code_style import code_style
from burnish.usecases.definition import UseCase
from burnish.usecases.domain import domain
from burnish.usecases.domain_language import domain_language
from burnish.usecases.extract import extract
from burnish.usecases.folder import write, write_from_data
from burnish.usecases.human_preferences import human_preferences
from burnish.usecases.instruct import instruct
from burnish.usecases.knowledge_update import knowledge_update
from burnish.usecases.legal_analysis import legal_analysis
from burnish.usecases.mail_drafting import mail_drafting
from burnish.usecases.medical_assessment import medical_assessment
from burnish.usecases.programming_tutor import programming_tutor
from burnish.usecases.science_assistant import science_assistant
from burnish.usecases.sentiment import sentiment
from burnish.usecases.small_beats_large import small_beats_large
from burnish.usecases.summarise_translate import summarise_translate
from burnish.usecases.support import support
from burnish.usecases.technical_diagnosis import technical_diagnosis

__all__ = ["USECASES", "UseCase", "find", "write", "write_from_data"]

USECASES: dict[str, Callable[[], UseCase]] = {
    "support": support,
    "chat": chat,
    "extract": extract,
    "domain": domain,
    "instruct": instruct,
    "chatbot": chatbot,
    "sentiment": sentiment,
    "technical-diagnosis": technical_diagnosis,
    "automotive-parts": automotive_parts,
    "code-style": code_style,
    "mail-drafting": mail_drafting,
    "brand-voice": brand_voice,
    "legal-analysis": legal_analysis,
    "medical-assessment": medical_assessment,
    "science-assistant": science_assistant,
    "knowledge-update": knowledge_update,
    "programming-tutor": programming_tutor,
    "summarise-translate": summarise_translate,
    "small-beats-large": small_beats_large,
    "human-preferences": human_preferences,
    "domain-language": domain_language,
}


def find(name: str) -> UseCase:
    """Return the use case of this name. Raises ConfigError, with the nearest name, where there is none."""
    if name not in USECASES:
        known = ", ".join(USECASES)
        raise ConfigError(
            f"there is no use case {name!r}.{suggestion(name, USECASES)} Expected one of {known}; see: burnish ls usecases"
        )
    return USECASES[name]()
