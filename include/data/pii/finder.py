"""Finds personal data with Presidio: its own recognisers where they are right, ours where they are not.

Ours and why:

* e-mail: Presidio's asks the network for the list of top-level domains at the first address it sees; this one uses the
  copy that `tldextract` ships;
* telephone: Presidio's takes `16.4.2`, a rule's number, for one, and knows none without an area code;
* vehicle: a VIN with its check digit, or mistyped behind the word.

Names of persons need a language model, which no package of spaCy's own brings: give the name of an installed spaCy
pipeline. Without one the kind `name` is refused, never silently left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from include.data.pii.vin import VIN, valid_vin
from include.errors import UserError
from include.expectations.text_faults import SHORT_PHONE

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine, EntityRecognizer

MIN_PHONE_DIGITS = 7


class Kind(str, Enum):
    """Kinds of personal data; the values are the names in specs and masks."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    IP = "ip"
    MAC = "mac"
    SSN = "ssn"  # of the United States; no check digit, so only behind a word that announces it
    NINO = "nino"  # National Insurance number of the United Kingdom
    VIN = "vin"
    NAME = "name"


#: What is looked for unless a spec says otherwise: all that needs no language model.
DEFAULT = tuple(kind for kind in Kind if kind is not Kind.NAME)

_ENTITIES = {
    Kind.EMAIL: "EMAIL_ADDRESS",
    Kind.PHONE: "PHONE_NUMBER",
    Kind.CARD: "CREDIT_CARD",
    Kind.IBAN: "IBAN_CODE",
    Kind.IP: "IP_ADDRESS",
    Kind.MAC: "MAC_ADDRESS",
    Kind.SSN: "US_SSN",
    Kind.NINO: "UK_NINO",
    Kind.VIN: "VIN",
    Kind.NAME: "PERSON",
}
_KINDS = {entity: kind for kind, entity in _ENTITIES.items()}
_MIN_SCORE = 0.4
_SSN = r"\b(?:social security|ssn)\b[^.?!\d]{0,30}?(\d{3}[- ]\d{2}[- ]\d{4})(?!\d)"

#: Mistyped ones too.
_VIN = r"\bvin\b(?:\s+(?:number|no|is))*[\s:#.]{0,4}((?=[A-Z0-9]*\d)[A-Z0-9]{11,17})(?![A-Z0-9])"


@dataclass(frozen=True, order=True)
class Span:
    """Personal data in a text: characters [start, end)."""

    start: int
    end: int
    kind: Kind


class PersonalDataFinder:
    """Finds personal data of the given kinds. Making one takes seconds the first time: it imports Presidio.

    Args:
        kinds: What to look for.
        names: An installed spaCy pipeline that marks persons, such as `en_core_web_sm`; goes with the kind `name`.

    Raises:
        UserError: The extra `pii` or the pipeline is not installed, or `names` and `kinds` do not fit.
    """

    def __init__(self, kinds: Iterable[Kind] = DEFAULT, names: str | None = None) -> None:
        self._kinds = frozenset(kinds)
        if (Kind.NAME in self._kinds) != (names is not None):
            raise UserError(
                "the kind `name` and the pipeline `names` go together",
                where="data.prepare",
                hint="give both, such as kinds: [name, email] and names: en_core_web_sm, or neither",
            )
        self._entities = sorted(_ENTITIES[kind] for kind in self._kinds)
        self._engine = _engine(names)

    def find(self, text: str) -> list[Span]:
        """What the text holds, from left to right; spans do not overlap."""
        if Kind.NAME not in self._kinds and "@" not in text and not any(c.isdigit() or c == ":" for c in text):
            return []  # nothing but a name has neither
        found = self._engine.analyze(text, language="en", entities=self._entities, score_threshold=_MIN_SCORE)
        found.sort(key=lambda result: (-result.score, result.start - result.end, result.start))
        kept: list[Span] = []
        for result in found:
            if all(result.end <= span.start or span.end <= result.start for span in kept):
                kept.append(Span(result.start, result.end, _KINDS[result.entity_type]))
        return sorted(kept)


@lru_cache(maxsize=4)
def _engine(names: str | None) -> AnalyzerEngine:
    try:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NoOpNlpEngine
    except ModuleNotFoundError as error:
        raise UserError(
            f"personal data cannot be looked for: {error.name} is not installed",
            where="data.prepare",
            hint="install the extra: pip install 'windtunnel[pii]'",
        ) from error
    registry = RecognizerRegistry(supported_languages=["en"])
    for recogniser in _recognisers():
        registry.add_recognizer(recogniser)
    if names is None:
        language: Any = NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}])
    else:
        language = _language(names)
        registry.add_nlp_recognizer(language)
    return AnalyzerEngine(registry=registry, nlp_engine=language, supported_languages=["en"])


def _language(names: str) -> Any:
    """The spaCy pipeline; Presidio itself would try to download one that is not there."""
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    if not spacy.util.is_package(names):
        raise UserError(
            f"the spaCy pipeline {names!r} is not installed",
            where="data.prepare",
            hint="install the package that brings it, or leave out `names` and the kind `name`",
        )
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": names}])
    engine.load()
    return engine


def _recognisers() -> list[EntityRecognizer]:
    import phonenumbers
    import tldextract
    from presidio_analyzer import Pattern, PatternRecognizer, RecognizerResult
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        MacAddressRecognizer,
        PhoneRecognizer,
        UkNinoRecognizer,
    )

    domains = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Email(EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool:
            return bool(domains(pattern_text).fqdn)

    class Phone(PhoneRecognizer):
        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
            found = super().analyze(text, entities, nlp_artifacts)
            return [r for r in found if sum(c.isdigit() for c in text[r.start : r.end]) >= MIN_PHONE_DIGITS]

    class Vin(PatternRecognizer):
        def validate_result(self, pattern_text: str) -> bool:
            return valid_vin(pattern_text)

    class Announced(PatternRecognizer):
        """The first group of a pattern, behind the word that announces it."""

        def analyze(
            self, text: str, entities: list[str], nlp_artifacts: Any = None, regex_flags: int | None = None
        ) -> list[RecognizerResult]:
            patterns: list[Pattern] = self.patterns  # type: ignore[has-type]
            matches = [m for p in patterns for m in re.finditer(p.regex, text, re.IGNORECASE)]
            entity = self.supported_entities[0]
            return [RecognizerResult(entity, m.start(1), m.end(1), 0.6) for m in matches]

    phones = [region for region in ("US", "GB", "DE", "FR", "IN", "BR") if region in phonenumbers.SUPPORTED_REGIONS]
    return [
        Email(),
        Phone(supported_regions=phones),
        Announced(_ENTITIES[Kind.PHONE], "short phone", patterns=[Pattern("short", SHORT_PHONE.pattern, 0.6)]),
        Announced(_ENTITIES[Kind.VIN], "announced vehicle", patterns=[Pattern("vin", _VIN, 0.6)]),
        Announced(_ENTITIES[Kind.SSN], "announced number", patterns=[Pattern("ssn", _SSN, 0.6)]),
        CreditCardRecognizer(),
        IbanRecognizer(),
        IpRecognizer(),
        MacAddressRecognizer(),
        UkNinoRecognizer(),
        Vin(_ENTITIES[Kind.VIN], "vin", patterns=[Pattern("vin", VIN.pattern, 0.5)]),
    ]
