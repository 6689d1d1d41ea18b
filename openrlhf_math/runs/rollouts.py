"""The completions of a GRPO run: a Parquet file for each step, written atomically."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from openrlhf_math.data.files import named_when_complete
from openrlhf_math.errors import UserError, first_line
from openrlhf_math.former_names import outcome

TRAINING, EVALUATION = "rollouts", "eval_rollouts"  # folders in the run directory
NAME = re.compile(r"step_(\d{1,12})\.parquet")
PART = "reward/"  # begins the name of a column with one part of the reward
FLAG = "--math.keep_rollouts"

# What a row has, one completion: Arrow's type, and what it is. Parts of the reward come after `reward`.
COLUMNS = {
    "step": ("int32", "gradient steps done with this batch, or before this evaluation"),
    "problem_index": ("int32", "the problem's number in the run's problem set, counted from 0"),
    "group": ("int32", "which group of the step, counted from 0"),
    "sample": ("int32", "which completion of the group, counted from 0"),
    "source": ("string", "the set the problem is from"),
    "problem": ("string", "the problem as its set gives it"),
    "gold": ("string", "its gold answer"),
    "prompt": ("string", "the text that the model was given"),
    "response": ("string", "the completion, without its calls of a tool and the replies"),
    "transcript": ("string", "in a run with a tool, the completion with calls and replies; else none"),
    "tokens": ("int32", "of the completion, a tool's replies included"),
    "truncated": ("bool", "whether the limit cut it off"),
    "outcome": ("string", "its grade: correct, format, wrong or ungraded; none where a user's agent gives none"),
    "graded_by": ("string", "gold, judge, or majority where the answer of most of its group is the gold answer"),
    "extracted": ("string", "the answer that the grader read in it"),
    "reason": ("string", "why it is ungraded, or was made wrong"),
    "reward": ("float", "what the advantages are computed from, before --reward.clip_range"),
    "advantage": ("float", "mean over the tokens that are trained on; none in an evaluation"),
    "mean_log_prob": ("float", "of the sampled tokens, by the engine, nats"),
    "weights": ("int32", "gradient steps that the engine's weights had when it wrote the completion"),
    "prompt_tokens": ("list<int32>", "ids"),
    "response_tokens": ("list<int32>", "ids, with the end of sequence and a tool's replies"),
    "actions": ("list<list<int32>>", "ranges [start, stop) of response_tokens that the model sampled"),
    "log_probs": ("list<float>", "of response_tokens, by the engine, nats; 0 for a tool's"),
}  # fmt: skip
LATER_COLUMNS = frozenset(["transcript"])  # which files of the release before do not have
MAJORITY = "majority"  # in `graded_by`
TOKEN_COLUMNS = ("prompt_tokens", "response_tokens", "actions", "log_probs")  # large, for replay


@dataclass(frozen=True, slots=True)
class Keeping:
    """What stays on disk. last: files of so many steps, None for all. groups: of each step so many, None for all."""

    last: int | None = None
    groups: int | None = None

    def __str__(self) -> str:
        if self.last == 0:
            return "none"
        if self.groups is not None:
            return f"sample:{self.groups}"
        return "all" if self.last is None else f"last:{self.last}"


NOTHING = Keeping(last=0)


def read_keeping(text: str) -> Keeping:
    """`all`, `none`, `last:STEPS` or `sample:GROUPS`. Raises UserError for anything else."""
    if text in ("all", "none"):
        return Keeping() if text == "all" else NOTHING
    name, _, number = text.partition(":")
    if name not in ("last", "sample") or not (number.isascii() and number.isdigit()) or not int(number[:12]) >= 1:
        raise UserError(
            f"{FLAG} {text}: give all, none, last:N for the files of the last N steps, or sample:K for K groups of "
            "each step"
        )
    return Keeping(last=int(number)) if name == "last" else Keeping(groups=int(number))


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step_{step:06d}.parquet"


def step_files(folder: Path) -> dict[int, Path]:
    """The files of a folder by step, in order."""
    found = ((NAME.fullmatch(path.name), path) for path in folder.glob("step_*.parquet"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def write_step(path: Path, columns: Mapping[str, Sequence]) -> None:
    """columns: by name, as long as each other; those of COLUMNS, and parts of the reward. Raises OSError."""
    import pyarrow
    from pyarrow import parquet

    arrow = {name: _arrow(pyarrow, columns[name], kind) for name, (kind, _) in COLUMNS.items()}
    parts = {name: pyarrow.array(columns[name], "float") for name in columns if name.startswith(PART)}
    if unknown := columns.keys() - arrow.keys() - parts.keys():
        raise ValueError(f"rollouts have no columns {unknown}")
    names = [*arrow]
    at = names.index("reward") + 1
    table = pyarrow.table({name: (arrow | parts)[name] for name in [*names[:at], *parts, *names[at:]]})
    path.parent.mkdir(parents=True, exist_ok=True)
    with named_when_complete(path) as unfinished:
        parquet.write_table(table, unfinished, compression="zstd")


def _arrow(pyarrow: ModuleType, values: Sequence, kind: str) -> Any:
    types = {
        "list<int32>": pyarrow.list_(pyarrow.int32()),
        "list<list<int32>>": pyarrow.list_(pyarrow.list_(pyarrow.int32())),
        "list<float>": pyarrow.list_(pyarrow.float32()),
    }
    if kind == "string":  # problem files can hold halves of surrogate pairs, which UTF-8 cannot
        values = [value if value is None else value.encode("utf-8", "replace").decode() for value in values]
    return pyarrow.array(values, types.get(kind, kind))


def whole_text(row: Mapping[str, Any]) -> str:
    """What a person reads of a completion: with calls of a tool and the replies, if there are any."""
    return row["response"] if row.get("transcript") is None else row["transcript"]


def drop_older(folder: Path, keeping: Keeping) -> None:
    """Delete the files that are too many."""
    files = list(step_files(folder).values())
    for path in files[: len(files) - keeping.last] if keeping.last is not None else ():
        path.unlink(missing_ok=True)


def forget_after(run_dir: Path, step: int) -> None:
    """Delete what a run that resumes will write again, and what a kill left unfinished. step: of the checkpoint."""
    for folder in (run_dir / TRAINING, run_dir / EVALUATION):
        later = [path for number, path in step_files(folder).items() if number > step]
        for path in [*later, *folder.glob(".step_*.parquet.unfinished")]:
            path.unlink(missing_ok=True)


def files_at(flag: str, place: Path, evaluation: bool = False) -> dict[int, Path]:
    """The files by step of a run directory, of one of its folders, or a single file.

    flag: the name of `place` for the user. evaluation: of a run directory, those of evaluations. Raises UserError if
    there are none.
    """
    if place.is_file():
        match = NAME.fullmatch(place.name)
        return {int(match[1]) if match else 0: place}
    if not place.exists():
        raise UserError(f"{flag} {place}: there is no such file or directory")
    inside = place / (EVALUATION if evaluation else TRAINING)
    files = step_files(inside if inside.is_dir() else place)
    if not files:
        of = "an evaluation" if evaluation else "a step"
        raise UserError(f"{flag} {place} has no rollouts of {of}; `grpo {FLAG}` says which are kept, in {inside}")
    return files


def read_step(path: Path, columns: Sequence[str] | None = None) -> list[dict]:
    """The rows of a file. columns: those wanted, None for all. Raises UserError if it is not a file of rollouts."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            needed = [*COLUMNS] if columns is None else ["step", "response", "reward"]
            missing = [name for name in needed if name not in {*file.schema_arrow.names, *LATER_COLUMNS}]
            if missing:
                raise UserError(f"{path} has no column {missing[0]}: it is not a file of rollouts that `grpo` wrote")
            rows = file.read(columns).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None
    return [row | {"outcome": outcome(row["outcome"])} if "outcome" in row else row for row in rows]


def columns_at(path: Path) -> dict[str, str]:
    """Columns that a row's condition may name, with their Arrow types. Raises UserError as `read_step` does."""
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None
    return {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True) if "list" not in str(kind)}
