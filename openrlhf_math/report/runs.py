"""The kind of a directory: a GRPO run, a fine-tuning, an evaluation, or a demo run of these; and its settings."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from openrlhf_math.checkpoints.folder import flat
from openrlhf_math.errors import UserError
from openrlhf_math.former_names import FIGURES, UNGRADED_FILE, renamed
from openrlhf_math.report.table import Table
from openrlhf_math.runs.process import Process, read_process
from openrlhf_math.runs.records import Records, read_object, read_objects, read_records

# What `openrlhf-math demo` writes, in order.
PARTS = ("sft", "eval_before", "grpo", "eval_after", "prm/run")
MOST_UNGRADED = 20


@dataclass(frozen=True, slots=True)
class Training:
    """A GRPO run or a fine-tuning (SFT, or of a process reward model).

    kind: "GRPO" or "fine-tuning". settings: its config.json. records: a row a step; evaluations: during the run.
    ungraded: the first completions that could not be graded. process: which did or does the work, None if unknown.
    """

    name: str
    kind: str
    path: Path
    settings: dict
    records: Records
    evaluations: Records
    ungraded: list[dict]
    process: Process | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """figures: by benchmark, of its summary.json. folders: where each benchmark's completions are."""

    name: str
    path: Path
    figures: dict[str, dict]
    folders: dict[str, Path]


@dataclass(slots=True)
class Found:
    """groups: evaluations to be compared with each other, the first with those after it. reranked: by whole run, the
    accuracy of a rule that chooses among attempts, and its interval."""

    grpo: list[Training] = field(default_factory=list)
    tuning: list[Training] = field(default_factory=list)
    groups: list[list[Evaluation]] = field(default_factory=list)
    reranked: dict[str, dict[str, dict]] = field(default_factory=dict)


def find_runs(paths: list[Path]) -> Found:
    """Everything the directories hold. Raises UserError naming the first that is not a run, or cannot be read."""
    found, loose = Found(), []
    paths = list({path.resolve(): path for path in paths}.values())
    for path, name in zip(paths, short_names(paths), strict=True):
        kind = kind_of(path)
        if kind is None:
            raise UserError(_refusal(path))
        if kind == "whole":
            _add_demo(found, path, name)
        elif kind == "evaluation":
            loose.append(_evaluation(path, name))
        else:
            _trainings(found, kind).append(_training(path, name, kind))
    if loose:
        found.groups.append(loose)
    return found


def kind_of(path: Path) -> str | None:
    """ "GRPO", "fine-tuning", "evaluation", "whole" or None."""
    if not path.is_dir():
        return None
    summary = read_object(path / "summary.json")
    if "pass_at_1" in summary or "benchmarks" in summary:
        return "evaluation"
    settings = read_object(path / "config.json")
    first = next(iter(read_objects(path / "metrics.jsonl", 1)), {})
    if {"rollout", "algo"} <= settings.keys() or "policy_loss" in first:
        return "GRPO"
    if {"model", "data", "optim"} <= settings.keys() or {"loss", "step"} <= first.keys():
        return "fine-tuning"
    return "whole" if any(kind_of(path / part) for part in PARTS) else None


def short_names(paths: list[Path]) -> list[str]:
    """The ends of the paths, as long as needed to distinguish them."""
    parts = [path.resolve().parts for path in paths]
    names = [of[-1] for of in parts]
    length = 1
    while len(set(names)) < len(set(parts)):
        length += 1
        names = ["/".join(of[-length:]) for of in parts]
    return names


def _add_demo(found: Found, path: Path, name: str) -> None:
    group = []
    for part in PARTS:
        kind = kind_of(path / part)
        if kind == "evaluation":
            group.append(_evaluation(path / part, f"{name}/{part}"))
        elif kind:
            _trainings(found, kind).append(_training(path / part, f"{name}/{part}", kind))
    if group:
        found.groups.append(group)
    reranked = read_object(path / "summary.json").get("reranked")
    if isinstance(reranked, dict):
        found.reranked[name] = reranked


def _trainings(found: Found, kind: str) -> list[Training]:
    return found.grpo if kind == "GRPO" else found.tuning


def _training(path: Path, name: str, kind: str) -> Training:
    return Training(
        name=name,
        kind=kind,
        path=path,
        settings=read_object(path / "config.json"),
        records=read_records(path / "metrics.jsonl"),
        evaluations=read_records(path / "eval.jsonl"),
        process=read_process(path),
        ungraded=_ungraded(path),
    )


def _ungraded(path: Path) -> list[dict]:
    found = [row for name in (UNGRADED_FILE, "ungraded.jsonl") for row in read_objects(path / name, MOST_UNGRADED)]
    return found[:MOST_UNGRADED]


def _evaluation(path: Path, name: str) -> Evaluation:
    summary = read_object(path / "summary.json")
    figures = summary.get("benchmarks")
    if isinstance(figures, dict):
        folders = {each: path / each for each in figures}
    else:
        benchmark = str(summary.get("benchmark") or "problems")
        figures, folders = {benchmark: summary}, {benchmark: path}
    if not all(isinstance(each, dict) and "pass_at_1" in each for each in figures.values()):
        raise UserError(f"{path / 'summary.json'} has a benchmark without pass_at_1: it is not what `eval` writes")
    return Evaluation(name, path, {each: renamed(one, FIGURES) for each, one in figures.items()}, folders)


def _refusal(path: Path) -> str:
    if not path.exists():
        return f"RUN {path}: there is no such directory"
    if not path.is_dir():
        return f"RUN {path} is a file; give the directory of the run"
    if (path / "journal.jsonl").exists() and "benchmark" in read_object(path / "config.json"):
        return f"RUN {path}: an evaluation that has not finished; the same `eval` command resumes it"
    within = list(islice(_runs_within(path), 4))
    if within:
        report = ", ".join(map(str, within[:3])) + (", ..." if len(within) > 3 else "")
        return f"RUN {path} is not a run but holds some; name those: {report}"
    return (
        f"RUN {path}: neither a GRPO run, a fine-tuning, an evaluation nor a demo run; give a directory that "
        "`openrlhf-math grpo`, `sft`, `prm train`, `eval` or `demo` has written"
    )


def _runs_within(path: Path) -> Iterator[Path]:
    try:
        insides = sorted(path.iterdir())
    except OSError as error:
        raise UserError(f"RUN {path} cannot be read: {error.strerror}") from None
    for inside in insides:
        try:
            if kind_of(inside):
                yield inside
        except (UserError, OSError):
            continue


# They differ between any two runs and say nothing, or repeat what the run's name says.
NEVER_SHOWN = (
    "ckpt.path", "ckpt.output_dir", "logger.tensorboard_dir", "logger.wandb.run_name", "math.run_dir",
    "math.started_at", "train.agent_func_path", "local_rank",
)  # fmt: skip
SECRETS = ("key", "api_key", "token", "password", "secret")
MISSING = "-"


def shown(settings: dict) -> dict[str, str]:
    """Dotted names and values as text, as flags have them. Secrets are left out, should a file hold any."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in flat(settings)
        if name not in NEVER_SHOWN and name.rpartition(".")[2] not in SECRETS
    }


def differences(runs: list[Training]) -> Table | None:
    """A row for each setting that not all runs have alike; None with fewer than two runs."""
    if len(runs) < 2:
        return None
    settings = [shown(run.settings) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [[name, *(each.get(name, MISSING) for each in settings)] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    note = "" if rows else "All settings are alike."
    return Table("Settings that differ", ["setting", *(run.name for run in runs)], rows, note, prose=True)


def all_settings(run: Training) -> Table:
    rows = [list(row) for row in shown(run.settings).items()]
    return Table(f"Settings of {run.name}", ["setting", "value"], rows, prose=True)
