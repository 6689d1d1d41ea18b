"""A run's records when it goes on from a checkpoint: each step is there once."""

import json
from pathlib import Path

from openrlhf_math.data.files import written_whole

# What a GRPO run appends to; every record has its step.
FILES = ("metrics.jsonl", "problems.jsonl", "eval.jsonl", "undecided.jsonl")


def read_records(path: Path) -> list[dict]:
    """Without a line that a kill tore off."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
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
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return records


def forget_after(writer, step: int) -> None:
    """TensorBoard shows nothing that an earlier process wrote for later steps: they are done again.

    writer: torch's SummaryWriter.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=step + 1)
