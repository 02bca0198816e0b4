"""Makes ARPA files from texts: interpolated Kneser-Ney with one discount (Chen and Goodman 1999, section 2.7).

The distribution after each context adds up to 1 over the words of the text, `</s>` and `<unk>`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

DISCOUNT = 0.75
Gram = tuple[str, ...]


def counts_of(lines: Iterable[str], order: int) -> list[Counter[Gram]]:
    """Counts of 1-grams to n-grams: of the longest, occurrences; of others, distinct words before them."""
    raw: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for line in lines:
        words = ["<s>", *line.split(), "</s>"]
        for size in range(1, order + 1):
            raw[size - 1].update(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    found = [Counter(gram[1:] for gram in longer) for longer in raw[1:]] + raw[-1:]
    for own, plain in zip(found, raw, strict=True):  # nothing stands before <s>
        own.update({gram: count for gram, count in plain.items() if gram[0] == "<s>" and gram not in own})
    found[0].pop(("<s>",), None)
    return found


def arpa(lines: Iterable[str], order: int = 3, unknown: bool = True) -> str:
    """The text of an ARPA file."""
    counts = counts_of(lines, order)
    vocabulary = {*(gram[0] for gram in counts[0])} | ({"<unk>"} if unknown else set())
    probability: dict[Gram, float] = {}
    backoff: dict[Gram, float] = {}
    lower = dict.fromkeys(((word,) for word in vocabulary), 1 / len(vocabulary))
    for size, own in enumerate(counts, 1):
        totals: defaultdict[Gram, int] = defaultdict(int)
        kinds: defaultdict[Gram, int] = defaultdict(int)
        for gram, count in own.items():
            totals[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        for context, total in totals.items():
            backoff[context] = DISCOUNT * kinds[context] / total
        grams = {(word,): own.get((word,), 0) for word in vocabulary} if size == 1 else own
        for gram, count in grams.items():
            shorter = lower[gram] if size == 1 else probability[gram[1:]]
            context = gram[:-1]
            probability[gram] = max(count - DISCOUNT, 0) / totals[context] + backoff[context] * shorter
    return written(probability, backoff, order)


def written(probability: dict[Gram, float], backoff: dict[Gram, float], order: int) -> str:
    """An ARPA file of probabilities and back-off weights; `<s>` has the probability 0."""
    probability = {("<s>",): 0.0, **probability}
    rows = [["\\data\\"]]
    for size in range(1, order + 1):
        own = sorted(gram for gram in probability if len(gram) == size)
        rows[0].append(f"ngram {size}={len(own)}")
        section = [f"\\{size}-grams:"]
        for gram in own:
            p = math.log10(probability[gram]) if probability[gram] else -99
            weight = f"\t{math.log10(backoff[gram]):.7g}" if backoff.get(gram) and size < order else ""
            section.append(f"{p:.7g}\t{' '.join(gram)}{weight}")
        rows.append(section)
    return "\n\n".join("\n".join(section) for section in rows) + "\n\n\\end\\\n"


def write_arpa(path: Path, lines: Iterable[str], order: int = 3, unknown: bool = True) -> Path:
    path.write_text(arpa(lines, order, unknown), encoding="utf-8")
    return path
