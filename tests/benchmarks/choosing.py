"""Rules, and panels of rules, over recorded attempts: accuracy and tokens by the number of attempts, against majority.

    openrlhf-math eval --model MODEL --benchmark SET --samples 16 --record-confidence --scorer KIND ...
    python tests/benchmarks/choosing.py completions.jsonl [--aggregate product] [--measure mean]

Rows are what `eval` leaves, with scores and confidence. At k below all attempts, an accuracy is the mean over 32 random
subsets, the same for every rule; differences are paired over problems, with a bootstrap interval and a sign-flip p.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

from openrlhf_math.evaluation.estimates import bootstrap_intervals, sign_flip_p_value
from openrlhf_math.rerank.aggregate import aggregate, find_aggregation
from openrlhf_math.rerank.choose import best_of_n, chairman, majority, most_confident, weighted
from openrlhf_math.rerank.confidence import measured, weights

SUBSETS = 32


def of_rules(clusters, scores, sure):
    """A panel: four rules have a vote each, a tie goes to the majority's answer."""
    picks = [
        majority(clusters),
        weighted(clusters, scores),
        best_of_n(clusters, scores),
        most_confident(clusters, sure),
    ]
    names = [clusters[one] for one in picks if one is not None]
    return clusters.index(max(names, key=lambda name: (names.count(name), name == names[0]))) if names else None


def of_scorers(clusters, scores, sure):
    """A panel: the scorer and the model's own confidence, multiplied."""
    return most_confident(clusters, [score * one for score, one in zip(scores, sure, strict=True)])


def standardised(clusters, scores, sure):
    """Confidence as the logit of a weight, in standard deviations of the problem's attempts."""
    deviation = np.std(sure) or 1.0
    return most_confident(clusters, [math.exp((one - np.mean(sure)) / deviation) for one in sure])


RULES = {
    "majority": lambda clusters, scores, sure: majority(clusters),
    "weighted": lambda clusters, scores, sure: weighted(clusters, scores),
    "best_of_n": lambda clusters, scores, sure: best_of_n(clusters, scores),
    "chairman": lambda clusters, scores, sure: chairman(clusters, scores),
    "confident": lambda clusters, scores, sure: most_confident(clusters, sure),
    "confident, standardised": standardised,
    "panel: four rules": of_rules,
    "panel: score times confidence": of_scorers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--aggregate", default="product", help="of step scores (%(default)s)")
    parser.add_argument("--measure", default="mean", help="of confidence (%(default)s)")
    args = parser.parse_args()
    problems: dict[int, list[dict]] = {}
    for line in args.file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        problems.setdefault(row["problem_index"], []).append(row)
    most = min(map(len, problems.values()))
    ks = [2**power for power in range(1, most.bit_length()) if 2**power <= most]
    accuracy = {name: np.zeros((len(problems), len(ks))) for name in RULES}
    tokens = np.zeros((len(problems), len(ks)))
    for number, rows in enumerate(problems.values()):
        rng = np.random.default_rng([0, number])
        columns = (
            [row["answer_cluster"] for row in rows],
            aggregate([row["scores"] for row in rows], find_aggregation(args.aggregate))[0],
            weights(measured([row["confidence"] for row in rows], args.measure)),
        )
        right = [row["outcome"] == "correct" for row in rows]
        for at, k in enumerate(ks):
            drawn = [list(range(k))]
            if k < len(rows):
                drawn = rng.random((SUBSETS, len(rows))).argsort(axis=1)[:, :k].tolist()
            for subset in drawn:
                parts = [[column[one] for one in subset] for column in columns]
                for name, rule in RULES.items():
                    chosen = rule(*parts)
                    accuracy[name][number, at] += (chosen is not None and right[subset[chosen]]) / len(drawn)
                tokens[number, at] += sum(rows[one]["tokens"] for one in subset) / len(drawn)
    print(f"{len(problems):,} problems; k: " + ", ".join(map(str, ks)))
    print("tokens a problem: " + ", ".join(f"{mean:.0f}" for mean in tokens.mean(axis=0)))
    for name, values in accuracy.items():
        print(name)
        for at, k in enumerate(ks):
            moved = values[:, at] - accuracy["majority"][:, at]
            ((low, high),) = bootstrap_intervals(moved[:, None]).tolist()
            against = f"{moved.mean():+.1%} ({low:+.1%} to {high:+.1%}), p = {sign_flip_p_value(moved):.4f}"
            print(f"  k = {k:<3} {values[:, at].mean():.1%}" + ("" if name == "majority" else f"  {against}"))


if __name__ == "__main__":
    main()
