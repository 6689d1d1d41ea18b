"""How far a training is and how it changes, from the records of its steps."""

from dataclasses import dataclass
from statistics import fmean

from openrlhf_math.report.records import number

WINDOW = 10  # steps at the beginning and at the end that a mean is over
PACE_WINDOW = 20  # steps

# What a person looks at first, of a GRPO run and of a fine-tuning; a record has some of them.
FIGURES = (
    "reward", "accuracy", "format_rate", "completion_length", "truncation_rate", "ungraded_rate",
    "zero_advantage_rate", "logprob_gap", "loss", "grad_norm",
)  # fmt: skip
CLOCKS = ("seconds_since_start", "seconds")  # GRPO's and fine-tuning's


@dataclass(frozen=True, slots=True)
class Change:
    """A metric's means over the first and the last steps."""

    first: float
    last: float


def window(steps: int) -> int:
    """Steps of the mean at either end: at most half of them, so that the two do not overlap."""
    return max(1, min(WINDOW, steps // 2))


def changes(rows: list[dict]) -> dict[str, Change]:
    """rows: records in the order of their steps. Metrics without a number at either end are left out."""
    size = window(len(rows))
    found: dict[str, Change] = {}
    for name in FIGURES:
        begin, end = _mean(rows[:size], name), _mean(rows[-size:], name)
        if begin is not None and end is not None:
            found[name] = Change(begin, end)
    return found


def seconds_a_step(rows: list[dict]) -> float | None:
    """The mean over the last steps, with what comes between them: evaluations, checkpoints. None of fewer than two.

    Where a run was taken up again, its clock may jump back; such a gap is left out.
    """
    clock = [number(row, next((name for name in CLOCKS if name in row), "")) for row in rows[-PACE_WINDOW - 1 :]]
    known = [seconds for seconds in clock if seconds is not None]
    gaps = [after - before for before, after in zip(known, known[1:], strict=False) if after > before]
    return fmean(gaps) if gaps else None


def _mean(rows: list[dict], name: str) -> float | None:
    values = [value for row in rows if (value := number(row, name)) is not None]
    return fmean(values) if values else None
