"""The metrics of a step: their names, their files, the line on the screen, Ray's gauges, and those of groups."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import numpy as np
from rich.progress import Progress

from openrlhf_math.grpo.problems.majority import SHARE
from openrlhf_math.runs.progress import step_bar

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

# What a GRPO run appends to; every record has its step.
RECORDS = ("metrics.jsonl", "problems.jsonl", "eval.jsonl", "ungraded.jsonl")

# OpenRLHF's name -> ours, the field's usual one.
NAMES = {
    "actor_grad_norm": "grad_norm",
    "actor_lr": "learning_rate",
    "response_length": "completion_length",
    "truncated": "truncation_rate",
}
# Constant or repeated under KL 0 and one step a batch, or said by another metric.
LEFT_OUT = (
    "generated_samples",
    "score",
    "return",
    "rollout/reward_mean",
    "rollout/response_length_mean",
    "rollout/truncated_rate",
)


def step_record(step: int, status: dict, seconds_since_start: float) -> dict[str, float]:
    """One line of metrics.jsonl: `step`, `seconds_since_start` and every number of OpenRLHF's status."""
    numbers = {NAMES.get(key, key): value for key, value in sorted(status.items()) if key not in LEFT_OUT}
    return {"step": step, "seconds_since_start": round(seconds_since_start, 3)} | numbers


def tool_shares(means: dict[str, float]) -> dict[str, float]:
    """Of all calls of a batch the share that failed, of all completion tokens the share that a tool wrote.

    means: over completions. Empty where no tool can be called.
    """
    if "tool/calls" not in means:
        return {}
    calls, length = means["tool/calls"], means["response_length"]
    return {
        "tool/failed_rate": means["tool/failed_calls"] / calls if calls else 0.0,
        "tool/token_share": means["tool/tokens"] / length if length else 0.0,
    }


def one_line(record: dict, steps: int) -> str:
    """A step as one line for a person, of at most 80 characters. steps: in all. No accuracy: a dash.

    The loss is left out: with one step a batch it is 0. What could not be graded is shown only where there is some.
    Where majorities took the place of gold answers, the accuracy is an agreement.
    """
    seconds = record["timing/step_total"]
    accuracy, ungraded = record.get("accuracy"), record.get("ungraded_rate", 0.0)
    idle = record["zero_advantage_rate"]
    right = "maj" if record.get(SHARE) else "acc"
    return (
        f"step {record['step']:>{len(str(steps))}}/{steps} reward {record['reward']:.2f} "
        f"{right} {'-' if accuracy is None else f'{accuracy:.0%}'} len {record['completion_length']:.0f} "
        f"cut {record['truncation_rate']:.0%} {f'ungraded {ungraded:.1%} ' if ungraded else ''}"
        f"idle {idle:.0%} grad {record['grad_norm']:.2g} {seconds:.{2 if seconds < 10 else 0}f} s"
    )


STARTING = "GRPO: starting engines and actors"
Watcher = Callable[[dict, int], None]  # called with a step's record and the number of steps in all


class Display:
    """Where a run's steps are shown: called with a step's record and the number of steps in all."""

    def __init__(self, progress: Progress, watchers: tuple[Watcher, ...]) -> None:
        self._progress, self._watchers = progress, watchers
        self._task = progress.add_task(STARTING, total=None)
        self._moves = progress.console.is_terminal
        if not self._moves:  # a log file has no bar
            self.say(f"{STARTING} ...")

    def __call__(self, record: dict, total: int) -> None:
        self.say(one_line(record, total))
        self._progress.update(self._task, description="GRPO", total=total, completed=record["step"])
        for watcher in self._watchers:
            watcher(record, total)

    def begin(self, step: int) -> None:
        """Show that engines and actors are there and a step, which may take minutes, is being taken."""
        line = f"GRPO: step {step}"
        self._progress.update(self._task, description=line)
        if not self._moves:
            self.say(f"{line} ...")

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def step_display(stream: TextIO, *watchers: Watcher) -> Iterator[Display]:
    """While the block runs, a progress bar on `stream`. Yields what shows a step, also to `watchers`."""
    with step_bar(stream, transient=True) as progress:
        yield Display(progress, watchers)


# Ours, by their gauge's name; what it is.
GAUGES = {
    "step": "steps done",
    "steps": "steps in all",
    "reward": "mean reward of the completions of the step",
    "accuracy": "share of correct completions",
    "format_rate": "share of completions in correct format",
    "completion_length": "mean tokens of a completion",
    "truncation_rate": "share of completions that were cut off",
    "ungraded_rate": "share of completions that could not be graded",
    "zero_advantage_rate": "share of completions with advantage 0",
    "logprob_gap": "mean difference between trainer and engine, nats a token",
    "policy_loss": "the policy loss",
    "grad_norm": "norm of the gradient before it is clipped",
    "learning_rate": "learning rate",
    "tokens_per_second": "generated tokens for each second of the whole step",
    "memory_peak_gib": "sum of every process's peak memory in the step, GiB",
    "phase_seconds": "seconds of the step, by phase",
}
PREFIX, TIMING = "openrlhf_math_", "timing/"


def gauge_values(record: dict, steps: int) -> dict[str, float]:
    """Of a step's record, the finite ones. steps: in all."""
    seconds = record.get("timing/step_total") or math.nan
    length = record.get("completion_length", math.nan) - record.get("tool/tokens", 0.0)
    tokens = record.get("rollout/num_samples", math.nan) * length
    derived = {
        "steps": steps, "tokens_per_second": tokens / seconds, "memory_peak_gib": record.get("memory/peak_gib")
    }  # fmt: skip
    known = record | derived
    return {name: float(known[name]) for name in GAUGES if _is_number(known.get(name))}


def phase_seconds(record: dict) -> dict[str, float]:
    """Seconds by phase."""
    return {
        name.removeprefix(TIMING): float(value)
        for name, value in record.items()
        if name.startswith(TIMING) and _is_number(value)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def step_gauges(run: str) -> Callable[[dict, int], None]:
    """A function (a step's record, steps in all) that sets the gauges. run: the tag. Ray must be connected when it is
    called; who connects is asked at the first step."""
    gauges: dict = {}

    def gauge(name: str, *tags: str) -> "Gauge":
        if name not in gauges:
            from ray.util.metrics import Gauge

            gauges[name] = Gauge(PREFIX + name, description=GAUGES[name], tag_keys=("run", *tags))
            gauges[name].set_default_tags({"run": run})
        return gauges[name]

    def set_all(record: dict, steps: int) -> None:
        for name, value in gauge_values(record, steps).items():
            gauge(name).set(value)
        for phase, seconds in phase_seconds(record).items():
            gauge("phase_seconds", "phase").set(seconds, tags={"phase": phase})

    return set_all


Outcomes = Mapping[int, tuple[int, int]]  # problem -> correct completions, all completions

MOST_SOURCES = 12  # with their own metrics; those with the fewest problems are "other"
MOST_LEVELS = 8  # of difficulty; more values than these become ranges with equally many problems each
PERCENTILES = (50, 90)


class Strata:
    """The problems of a run by source and by difficulty, both fixed at the start, so that steps can be compared."""

    def __init__(self, sources: Sequence[str], difficulty: np.ndarray) -> None:
        """sources, difficulty (float64, NaN where unknown): of every problem."""
        kept = {name for name, _ in Counter(sources).most_common(MOST_SOURCES)}
        self._sources = [name if name in kept else "other" for name in sources]
        known = np.unique(difficulty[~np.isnan(difficulty)])
        if len(known) > MOST_LEVELS:
            edges = np.unique(np.nanquantile(difficulty, np.linspace(0, 1, MOST_LEVELS + 1)))
            self._lower = edges[:-1]
            names = [f"{low:g} to {high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
        else:
            self._lower, names = known, [f"{value:g}" for value in known]
        self._levels = [None if math.isnan(value) else names[self._level(value)] for value in difficulty]

    def _level(self, value: float) -> int:
        return int(np.searchsorted(self._lower, value, side="right")) - 1

    def accuracies(self, outcomes: Outcomes) -> dict[str, float]:
        """Share of correct completions by source, if there are several, and by difficulty, if it is known."""
        found: dict[str, list[int]] = {}
        several = len(set(self._sources)) > 1
        for problem, counts in outcomes.items():
            names = [f"accuracy/source/{self._sources[problem]}"] if several else []
            if (level := self._levels[problem]) is not None:
                names.append(f"accuracy/difficulty/{level}")
            for name in names:
                totals = found.setdefault(name, [0, 0])
                totals[0] += counts[0]
                totals[1] += counts[1]
        return {name: correct / attempts for name, (correct, attempts) in sorted(found.items())}


def group_metrics(outcomes: Outcomes) -> dict[str, float]:
    """Shares of groups in which none, some and all completions are correct, and pass@k for k = 2, 4, 8, ... .

    pass@k is the mean of 1 - C(n - c, k) / C(n, k) over groups of n completions with c correct, unbiased
    (https://arxiv.org/abs/2107.03374, equation 1); k is at most the smallest group.
    """
    if not outcomes:
        return {}
    groups = list(outcomes.values())
    metrics = {
        "groups/solved_none": np.mean([correct == 0 for correct, _ in groups]),
        "groups/solved_some": np.mean([0 < correct < size for correct, size in groups]),
        "groups/solved_all": np.mean([correct == size for correct, size in groups]),
    }
    k, smallest = 2, min(size for _, size in groups)
    while k <= smallest:
        metrics[f"groups/pass_at_{k}"] = np.mean([
            1 - math.comb(size - correct, k) / math.comb(size, k) for correct, size in groups
        ])  # fmt: skip
        k *= 2
    return {name: float(value) for name, value in metrics.items()}


def length_metrics(lengths: Sequence[float], correct: Sequence[bool]) -> dict[str, float]:
    """Mean and percentiles of the tokens of correct and of wrong completions; none of a kind that does not occur."""
    tokens, right = np.asarray(lengths, dtype=np.float64), np.asarray(correct, dtype=bool)
    metrics = {}
    for name, chosen in (("correct", tokens[right]), ("wrong", tokens[~right])):
        if len(chosen):
            metrics[f"length/{name}_mean"] = chosen.mean()
            metrics |= {f"length/{name}_p{percent}": np.percentile(chosen, percent) for percent in PERCENTILES}
    return {name: float(value) for name, value in metrics.items()}
