"""Progress of SFT and of reward-model training: steps in the terminal, the loss as a plot."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.runs.process import resume_command, working
from openrlhf_math.runs.progress import step_bar
from openrlhf_math.runs.records import read_records
from openrlhf_math.sft.settings import is_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.progress import Progress as Bar


class Progress:
    """Shows a training: called with each step's record and the number of steps in all."""

    def __init__(self, title: str, bar: "Bar", beat: Callable[[dict, int], None]) -> None:
        self._title, self._bar, self._beat = title, bar, beat
        self._task = bar.add_task(f"{title}: loading", total=None)

    def __call__(self, record: dict, total: int) -> None:
        description = f"{self._title}: loss {record['loss']:.3f}"
        self._bar.update(self._task, description=description, total=total, completed=record["step"])
        self._beat(record, total)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, soft_wrap=True)


class Silent:
    """Of the processes that show nothing."""

    def __call__(self, record: dict, total: int) -> None: ...

    def say(self, line: str) -> None: ...


@contextlib.contextmanager
def progress_of(title: str, run_dir: Path) -> Iterator[Progress | Silent]:
    """Shows the steps while this process runs in the run's directory."""
    if not is_first():
        yield Silent()
        return
    at_work = working("--math.run_dir", run_dir, resume_command())
    with at_work as beat, step_bar(sys.stdout) as bar:  # the terminal, before stdout is redirected
        yield Progress(title, bar, beat)


SMOOTH_OVER = 0.04  # share of all steps that a point of the smoothed line is the mean of


def plot_loss(run_dir: Path, title: str) -> None:
    """Draw metrics.jsonl (and eval.jsonl, if there is one) into loss.png."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    records = losses_of(run_dir / "metrics.jsonl")
    if not records:
        return
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    draw_losses(axes, records, losses_of(run_dir / "eval.jsonl"), "evaluation set")
    axes.set(title=title, xlabel="step (one gradient update)", ylabel="loss (nats a completion token)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(run_dir / "loss.png", dpi=150)
    pyplot.close(figure)


def draw_losses(axes: "Axes", records: list[dict], evaluations: list[dict], evaluated: str) -> None:
    """The loss of each step, smoothed over SMOOTH_OVER of them, and that of evaluations, labelled `evaluated`."""
    steps, losses = [each["step"] for each in records], [each["loss"] for each in records]
    window = max(1, round(SMOOTH_OVER * len(records)))
    axes.plot(steps, losses, color="tab:blue", alpha=0.35 if window > 1 else 1, linewidth=1, label="each step")
    if window > 1:
        axes.plot(steps, trailing_mean(losses, window), color="tab:blue", label=f"mean of {window} steps")
    if evaluations:
        points = [each["step"] for each in evaluations], [each["loss"] for each in evaluations]
        axes.plot(*points, "o-", color="tab:orange", label=evaluated)


def trailing_mean(values: list[float], window: int) -> list[float]:
    """The mean of each value and up to `window` - 1 before it."""
    return [
        sum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)
    ]  # fmt: skip


def losses_of(path: Path) -> list[dict]:
    """The records with a loss: NaN is written as null."""
    return [record for record in read_records(path).rows if record["loss"] is not None]
