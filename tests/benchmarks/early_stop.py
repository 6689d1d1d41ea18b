"""A majority vote that stops early, on simulated votes: what it spares, and what its stated confidence is worth.

    python tests/benchmarks/early_stop.py [--problems 2000] [--attempts 32] [--seed 0]
    python tests/benchmarks/early_stop.py --recorded completions.jsonl     (what `eval` leaves, in place of simulated)

A problem is a distribution over answers: the right one has a share drawn from a Beta distribution, eleven wrong ones
share the rest by a Dirichlet distribution of concentration 0.3, so that one or two of them are popular; 3% of attempts
have no answer. Wrong attempts are longer, as they are in practice: log-normal tokens, 1.3 times the median. Every
stopping rule sees the same attempts as the vote that makes them all.

Three tables for each set: attempts one after the other, as they are recorded; attempts side by side, where those under
way are cancelled and what they had written is lost, all at once or in waves (every attempt writes a token at a time,
whatever else runs, so that seconds are steps of decoding); and for each stated confidence how often it was true.
"""

import argparse
import heapq
import json
from pathlib import Path

import numpy as np

from openrlhf_math.evaluation.estimates import bootstrap_intervals
from openrlhf_math.rerank.choose import majority
from openrlhf_math.rerank.early_stop import attempts_needed, cannot_lose, confident, lead_probability, never, wave

SETS = {"easy": (4.0, 1.0), "medium": (1.0, 1.0), "hard": (0.6, 1.8)}
RIGHT, WRONG, UNANSWERED = 0, 11, 0.03
RULES = {"cannot lose": cannot_lose, **{f"{level:.0%} confident": confident(level) for level in (0.9, 0.95, 0.99)}}
STATED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
EARLY = 2  # votes below which stopping is not considered


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


def recorded(path: Path):
    """The same of recorded attempts, as `eval` writes them; every problem has the same number."""
    rows: dict[int, list[dict]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.setdefault(row["problem_index"], []).append(row)
    # Clusters are numbered from 1, the right one is RIGHT.
    right = {
        number: {row["answer_cluster"] for row in part if row["outcome"] == "correct"} for number, part in rows.items()
    }

    def answer(number: int, row: dict) -> int:
        name = row["answer_cluster"]
        return -1 if name is None else RIGHT if name in right[number] else name + 1

    answers = [[answer(number, row) for row in part] for number, part in rows.items()]
    return np.array(answers), np.array([[row["tokens"] for row in part] for part in rows.values()])


def leader(answers: list[int | None]) -> int | None:
    number = majority(answers)
    return None if number is None else answers[number]


def one_by_one(votes, tokens) -> None:
    full = np.array([leader(row) == RIGHT for row in votes])
    for name, stop in RULES.items():
        made = np.array([attempts_needed(row, stop) for row in votes])
        early = np.array([leader(row[:number]) == RIGHT for row, number in zip(votes, made, strict=True)])
        spent = np.array([row[:number].sum() for row, number in zip(tokens, made, strict=True)])
        print(
            f"  {name:<14} {made.mean():5.1f} attempts, tokens saved {1 - spent.sum() / tokens.sum():6.1%}, accuracy "
            f"{early.mean():.1%}, difference {_difference(early, full)}, other outcome in {(early != full).mean():.1%}"
        )


def side_by_side(row: list[int | None], tokens: list[int], stop, waves: bool) -> tuple[int | None, int, int, int]:
    """One problem. Returns the answer, the tokens written, the steps of decoding, and how many attempts counted."""
    begun, counted, totals, under_way, now = 0, [], {}, [], 0
    while True:
        left = len(row) - len(counted)
        wanted = wave(stop, tuple(totals.values()), left) if waves else len(row)
        while begun < len(row) and len(under_way) < wanted:
            heapq.heappush(under_way, (now + tokens[begun], begun, now))
            begun += 1
        now, number, _ = heapq.heappop(under_way)
        counted.append(number)
        if row[number] is not None:
            totals[row[number]] = totals.get(row[number], 0) + 1
        if stop(tuple(totals.values()), len(row) - len(counted)) or len(counted) == len(row):
            break
    spent = sum(tokens[one] for one in counted) + sum(now - start for _, _, start in under_way)
    return leader([row[one] for one in counted]), spent, now, len(counted)


def at_once(votes, tokens) -> None:
    rows = tokens.tolist()
    full = [side_by_side(row, cost, never, False) for row, cost in zip(votes, rows, strict=True)]
    steps = sum(one[2] for one in full)
    right = np.array([one[0] == RIGHT for one in full])
    for name, stop in RULES.items():
        for how, waves in (("all at once", False), ("in waves", True)):
            done = [side_by_side(row, cost, stop, waves) for row, cost in zip(votes, rows, strict=True)]
            early = np.array([one[0] == RIGHT for one in done])
            print(
                f"  {name:<14} {how:<11} {np.mean([one[3] for one in done]):5.1f} attempts counted, tokens saved "
                f"{1 - sum(one[1] for one in done) / tokens.sum():6.1%}, a problem alone takes "
                f"{sum(one[2] for one in done) / steps:5.2f} of the time, difference {_difference(early, right)}"
            )


def stated_and_true(votes) -> None:
    """Of every beginning of every vote, by the probability that the rule states of it."""
    found = {at: [] for at in STATED[1:]}
    for row in votes:
        end, totals = leader(row), {}
        for name in row[:-1]:
            if name is None:
                continue
            totals[name] = totals.get(name, 0) + 1
            first, second = sorted((0, *totals.values()), reverse=True)[:2]
            if sum(totals.values()) >= EARLY:
                stated = lead_probability(first, second)
                ahead = max(totals, key=totals.get)
                at = next(upper for upper in STATED[1:] if stated <= upper)
                found[at].append((stated, ahead == end, ahead == RIGHT))
    for lower, upper in zip(STATED, STATED[1:], strict=False):
        if found[upper]:
            stated, leads, right = np.array(found[upper], float).mean(axis=0)
            print(
                f"  stated {lower:.2f} to {upper:.2f}: mean {stated:.3f}; leads all attempts {leads:.3f}; "
                f"is right {right:.3f} ({len(found[upper]):,} votes)"
            )


def _difference(early, full) -> str:
    difference = early.astype(float) - full
    low, high = bootstrap_intervals(difference[:, None], seed=0)[0]
    return f"{difference.mean():+.2%} ({low:+.2%} to {high:+.2%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--attempts", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recorded", type=Path, metavar="FILE", help="completions.jsonl of `eval`")
    args = parser.parse_args()
    if args.recorded:
        sets = {args.recorded.name: recorded(args.recorded)}
    else:
        rng = np.random.default_rng(args.seed)
        drawn = {name: simulate(rng, shape, args.problems, args.attempts) for name, shape in SETS.items()}
        sets = {**drawn, "all three": tuple(np.concatenate(parts) for parts in zip(*drawn.values(), strict=True))}
    for name, (answers, tokens) in sets.items():
        votes = [[None if answer < 0 else answer for answer in row] for row in answers.tolist()]
        full = np.mean([leader(row) == RIGHT for row in votes])
        print(f"{name}: {len(answers):,} problems of {answers.shape[1]} attempts")
        print(f"  accuracy of all attempts {full:.1%}, pass@1 {(answers == RIGHT).mean():.1%}")
        for title, table in (
            ("one after the other", lambda: one_by_one(votes, tokens)),
            ("side by side", lambda: at_once(votes, tokens)),
            ("stated confidence and truth", lambda: stated_and_true(votes)),
        ):
            print(f" {title}")
            table()


if __name__ == "__main__":
    main()
