"""Personal data within free texts: what the formats of addresses and numbers give away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from atlas_etl.protection.detection import Finding
from atlas_etl.protection.kinds import KINDS, MASK, Kind

Finder = Callable[[str], Mapping[str, float]]  # the kinds that a text holds, and how sure that is, 0 to 1

_MOST_TEXTS = 200  # of a column
_LONG = 30  # characters, with a blank among them: a text, and no value of another kind
_LEAST_LONG = 0.2  # of the column's values
_LEAST_SHARE = 0.01
_WITHIN = {kind.name: kind for kind in KINDS if kind.name in ("email", "iban", "card")}
_SHAPES = {name: re.compile(rf"(?<![\w@.+-]){kind.shape}(?![\w@])") for name, kind in _WITHIN.items()}


def found_by_format(text: str) -> Mapping[str, float]:
    """E-mail addresses, IBANs, cards, and phone numbers as they are dialled from abroad."""
    import phonenumbers

    found = {}
    for name, kind in _WITHIN.items():
        if any(_holds(kind, each[0]) for each in _SHAPES[name].finditer(text)):
            found[name] = kind.certainty
    if "+" in text and phonenumbers.PhoneNumberMatcher(text, None).has_next():
        found["phone"] = 0.95
    return found


def _holds(kind: Kind, candidate: str) -> bool:
    """Whether the candidate's first words are of the kind: what follows may only look like more."""
    if kind.check is None:
        return True
    words = candidate.split(" ")
    return any(kind.check(" ".join(words[:end])) for end in range(len(words), 0, -1))


def found_in_texts(column: str, texts: Sequence[str], find: Finder) -> Finding | None:
    """What the texts of a column hold; None where it has no texts, or nothing is found in them."""
    long = [text for text in texts if len(text) > _LONG and " " in text]
    if not texts or len(long) / len(texts) < _LEAST_LONG:
        return None
    looked_at = long[:_MOST_TEXTS]
    counts: Counter[str] = Counter()
    best: list[float] = []
    for text in looked_at:
        found = find(text)
        counts.update(found.keys())
        best += [max(found.values())] if found else []
    share = len(best) / len(looked_at)
    if share < _LEAST_SHARE:
        return None
    names = ", ".join(name for name, _ in counts.most_common())
    kind = Kind(f"text with {names}", MASK)
    confidence = round(sum(best) / len(best), 2)
    return Finding(column, kind, confidence, ("content",), round(share, 3), len(looked_at))
