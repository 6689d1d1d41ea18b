"""Accuracy of choosing rules over recorded attempts, by the number of attempts that take part: computed and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from openrlhf_math.evaluation.estimates import bootstrap_intervals, pass_at_k, sign_flip_p_value
from openrlhf_math.evaluation.recorded import Judged
from openrlhf_math.rerank.aggregate import Aggregation, Scores, aggregate, on_one_scale
from openrlhf_math.rerank.choose import Rule, majority, needs_confidence
from openrlhf_math.rerank.confidence import measured, surest, weights
from openrlhf_math.rerank.early_stop import Stop, attempts_needed


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule, with the aggregation of step scores it is applied to, None if it reads no scores.

    measure: of the model's confidence, for a rule that reads it, and for who is left out. keep: the share of the
    attempts with an answer that votes, the most confident, see `confidence.surest`.
    """

    name: str
    rule: Rule
    aggregation: Aggregation | None
    measure: str = "tail"
    keep: float = 1.0


MAJORITY = Entry("majority", majority, None)


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """What a majority vote that stops early gets and saves. saved: the share of tokens, or else of attempts."""

    accuracy: float
    attempts: float
    planned: float
    saved: float


def numbers_of_attempts(most: int) -> list[int]:
    """1, 2, 4, ... and the most there are."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), *([most] if most else [])]


def accuracies(
    problems: Sequence[Judged], entries: Sequence[Entry], ks: Sequence[int], subsets: int, seed: int
) -> np.ndarray:
    """Accuracy of every rule if k attempts take part, float [problems, entries, ks].

    The mean over random subsets of the recorded attempts, in random order, the same ones for every rule. A problem with
    k attempts or fewer takes them all, as recorded; k = 1 takes every single one. A problem without attempts is wrong.
    Scores are on one scale, see `aggregate.on_one_scale`.
    """
    scores = on_one_scale(one.scores for one in problems)
    problems = [replace(one, scores=found) for one, found in zip(problems, scores, strict=True)]
    return np.array(
        [_of_problem(judged, entries, ks, subsets, [seed, number]) for number, judged in enumerate(problems)]
    ).reshape(len(problems), len(entries), len(ks))


def _of_problem(judged: Judged, entries: Sequence[Entry], ks: Sequence[int], subsets: int, seed: list[int]) -> list:
    rng = np.random.default_rng(seed)
    drawn = [_subsets(len(judged.answer_clusters), k, subsets, rng) for k in ks]
    return [
        [sum(_is_right(judged, entry, values, subset) for subset in draws) / len(draws) for draws in drawn]
        for entry, values in ((entry, _values(judged, entry)) for entry in entries)
    ]


def _values(judged: Judged, entry: Entry) -> tuple[list[float], list[float | None]]:
    """What the rule reads of each attempt, and the confidence in it."""
    numbers = measured(judged.confidence or [None] * len(judged.answer_clusters), entry.measure)
    return weights(numbers) if needs_confidence(entry.rule) else _scores(judged, entry), numbers


def _scores(judged: Judged, entry: Entry) -> list[float]:
    if entry.aggregation is None:
        return [0.0] * len(judged.answer_clusters)
    return aggregate(scores_of(judged), entry.aggregation)[0]


def scores_of(judged: Judged) -> list[Scores]:
    """One for each attempt, also where the row has none."""
    return judged.scores or [None] * len(judged.answer_clusters)


def _subsets(attempts: int, k: int, subsets: int, rng: np.random.Generator) -> list[list[int]]:
    if k >= attempts:
        return [list(range(attempts))]
    if k == 1:
        return [[number] for number in range(attempts)]
    return rng.random((subsets, attempts)).argsort(axis=1)[:, :k].tolist()


def _is_right(judged: Judged, entry: Entry, values: tuple, subset: list[int]) -> bool:
    read, numbers = ([column[one] for one in subset] for column in values)
    clusters = surest([judged.answer_clusters[one] for one in subset], numbers, entry.keep)
    number = entry.rule(clusters, read)
    return number is not None and judged.correct[subset[number]]


def passes(problems: Sequence[Judged], ks: Sequence[int]) -> np.ndarray:
    """pass@k of every problem, float [problems, ks]: what a chooser who knows the gold would reach."""
    return np.array([[pass_at_k(len(one.correct), sum(one.correct), k) for k in ks] for one in problems])


def stopped_early(problems: Sequence[Judged], stop: Stop) -> EarlyStop:
    """A majority vote over the attempts in recorded order that stops when `stop` says so."""
    made = [attempts_needed(one.answer_clusters, stop) for one in problems]
    planned = [len(one.answer_clusters) for one in problems]
    right = [
        _is_right(one, MAJORITY, _values(one, MAJORITY), list(range(number)))
        for one, number in zip(problems, made, strict=True)
    ]
    tokens = [one.tokens for one in problems if one.tokens is not None]
    costs = tokens if len(tokens) == len(problems) else [[1] * len(one.answer_clusters) for one in problems]
    spent = sum(sum(cost[:number]) for cost, number in zip(costs, made, strict=True))
    total = sum(map(sum, costs))
    return EarlyStop(
        accuracy=float(np.mean(right)),
        attempts=float(np.mean(made)),
        planned=float(np.mean(planned)),
        saved=1 - spent / total if total else 0.0,
    )


def report(
    problems: Sequence[Judged], entries: Sequence[Entry], stops: Mapping[str, Stop], subsets: int, seed: int
) -> dict:
    """Everything that `vote` reports, as plain data.

    `accuracy` lists run along `ks`. `interval` is the 95% interval of the last, where all attempts take part.
    `from_majority`, of a rule, along `ks`: the paired difference from the majority over problems, its 95% interval
    (bootstrap) and p (`estimates.sign_flip_p_value`); None where the majority is not an entry, and of itself.
    """
    attempts = [len(one.answer_clusters) for one in problems]
    ks = numbers_of_attempts(max(attempts))
    by_rule = accuracies(problems, entries, ks, subsets, seed)
    oracle = passes(problems, ks)
    single = oracle[:, :1]
    # One set of resampled problems for all, so that their intervals can be compared.
    every = np.concatenate([single, by_rule[:, :, -1], oracle[:, -1:]], axis=1) if ks else single
    intervals = bootstrap_intervals(every, seed).tolist() if ks else []

    plain = next((number for number, entry in enumerate(entries) if entry.rule is majority and entry.keep == 1), None)

    def from_majority(number: int) -> dict | None:
        if plain is None or number == plain or not ks:
            return None
        moved = by_rule[:, number] - by_rule[:, plain]
        return {
            "difference": moved.mean(axis=0).tolist(),
            "interval": bootstrap_intervals(moved, seed).tolist(),
            "p": [sign_flip_p_value(column, seed) for column in moved.T],
        }

    def summary(values: np.ndarray, interval: int) -> dict:
        return {"accuracy": values.mean(axis=0).tolist(), "interval": intervals[interval] if ks else None}

    unscored = {
        entry.name: sum(aggregate(one.scores or (), entry.aggregation)[1] for one in problems)
        for entry in entries
        if entry.aggregation is not None
    }
    return {
        "problems": len(problems),
        "attempts": sum(attempts),
        "fewest_attempts": min(attempts),
        "unanswered": sum(one.unanswered for one in problems),
        "ungraded": sum(one.ungraded for one in problems),
        "kept_apart": sum(one.apart for one in problems),
        "unscored": max(unscored.values(), default=0),
        "ks": ks,
        "pass@1": summary(single, 0),
        "rules": {
            entry.name: summary(by_rule[:, number], number + 1) | {"from_majority": from_majority(number)}
            for number, entry in enumerate(entries)
        },
        "pass@k": summary(oracle, -1),
        "early_stop": {name: asdict(stopped_early(problems, stop)) for name, stop in stops.items()},
    }


def draw(summary: dict, path: Path) -> None:
    """Draw what `voting.report` returns. The format is that of the path's suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, PercentFormatter

    figure = Figure(figsize=(8, 5.5))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ks, most = summary["ks"], summary["ks"][-1]
    axes.plot(ks, summary["pass@k"]["accuracy"], color="black", linestyle="--", label="pass@k: at least one is correct")
    for label, accuracy, style in _curves(summary["rules"]):
        axes.plot(ks, accuracy, **style, markersize=5, linewidth=1.3, alpha=0.85, label=label)
    axes.axhline(summary["pass@1"]["accuracy"][0], color="grey", linestyle=":", label="pass@1: a single attempt")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("attempts that take part, k")
    axes.set_ylabel("problems solved")
    axes.set_title(f"Accuracy by choosing rule, {summary['problems']:,} problems, up to {most} attempts each")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelspacing=0.9)
    figure.savefig(path, dpi=150, format=path.suffix[1:], bbox_inches="tight")  # with the legend next to it


def _curves(rules: dict) -> list[tuple[str, list[float], dict]]:
    """Label, values and style of every curve: a colour a rule, a marker an aggregation.

    Rules that agree everywhere are one curve with all names: of curves on top of each other only the last is seen.
    """
    names: dict[tuple, list[str]] = {}
    for name, rule in rules.items():
        names.setdefault(tuple(rule["accuracy"]), []).append(name)
    colours: dict[str, str] = {}
    markers: dict[str, str] = {}
    curves = []
    for accuracy, same in names.items():
        rule, _, aggregation = same[0].partition(", ")
        style = {
            "color": colours.setdefault(rule, f"C{len(colours) % 10}"),
            "marker": markers.setdefault(aggregation, "osD^vPX*"[len(markers) % 8]),
        }
        curves.append(("\n= ".join(same), list(accuracy), style))
    return curves
