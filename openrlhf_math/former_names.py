"""Names that files of the release before have, and what they are called now.

Readers of such files accept both; only the new names are written. An entry can go one release after it came.
"""

from collections.abc import Mapping
from typing import Any

OUTCOMES = {"undecided": "ungraded"}  # of a grade
METRICS = {"idle_rate": "zero_advantage_rate", "undecided_rate": "ungraded_rate"}  # of a step
FIGURES = {"undecided": "ungraded"}  # of an evaluation, and fields of a batch in a checkpoint
SOLUTIONS = {"classes": "answer_clusters"}  # of a line of `solve`
UNGRADED_FILE = "undecided.jsonl"  # now ungraded.jsonl


def outcome(value: Any) -> Any:
    """A grade's outcome under its present name; anything else as it is."""
    return OUTCOMES.get(value, value) if isinstance(value, str) else value


def renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The row with present names. Where it has a field under both names, the present one counts."""
    return {names.get(name, name): value for name, value in row.items() if names.get(name) not in row}
