"""The records that a run appends to, JSON lines and TensorBoard events: written, read, cut when it resumes."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.files import atomic_write
from openrlhf_math.errors import UserError
from openrlhf_math.former_names import METRICS, renamed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def append_jsonl(path: Path, record: dict) -> None:
    """Append one record. NaN and infinity become null, which every JSON reader accepts."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json_line(finite(record)))


def finite(value: Any) -> Any:
    """With null, as JSON has it, where it holds NaN or infinity; tuples become lists."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(row: dict) -> str:
    """A row as JSON in one line for every line splitter: what is not valid Unicode, and what Unicode calls a line's
    end, stays escaped."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(row) + "\n"
    return (text if len(text.splitlines()) == 1 else json.dumps(row)) + "\n"


def keep_until(path: Path, step: int) -> list[dict]:
    """Drop a file's records of later steps, and the line that a kill tore off. Returns those that are left."""
    if not path.exists():
        return []
    records = [record for record in read_objects(path) if record["step"] <= step]
    with atomic_write(path) as file:
        file.writelines(map(json_line, records))
    return records


def forget_after(writer: "SummaryWriter", step: int) -> None:
    """TensorBoard shows nothing that an earlier process wrote for later steps: they are done again.

    writer: torch's SummaryWriter.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer._get_file_writer().add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=step + 1)


@dataclass(frozen=True, slots=True)
class Records:
    """rows: in order of their steps, which are distinct. unreadable: lines that are not records, which are left out."""

    rows: list[dict]
    unreadable: int = 0


def read_records(path: Path) -> Records:
    """The records with a `step`. Of a step that a resumed run has taken again, the later record counts.

    A last line without its end may belong to a running run: it counts only if it can be read. A missing file has none.
    """
    rows: list[dict] = []
    unreadable = 0
    for line in _lines(path):
        row = _object(line)
        if row is None or not isinstance(row.get("step"), int):
            unreadable += line.endswith("\n")
            continue
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()  # taken after the checkpoint that the run resumed from
        rows.append(renamed(row, METRICS))
    return Records(rows, unreadable)


def read_objects(path: Path, most: int | None = None) -> list[dict]:
    """The first `most` objects of a file of lines, or all. Other lines, such as one cut off by a kill, are skipped."""
    return list(islice((row for line in _lines(path) if (row := _object(line)) is not None), most))


def read_object(path: Path) -> dict:
    """A file that is one JSON object; an empty one if there is no file. Raises UserError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    found = _object(text)
    if found is None:
        raise UserError(f"{path} is not a JSON object; was it cut off? Restore it, or leave its run out")
    return found


def number(row: dict, name: str) -> float | None:
    """A finite number of a record; None if it has none of that name (NaN is written as null)."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def bounds(row: dict, name: str) -> tuple[float | None, float | None] | None:
    """An interval of a record, a bound that is not a number None; None if it has none of that name."""
    found = row.get(name)
    if not isinstance(found, list) or len(found) != 2:
        return None
    low, high = (number({name: bound}, name) for bound in found)
    return low, high


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            yield from file
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _object(text: str) -> dict | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
