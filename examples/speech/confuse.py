"""Made-up n-best lists: sentences in which words are confused with words that look alike.

    python examples/speech/confuse.py text.txt 300 lists.tsv references.txt

Each hypothesis confuses every word with probability 0.15. Its acoustic score is a random number per confused word, with
mean -0.5, so that the first pass prefers the right sentence only a little.
"""

import random
import sys
from difflib import get_close_matches

HYPOTHESES, CONFUSED, SEED = 20, 0.15, 1


def main(text, count, lists, references):
    with open(text, encoding="utf-8") as file:
        lines = [line.split() for line in file]
    rng = random.Random(SEED)
    words = sorted({word for line in lines for word in line if word.isalpha()})
    alike = {}
    chosen = rng.sample([line for line in lines if 8 <= len(line) <= 25], int(count))
    with open(lists, "w", encoding="utf-8") as out, open(references, "w", encoding="utf-8") as said:
        print("utterance", "acoustic", "text", sep="\t", file=out)
        for number, line in enumerate(chosen, 1):
            print(f"u{number:03}", *line, file=said)
            hypotheses = {" ".join(line): 0.0}
            while len(hypotheses) < HYPOTHESES:
                own, score = list(line), 0.0
                for place, word in enumerate(line):
                    if word.isalpha() and rng.random() < CONFUSED:
                        if word not in alike:
                            alike[word] = get_close_matches(word, words, n=5, cutoff=0.6)[1:] or [rng.choice(words)]
                        own[place] = rng.choice(alike[word])
                        score += rng.gauss(-0.5, 1.0)
                hypotheses.setdefault(" ".join(own), score)
            rows = list(hypotheses.items())
            rng.shuffle(rows)
            for hypothesis, score in rows:
                print(f"u{number:03}", f"{score:.3f}", hypothesis, sep="\t", file=out)


if __name__ == "__main__":
    main(*sys.argv[1:])
