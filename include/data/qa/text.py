"""What the validators read out of a text: words, numbers with their units, negations, names, sentences. Pure.

English only, and rough on purpose: what matters is that the same rough reading is done on the answer and on the
passage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import Stemmer

_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_NUMBER = re.compile(
    r"(?<![\w.:-])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?::\d\d)?( (?:thousand|million|billion)\b)?"
)
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b\d{{1,2}} (?:{_MONTHS})\b|\b(?:{_MONTHS}) \d{{1,2}}\b")
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
_TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[A-Za-z]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][a-z]+(?:[ -](?:of |in |and |the )?[A-Z][a-z]+)*")
_QUOTE = re.compile(r"[\"“”]([^\"“”]{6,}?)[\"“”]")

_UNITS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBER_WORDS: dict[str, float] = {
    **{word: float(value) for value, word in enumerate(_UNITS, 1)},
    **{word: float(value * 10) for value, word in enumerate(_TENS, 2)},
    **{"half": 0.5, "third": 1 / 3, "quarter": 0.25, "fourth": 0.25, "hundred": 100.0, "thousand": 1000.0},
    **{"first": 1.0, "second": 2.0, "twice": 2.0, "double": 2.0, "once": 1.0, "fortnight": 14.0, "dozen": 12.0},
}
_CARDINALS = {word: NUMBER_WORDS[word] for word in [*_UNITS[1:], *_TENS]}
_NEGATIONS = frozenset(
    [
        "not",
        "no",
        "never",
        "neither",
        "nor",
        "none",
        "nobody",
        "nothing",
        "cannot",
        "without",
        "unless",
        "except",
        "only",
    ]
)
_CONTRACTED = re.compile(r"n['’]t$")
_PROHIBITED = frozenset(("prohibit", "forbid", "refus", "reject", "lapse", "ceas", "void", "invalid", "exempt"))
#: Words that carry no meaning of their own.
STOP = frozenset(
    (
        *("a", "an", "and", "any", "are", "as", "at", "be", "been", "being", "but", "by", "can", "could", "did", "do"),
        *("does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in", "into", "is", "it"),
        *("its", "may", "me", "might", "must", "my", "no", "not", "of", "on", "or", "our", "shall", "she", "should"),
        *(
            "so",
            "such",
            "than",
            "that",
            "the",
            "their",
            "them",
            "then",
            "there",
            "these",
            "they",
            "this",
            "those",
            "to",
        ),
        *("us", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will"),
        *("with", "would", "yes", "you", "your"),
    )
)


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def words(text: str) -> list[str]:
    """Lower-case words, in order."""
    return [match.lower().replace("’", "'") for match in _WORD.findall(text)]


def stems(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order."""
    stemmed: list[str] = _stemmer().stemWords([word for word in words(text) if word not in STOP])
    return stemmed


def numbers(text: str) -> list[float]:
    """Every number, whether written in digits or as a word."""
    return _digits(text) + [
        NUMBER_WORDS[part] for word in words(text) for part in word.split("-") if part in NUMBER_WORDS
    ]


def cardinals(text: str) -> list[float]:
    """Numbers that count or measure something: in digits, or words from two on; no dates, ordinals, shares or "one"."""
    text = _DATE.sub(" ", text)
    return _digits(text) + _spelt(text, _CARDINALS)


def measures(text: str) -> set[tuple[float, str]]:
    """Numbers with the stem of the word that follows, such as (25.0, "day")."""
    found: set[tuple[float, str]] = set()
    for match in _NUMBER.finditer(text):
        after = stems(text[match.end() : match.end() + 40])
        if after:
            found.add((_number(match), after[0]))
    tokens = words(text)
    for position, word in enumerate(tokens[:-1]):
        if word in NUMBER_WORDS:
            after = stems(" ".join(tokens[position + 1 : position + 4]))
            if after:
                found.add((NUMBER_WORDS[word], after[0]))
    return found


def _digits(text: str) -> list[float]:
    return [_number(match) for match in _NUMBER.finditer(text)]


def _spelt(text: str, values: Mapping[str, float]) -> list[float]:
    return [values[part] for word in words(text) for part in word.split("-") if part in values]


def _number(match: re.Match[str]) -> float:
    return float(match[1].replace(",", "")) * _SCALES.get((match[2] or "").strip(), 1.0)


def negations(text: str) -> int:
    """How often the text negates or forbids something."""
    tokens = words(text)
    stemmed = _stemmer().stemWords(tokens)
    return sum(word in _NEGATIONS or bool(_CONTRACTED.search(word)) for word in tokens) + sum(
        stem in _PROHIBITED for stem in stemmed
    )


def polarities(text: str) -> dict[str, set[bool]]:
    """Stem -> whether it stands within three words of a negation before it; both where it does and does not."""
    found: dict[str, set[bool]] = {}
    for sentence in sentences(text):
        tokens = words(sentence)
        denied = [word in _NEGATIONS or bool(_CONTRACTED.search(word)) for word in tokens]
        for position, (word, stem) in enumerate(zip(tokens, _stemmer().stemWords(tokens), strict=True)):
            if word not in STOP and not denied[position]:
                found.setdefault(stem, set()).add(any(denied[max(0, position - 3) : position]))
    return found


def number_contexts(text: str) -> list[tuple[float, frozenset[str]]]:
    """Every number with the stems of the words around it."""
    found = []
    pieces = _TOKEN.findall(text)
    for position, piece in enumerate(pieces):
        value = _value(piece)
        if value is not None:
            around = " ".join(pieces[max(0, position - 6) : position] + pieces[position + 1 : position + 7])
            found.append((value, frozenset(stems(around))))
    return found


def _value(piece: str) -> float | None:
    if piece[0].isdigit():
        return float(piece.replace(",", ""))
    return NUMBER_WORDS.get(piece.lower())


def names(text: str) -> list[str]:
    """Terms with capitals that do not begin a sentence: defined terms and names."""
    return _NAME.findall(text)


def quotes(text: str) -> list[str]:
    """What stands in double quotation marks."""
    return _QUOTE.findall(text)


def sentences(text: str) -> list[str]:
    """The sentences, roughly; a semicolon ends one, because rules chain clauses with it."""
    return [part for part in (piece.strip() for piece in _SENTENCE.split(text)) if part]
