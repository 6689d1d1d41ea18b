"""The JSON lines and TensorBoard events that a run appends to, and their truncation when it resumes."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.data.files import written_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def append_jsonl(path: Path, record: dict) -> None:
    """Append one record. NaN and infinity become null, which every JSON reader accepts."""
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json_line(clean))


def json_line(row: dict) -> str:
    """A row as JSON in one line for every line splitter: what is not valid Unicode, and what Unicode calls a line's
    end, stays escaped."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(row) + "\n"
    return (text if len(text.splitlines()) == 1 else json.dumps(row)) + "\n"


def read_records(path: Path) -> list[dict]:
    """Without a line that a kill tore off."""
    records = []
    # A kill may tear a line within a character.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def keep_until(path: Path, step: int) -> list[dict]:
    """Drop a file's records of later steps, and the line that a kill tore off. Returns those that are left."""
    if not path.exists():
        return []
    records = [record for record in read_records(path) if record["step"] <= step]
    with written_whole(path) as file:
        file.writelines(map(json_line, records))
    return records


def forget_after(writer: "SummaryWriter", step: int) -> None:
    """TensorBoard shows nothing that an earlier process wrote for later steps: they are done again.

    writer: torch's SummaryWriter.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer._get_file_writer().add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=step + 1)
