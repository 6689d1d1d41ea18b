"""The metrics of a step: their names, their files and the line on the screen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import Progress

from openrlhf_math.grpo.problems.majority import SHARE
from openrlhf_math.runs.progress import step_bar

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
