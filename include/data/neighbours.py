"""Texts that are nearly the same, among many: MinHash signatures, banded, and every candidate compared exactly.

The similarity of two texts is the Jaccard similarity of their sets of pieces after normalisation (NFKC, case folded,
everything but letters and digits one space). Pieces are four characters of one word, its borders included: what
scikit-learn calls `char_wb`. It depends on the two texts alone, so a pair that was found stays found when data grows; a
weighting by frequency (TF-IDF) would not have that.

Broder: On the resemblance and containment of documents, SEQUENCES 1997; the banding is that of Leskovec, Rajaraman and
Ullman: Mining of Massive Datasets, chapter 3. Bands are as many as find a pair that is exactly at the threshold
with probability `RECALL`, and one above it with more. Memory: 4 bytes per text and band.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from include.errors import DataError

PIECE = 4
RECALL = 0.99
#: Most texts -> rows of a band. More rows leave fewer pairs of strangers to compare, and need more bands.
ROWS = {30_000: 4, 300_000: 5, 1 << 62: 6}
#: In a bucket each text is compared with this many that follow: texts of one mould are a chain, not all pairs.
WINDOW = 32
MAX_CANDIDATES = 100_000_000
_TEXTS, _PAIRS, _BANDS = 4_096, 16_384, 8  # at a time

Ints = NDArray[np.int64]
_Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Pairs:
    """Near-duplicates.

    Attributes:
        first, second: Numbers of the two texts, shape (n,); `first` is the smaller one.
        similarity: Shape (n,); 1.0 is the same text after normalisation. Of texts that are the same, only pairs with
            the first of them are listed.
        compared: Pairs that were compared exactly.
    """

    first: Ints
    second: Ints
    similarity: NDArray[np.float64]
    compared: int

    def __len__(self) -> int:
        return len(self.first)


def normalised(text: str) -> str:
    """What of a text counts when it is compared."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def near_duplicates(texts: Sequence[str], threshold: float) -> Pairs:
    """All pairs of texts that are at least `threshold` similar, but for those that the bands miss (see the module).

    Texts without a letter or digit are not compared. The result depends on nothing but the texts.

    Raises:
        DataError: So many texts are alike that comparing them would not end.
    """
    whole = [normalised(text) for text in texts]
    seen: dict[str, int] = {}
    same = [(seen.setdefault(text, number), number) for number, text in enumerate(whole) if text]
    repeated = np.array([pair for pair in same if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)
    numbers = np.fromiter(seen.values(), dtype=np.int64, count=len(seen))
    unique = list(seen)
    found = [_Found(unique, threshold).pairs()] if len(unique) > 1 else []
    left = np.concatenate([repeated[:, 0], *(numbers[pairs.first] for pairs in found)])
    right = np.concatenate([repeated[:, 1], *(numbers[pairs.second] for pairs in found)])
    similarity = np.concatenate([np.ones(len(repeated)), *(pairs.similarity for pairs in found)])
    compared = len(repeated) + sum(pairs.compared for pairs in found)
    order = np.lexsort((right, left))
    return Pairs(left[order], right[order], similarity[order], compared)


class _Found:
    """The search among texts that all differ."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._texts = texts
        self._threshold = threshold
        self._rows = next(rows for most, rows in ROWS.items() if len(texts) <= most)
        self._bands = math.ceil(math.log(1 - RECALL) / math.log(1 - min(threshold, 0.999) ** self._rows))

    def pairs(self) -> Pairs:
        keys, sizes = self._keys()
        n = len(self._texts)
        done = np.empty(0, dtype=np.int64)
        kept: list[tuple[Ints, NDArray[np.float64]]] = []
        for start in range(0, self._bands, _BANDS):
            codes = np.unique(np.concatenate([_candidates(column, n) for column in keys[start : start + _BANDS]]))
            codes = np.setdiff1d(codes, done, assume_unique=True)
            left, right = np.divmod(codes, n)
            close = np.minimum(sizes[left], sizes[right]) >= self._threshold * np.maximum(sizes[left], sizes[right])
            kept.append(self._compare(codes[close]))
            done = np.union1d(done, codes)
            if len(done) > MAX_CANDIDATES:
                raise DataError(
                    f"more than {MAX_CANDIDATES} pairs of {n} texts share pieces: they are of one mould",
                    where="split.leakage",
                    hint="compare columns that tell the rows apart, or raise split.leakage.threshold",
                )
        codes = np.concatenate([part for part, _ in kept])
        left, right = np.divmod(codes, n)
        return Pairs(left, right, np.concatenate([part for _, part in kept]), len(done))

    def _keys(self) -> tuple[NDArray[np.uint32], Ints]:
        """The key of every text in every band, shape (bands, texts), and how many different pieces each text has."""
        random = np.random.default_rng(0)
        shape = (self._bands, self._rows)
        factors = random.integers(0, 1 << 63, size=shape, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        offsets = random.integers(0, 1 << 63, size=shape, dtype=np.uint64)
        mixers = random.integers(0, 1 << 63, size=self._rows, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        keys = np.empty((self._bands, len(self._texts)), dtype=np.uint32)
        sizes = np.empty(len(self._texts), dtype=np.int64)
        for start in range(0, len(self._texts), _TEXTS):
            pieces, starts = _sets(self._texts[start : start + _TEXTS])
            stop = start + len(starts)
            sizes[start:stop] = np.diff(np.append(starts, len(pieces)))
            for band in range(self._bands):
                key = np.zeros(len(starts), dtype=np.uint64)
                for row in range(self._rows):
                    hashed = (pieces * factors[band, row] + offsets[band, row]) >> np.uint64(32)
                    key += np.minimum.reduceat(hashed, starts) * mixers[row]
                keys[band, start:stop] = key >> np.uint64(32)
        return keys, sizes

    def _compare(self, codes: Ints) -> tuple[Ints, NDArray[np.float64]]:
        """Those of the pairs that are similar, with their similarity."""
        parts = [self._similarity(codes[start : start + _PAIRS]) for start in range(0, len(codes), _PAIRS)]
        similarity = np.concatenate(parts) if parts else np.empty(0)
        similar = similarity >= self._threshold
        return codes[similar], similarity[similar]

    def _similarity(self, codes: Ints) -> NDArray[np.float64]:
        left, right = np.divmod(codes, len(self._texts))
        involved, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        pieces, starts = _sets([self._texts[number] for number in involved])
        sizes = np.diff(np.append(starts, len(pieces)))
        sides = np.split(places, 2)
        marked = [_marked(pieces, starts[side], sizes[side]) for side in sides]
        both = np.sort(np.concatenate(marked))
        shared = both[1:][both[1:] == both[:-1]] >> np.uint64(32)
        common = np.bincount(shared.astype(np.int64), minlength=len(codes))
        return np.asarray(common / (sizes[sides[0]] + sizes[sides[1]] - common), dtype=np.float64)


def _sets(texts: Sequence[str]) -> tuple[_Hashes, Ints]:
    """The different pieces of all texts, as 32-bit hashes one text after the other, and where each text starts."""
    padded = [f" {text}  " for text in texts]
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
    count = len(characters) - PIECE + 1
    first, second, third, fourth = (characters[offset : offset + count] for offset in range(PIECE))
    space = np.uint64(ord(" "))
    letter = (first == space) & (second != space) & (third == space)  # a word of one letter: its fourth is not its own
    hashed = first
    for character in (second, third, np.where(letter, np.uint64(0), fourth)):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + character + np.uint64(1)
    hashed = ((hashed ^ (hashed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)
    within = letter | ((second != space) & (third != space))
    marked = np.unique((owner[:count][within].astype(np.uint64) << np.uint64(32)) | hashed[within])
    starts = np.searchsorted(marked, np.arange(len(texts), dtype=np.uint64) << np.uint64(32))
    return marked & np.uint64(0xFFFFFFFF), starts.astype(np.int64)


def _marked(pieces: _Hashes, starts: Ints, sizes: Ints) -> _Hashes:
    """The pieces of the chosen texts, each with the number of its pair in the upper half."""
    pair = np.repeat(np.arange(len(starts)), sizes)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    marked: _Hashes = (pair.astype(np.uint64) << np.uint64(32)) | pieces[np.repeat(starts, sizes) + within]
    return marked


def _candidates(keys: NDArray[np.uint32], n: int) -> Ints:
    """Pairs (first * n + second) of texts with the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    return np.concatenate([np.empty(0, dtype=np.int64), *_runs(order, ordered, n)])


def _runs(order: Ints, ordered: NDArray[np.uint32], n: int) -> Iterator[Ints]:
    for distance in range(1, min(WINDOW, n - 1) + 1):
        same = ordered[distance:] == ordered[:-distance]
        if not same.any():
            return
        yield order[:-distance][same] * n + order[distance:][same]  # a stable sort: the first has the smaller number
