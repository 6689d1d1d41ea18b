"""Files of rows in which some rows may be bad: those are named, the others are used."""

from collections.abc import Iterator

from openrlhf_math.data.places import place_of
from openrlhf_math.data.problems import rows_of_set
from openrlhf_math.data.tables import Unreadable
from openrlhf_math.prm.rows import Rejected


def read_lines(spec: str, split: str = "train") -> Iterator[tuple[str, dict | Rejected]]:
    """The rows of a set as `data.problems.read_rows` takes it, each with its place.

    Raises UserError if the file or set cannot be read.
    """
    for place, row in rows_of_set(place_of(spec), split):
        yield place, Rejected(place, str(row)) if isinstance(row, Unreadable) else row
