"""Files of rows in which some rows may be bad: those are named, the others are used."""

import json
from collections.abc import Iterator
from pathlib import Path

from openrlhf_math.data.problems import read_rows
from openrlhf_math.errors import UserError
from openrlhf_math.prm.rows import Rejected


def read_lines(spec: str, split: str = "train") -> Iterator[tuple[str, dict | Rejected]]:
    """The rows of a JSONL file, or of a set as `data.problems.read_rows` takes it, each with its place.

    Raises UserError if the file or set cannot be read.
    """
    if Path(spec).suffix.lower() != ".jsonl":
        yield from ((f"{spec} row {number}", row) for number, row in enumerate(read_rows(spec, split), start=1))
        return
    try:
        with open(spec, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    place = f"{spec} line {number}"
                    yield place, _object(line, place)
    except OSError as error:
        raise UserError(f"{spec} cannot be read: {error.strerror}") from None


def _object(line: bytes, place: str) -> dict | Rejected:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Rejected(place, f"it is not JSON ({error})")
    return row if isinstance(row, dict) else Rejected(place, "it is no JSON object")
