"""Mean surprisal of each region in each condition, and the difference of the conditions at the critical region.

python examples/reading_times/figure.py regions.csv regions.png
"""

import csv
import statistics
import sys
from collections import defaultdict

import matplotlib.pyplot as plt

CONDITIONS = {"none": "without that", "that": "with that"}
NAMES = {"1": "subject, verb", "2": "noun phrase", "3": "critical verb", "4": "rest"}
CRITICAL = "3"
T_11 = 2.201  # 97.5 % quantile of Student's t for 12 items


def read(path):
    """Surprisal by condition, region and item."""
    found = defaultdict(dict)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["region"] in NAMES:
                found[row["condition"], row["region"]][row["item"]] = float(row["surprisal"])
    return found


def interval(values):
    """Mean, and half of its 95 % confidence interval."""
    return statistics.mean(values), T_11 * statistics.stdev(values) / len(values) ** 0.5


def main(table, picture):
    found = read(table)
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for shift, (condition, label) in zip((-0.06, 0.06), CONDITIONS.items(), strict=True):
        points = [interval([*found[condition, region].values()]) for region in NAMES]
        places = [place + shift for place in range(len(NAMES))]
        means, halves = zip(*points, strict=True)
        axes.errorbar(places, means, yerr=halves, marker="o", capsize=3, label=label)
    axes.set_xticks(range(len(NAMES)), NAMES.values())
    axes.set_ylabel("surprisal, bits")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=150)
    plain, marked = found["none", CRITICAL], found["that", CRITICAL]
    mean, half = interval([plain[item] - marked[item] for item in plain])
    print(f"{NAMES[CRITICAL]}: {mean:.2f} +- {half:.2f} bits more without that, in {len(plain)} items (95 %, paired)")


if __name__ == "__main__":
    main(*sys.argv[1:])
