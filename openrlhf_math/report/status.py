"""The state of a run directory: whether it runs, its progress and metrics, the checkpoint for resuming."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from openrlhf_math.checkpoints.folder import tags_in
from openrlhf_math.errors import UserError
from openrlhf_math.former_names import FIGURES, renamed
from openrlhf_math.report.runs import PARTS, kind_of
from openrlhf_math.runs.process import ELSEWHERE, FAILED, FINISHED, KILLED, RUNNING, STOPPED, read_process, state_of
from openrlhf_math.runs.records import number, read_object, read_records

WINDOW = 10  # steps at the beginning and at the end that a mean is over
PACE_WINDOW = 20  # steps

# What a person looks at first, of a GRPO run and of a fine-tuning; a record has some of them.
KEY_METRICS = (
    "reward", "accuracy", "majority/rate", "format_rate", "completion_length", "truncation_rate", "ungraded_rate",
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
    for name in KEY_METRICS:
        begin, end = _mean(rows[:size], name), _mean(rows[-size:], name)
        if begin is not None and end is not None:
            found[name] = Change(begin, end)
    return found


def seconds_a_step(rows: list[dict]) -> float | None:
    """The mean over the last steps, with what comes between them: evaluations, checkpoints. None of fewer than two.

    Where a run was resumed, its clock may jump back; such a gap is left out.
    """
    clock = [number(row, next((name for name in CLOCKS if name in row), "")) for row in rows[-PACE_WINDOW - 1 :]]
    known = [seconds for seconds in clock if seconds is not None]
    gaps = [after - before for before, after in zip(known, known[1:], strict=False) if after > before]
    return fmean(gaps) if gaps else None


def _mean(rows: list[dict], name: str) -> float | None:
    values = [value for row in rows if (value := number(row, name)) is not None]
    return fmean(values) if values else None


UNKNOWN = "unknown"
SILENT_STEPS, SILENT_SECONDS = 10, 120  # without a step for so many steps' time, and at least so long: something hangs
TRAININGS = ("GRPO", "fine-tuning")
RESULTS = ("problems", "samples", "pass_at_1", "completion_tokens", "truncation_rate", "ungraded")  # of an evaluation


@dataclass(frozen=True, slots=True)
class Status:
    """state: of process.py, or "unknown". step: the last one recorded, 0 for none. steps: in all, 0 if not known.
    silent_seconds: since the last step, or since the start, of a running run. eta_seconds: until the last step.
    window: steps that a change is over, at either end.
    checkpoint: the newest one's name. evaluation: the last one's step and numbers. go_on: the command that does."""

    name: str
    kind: str
    state: str
    cause: str = ""
    step: int = 0
    steps: int = 0
    seconds_a_step: float | None = None
    eta_seconds: float | None = None
    silent_seconds: float | None = None
    window: int = 0
    changes: dict[str, Change] = field(default_factory=dict)
    unreadable: int = 0
    checkpoint: str | None = None
    evaluation: dict[str, float] = field(default_factory=dict)
    go_on: str = ""

    @property
    def at_work(self) -> bool:
        return self.state in (RUNNING, ELSEWHERE)

    @property
    def silent(self) -> bool:
        """Whether a running run has been without a step for suspiciously long."""
        usual = SILENT_STEPS * (self.seconds_a_step or 0.0)
        return self.step > 0 and (self.silent_seconds or 0.0) > max(SILENT_SECONDS, usual)


def statuses(paths: list[Path]) -> list[Status]:
    """Of every run in the directories; a demo's directory has several. Raises UserError for one that is not a run."""
    found: list[Status] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"RUN {path}: there is no such directory")
        runs = [path] if is_run(path) else [path / part for part in PARTS if is_run(path / part)]
        if not runs:
            raise UserError(
                f"RUN {path}: no run is in it; give a directory that `openrlhf-math grpo`, `sft`, `prm train`, `eval` "
                "or `distill` has written"
            )
        found += map(status_of, runs)
    return found


def is_run(path: Path) -> bool:
    return kind_of(path) in (*TRAININGS, "evaluation") or _journals(path)


def status_of(path: Path) -> Status:
    """Raises UserError if a file cannot be read."""
    kind = kind_of(path)
    return _of_training(path, kind, time.time()) if kind in TRAININGS else _of_journal(path)


def _of_training(path: Path, kind: str, now: float) -> Status:
    records, process, settings = (
        read_records(path / "metrics.jsonl"),
        read_process(path),
        read_object(path / "config.json"),
    )
    step = records.rows[-1]["step"] if records.rows else 0
    state = state_of(process) if process else FINISHED if _has_model(path, settings) else UNKNOWN
    pace, at_work = seconds_a_step(records.rows), state in (RUNNING, ELSEWHERE)
    steps = process.steps if process else 0
    return Status(
        name=str(path),
        kind=kind,
        state=state,
        cause=process.cause if process else "",
        step=step,
        steps=steps,
        seconds_a_step=pace,
        eta_seconds=(steps - step) * pace if at_work and pace and steps else None,
        silent_seconds=now - (process.step_at or process.began) if process and at_work else None,
        window=window(len(records.rows)),
        changes=changes(records.rows),
        unreadable=records.unreadable,
        checkpoint=newest_checkpoint(path, settings),
        evaluation=_last_evaluation(path),
        go_on=process.command if process and state in (KILLED, FAILED, STOPPED) else "",
    )


def newest_checkpoint(path: Path, settings: dict) -> str | None:
    """By its name; whether it is whole is checked when a run resumes from it."""
    folder = Path(_setting(settings, "path") or path / "checkpoints")
    tags = tags_in(folder / "_actor") or tags_in(folder)
    return tags[-1] if tags else None


def _has_model(path: Path, settings: dict) -> bool:
    return (Path(_setting(settings, "output_dir") or path / "model") / "config.json").is_file()


def _setting(settings: dict, name: str) -> str | None:
    section = settings.get("ckpt")
    value = section.get(name) if isinstance(section, dict) else None
    return value if isinstance(value, str) else None


def _last_evaluation(path: Path) -> dict[str, float]:
    rows = read_records(path / "eval.jsonl").rows
    return {name: value for name in rows[-1] if (value := number(rows[-1], name)) is not None} if rows else {}


def _journals(path: Path) -> bool:
    """Whether `eval` or `distill` runs here or did: they resume from a journal."""
    return (path / "journal.jsonl").is_file() and (path / "config.json").is_file()


def _of_journal(path: Path) -> Status:
    summary = read_object(path / "summary.json") or read_object(path / "report.json")
    distilled = (path / "runs.jsonl").is_file() or (path / "verdicts.jsonl").is_file()
    return Status(
        name=str(path),
        kind="distillation" if distilled else "evaluation",
        state=FINISHED if summary else UNKNOWN,
        cause="" if summary else "not done: the command that began it resumes it",
        step=_lines(path / "journal.jsonl"),
        evaluation=_results(summary),
    )


def _results(summary: dict) -> dict[str, float]:
    """Of an evaluation, on one benchmark or several, or of a distillation."""
    several = summary.get("benchmarks")
    if isinstance(several, dict):
        found = [(f"{name} {key}", value) for name, each in several.items() for key, value in _results(each).items()]
        return dict(found)
    summary = renamed(summary, FIGURES)
    figures = summary.get("counts")
    figures = figures if isinstance(figures, dict) else {key: summary[key] for key in RESULTS if key in summary}
    return {name: value for name in figures if (value := number(figures, name)) is not None}


def _lines(path: Path) -> int:
    """Whole lines of a file; 0 if there is none."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))
    except OSError:
        return 0
