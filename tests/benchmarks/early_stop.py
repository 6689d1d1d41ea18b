"""Tokens saved by a majority vote that stops early, and what that does to its accuracy, on simulated votes.

    python tests/benchmarks/early_stop.py [--problems 2000] [--attempts 32] [--seed 0]

A problem is a distribution over answers: the right one has a share drawn from a Beta distribution, eleven wrong ones
share the rest by a Dirichlet distribution of concentration 0.3, so that one or two of them are popular; 3% of attempts
have no answer. Wrong attempts are longer, as they are in practice: log-normal tokens, 1.3 times the median. Every
stopping rule sees the same attempts, in the same order, as the vote that makes them all.
"""

import argparse

import numpy as np

from openrlhf_math.evaluation.estimates import bootstrap_intervals
from openrlhf_math.rerank.choose import majority
from openrlhf_math.rerank.early_stop import attempts_needed, cannot_lose, confident

SETS = {"easy": (4.0, 1.0), "medium": (1.0, 1.0), "hard": (0.6, 1.8)}
RIGHT, WRONG, UNANSWERED = 0, 11, 0.03
RULES = {"cannot lose": cannot_lose, **{f"{level:.0%} confident": confident(level) for level in (0.9, 0.95, 0.99)}}


def simulate(rng, shape: tuple[float, float], problems: int, attempts: int):
    """Answers (0 is right, -1 is none) and tokens, both int [problems, attempts]."""
    share = rng.beta(*shape, size=(problems, 1))
    wrong = rng.dirichlet(np.full(WRONG, 0.3), size=problems) * (1 - share)
    edges = np.concatenate([share, wrong], axis=1).cumsum(axis=1)
    draws = rng.random((problems, attempts, 1))
    answers = np.minimum((draws > edges[:, None, :]).sum(axis=2), WRONG)
    answers[rng.random((problems, attempts)) < UNANSWERED] = -1
    tokens = rng.lognormal(np.log(600), 0.5, size=(problems, attempts)) * np.where(answers == RIGHT, 1.0, 1.3)
    return answers, tokens.astype(int)


def right(answers: list[int | None]) -> bool:
    number = majority(answers)
    return number is not None and answers[number] == RIGHT


def compare(answers, tokens) -> None:
    votes = [[None if answer < 0 else answer for answer in row] for row in answers.tolist()]
    full = np.array([right(row) for row in votes])
    print(f"  accuracy of all attempts {full.mean():.1%}, pass@1 {(answers == RIGHT).mean():.1%}")
    for name, stop in RULES.items():
        made = np.array([attempts_needed(row, stop) for row in votes])
        early = np.array([right(row[:number]) for row, number in zip(votes, made, strict=True)])
        spent = np.array([row[:number].sum() for row, number in zip(tokens, made, strict=True)])
        difference = early.astype(float) - full
        low, high = bootstrap_intervals(difference[:, None], seed=0)[0]
        print(
            f"  {name:<14} {made.mean():5.1f} attempts, tokens saved {1 - spent.sum() / tokens.sum():6.1%}, accuracy "
            f"{early.mean():.1%}, difference {difference.mean():+.2%} ({low:+.2%} to {high:+.2%}), "
            f"other outcome in {(early != full).mean():.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--attempts", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    drawn = {name: simulate(rng, shape, args.problems, args.attempts) for name, shape in SETS.items()}
    answers, tokens = (np.concatenate(parts) for parts in zip(*drawn.values(), strict=True))
    for name, (answers_of_set, tokens_of_set) in {**drawn, "all three": (answers, tokens)}.items():
        print(f"{name}: {len(answers_of_set):,} problems of {args.attempts} attempts")
        compare(answers_of_set, tokens_of_set)


if __name__ == "__main__":
    main()
