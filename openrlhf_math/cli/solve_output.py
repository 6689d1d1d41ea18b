"""`--output` of `solve`: a row for each problem, written when it is solved, and the rows of a run that is resumed."""

import argparse
import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from io import FileIO
from pathlib import Path

from openrlhf_math.data.files import atomic_write
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.settings import fingerprint
from openrlhf_math.former_names import SOLUTIONS, renamed
from openrlhf_math.runs.journal import same_setting
from openrlhf_math.runs.records import json_line

SETTINGS = "settings"  # of a row: what decides it, by flag
WEIGHTS = "weights of --{}"
ROW_BEGINS = b'{"number": '  # what a kill leaves of a row begins so
# What does not decide a row, or only how far it came.
MAY_CHANGE = {
    "problem", "file", "problem_key", "answer_key", "split", "max_problems", "output", "resume", "json",
    "total_seconds", "total_tokens", "seconds", "problem_concurrency", "chat_date",
    "device", "samplers", "scorers", "tensor_parallel", "scorer_tensor_parallel", "share_device", "workers", "timeout",
    "api_key_env", "scorer_api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute", "request_timeout",
    "tries", "tool_isolation",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Output:
    """rows: of an earlier run, without errors. day: on which it was last written. write: adds a row, which is with the
    system when it returns."""

    rows: list[dict]
    day: str
    write: Callable[[dict], None]


def settings_of(args: argparse.Namespace) -> dict[str, object]:
    """What decides a row, by flag."""
    found = {name: value for name, value in vars(args).items() if name not in MAY_CHANGE and value is not None}
    if not args.base_url:
        found[WEIGHTS.format("model")] = fingerprint(Path(args.model))
    if args.scorer_model:
        found[WEIGHTS.format("scorer-model")] = fingerprint(Path(args.scorer_model))
    return json.loads(json.dumps(found, default=str))


def check_output(path: Path, resume: bool) -> None:
    """Raises UserError for a file that cannot be it. A run that ended before its first row left an empty one."""
    folder = Path(os.path.realpath(path)).parent  # a link's target may be missing
    if not folder.is_dir():
        raise UserError(f"--output {path}: there is no directory {folder if path.is_symlink() else path.parent}")
    if path.exists() and not path.is_file():
        raise UserError(f"--output {path} is not a file; choose a new file")
    if path.exists() and path.stat().st_size and not resume:
        raise UserError(f"--output {path} exists already; resume with --resume, or choose a new file")


@contextlib.contextmanager
def opened(
    path: Path | None, resume: bool, problems: Sequence[str], golds: Sequence[str | None], settings: dict
) -> Iterator[Output]:
    """The file while the block runs, held by this process alone. Rows that are there get the golds of now.

    settings: of `settings_of`. Raises UserError if another process has it, or it is of other problems or settings.
    """
    if path is None:
        yield Output([], "", lambda row: None)
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_held(path))
        check_output(path, resume)
        before, day = file.read(), date.fromtimestamp(os.fstat(file.fileno()).st_mtime).isoformat()
        rows = _read(path, before, problems, golds)
        _check_settings(path, rows, settings)
        if (lines := b"".join(map(_line, rows))) != before:  # without errors, and the line that a kill tore off
            with atomic_write(path) as rewritten:
                rewritten.write(lines.decode())
            file = stack.enter_context(_held(path))

        def write(row: dict) -> None:
            left = memoryview(_line(row))
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError as error:
                error.filename = path  # the sentence that ends the command names it
                raise

        try:
            yield Output(rows, day, write)
        finally:
            if not path.stat().st_size:
                path.unlink()


@contextlib.contextmanager
def _held(path: Path) -> Iterator[FileIO]:
    """The file, to be read and added to. Raises UserError if another process has it.

    A process that ends may have renamed another file over it, or removed it, before it was locked here: rows would go
    into a file without a name.
    """
    with FileIO(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            raise UserError(f"--output {path}: another process writes there; wait until it ends") from None
        yield file


def _line(row: dict) -> bytes:
    return json_line(row).encode()


def _read(path: Path, lines: bytes, problems: Sequence[str], golds: Sequence[str | None]) -> list[dict]:
    """The rows, without the line that a kill tore off and those that are errors.

    Raises UserError for any other line: the file is rewritten without what is left out, and it may be another file.
    """
    rows: dict[int, dict] = {}
    texts = lines.split(b"\n")
    for number, text in enumerate(texts, start=1):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            torn = number == len(texts) and (text.startswith(ROW_BEGINS) or ROW_BEGINS.startswith(text))
            if torn or not text.strip():
                continue
            raise UserError(
                f"--output {path}, line {number}, is not a row of solve; delete the line, or choose a new file"
            ) from None
        place = row.get("number") if isinstance(row, dict) else None
        if type(place) is not int or not 0 <= place < len(problems) or problems[place] != row.get("problem"):
            raise UserError(f"--output {path}, line {number}, is of another problem set; choose a new file")
        if row.get("error"):
            continue
        if place in rows:
            raise UserError(
                f"--output {path}, line {number}: problem {place + 1} is solved in an earlier line, too; delete one"
            )
        rows[place] = renamed(row, SOLUTIONS) | {"gold": golds[place]}
    return list(rows.values())


def _check_settings(path: Path, rows: Sequence[dict], settings: dict) -> None:
    """Raises UserError for rows of other settings. Those of an earlier version do not say theirs."""
    if any(SETTINGS not in row for row in rows):
        print(f"--output {path} has rows of an earlier version, which do not say their settings: use the same flags",
              file=sys.stderr)  # fmt: skip
    for there in (row[SETTINGS] for row in rows if isinstance(row.get(SETTINGS), dict)):
        different = [name for name in there | settings if not same_setting(there.get(name), settings.get(name))]
        for name in sorted(different, key=lambda name: name.startswith("weights")):  # a flag first
            if name.startswith("weights"):
                raise UserError(f"--output {path} has rows of other {name}; choose a new file")
            raise UserError(
                f"--output {path} has rows of other settings (--{name.replace('_', '-')} was {there.get(name)!r:.60}, "
                f"is {settings.get(name)!r:.60}); use the same, or choose a new file"
            )


def tokens_left(total: float, rows: Sequence[dict]) -> float:
    """Of --total-tokens, which is for the run and those that it resumes. Raises UserError if there are none."""
    used = sum(row.get("tokens_used") or 0 for row in rows)
    if used >= total:
        raise UserError(f"--total-tokens {total}: the rows of --output have used {used}; give more")
    return total - used
