"""Labels of attempts at the tiny world's problems: exact, and there at once."""

from collections.abc import Iterator

from openrlhf_math.data.tiny_world.checker import check_lines
from openrlhf_math.data.tiny_world.server import read_story
from openrlhf_math.prm.attempts import read_attempts
from openrlhf_math.prm.rows import Rejected, Solution

SOURCE = "tiny-world"


def label_by_story(file: str, separator: str) -> Iterator[Solution | Rejected]:
    """The attempts of a file, every line labelled 1 or 0."""
    for attempt in read_attempts(file, separator):
        if isinstance(attempt, Rejected):
            yield attempt
            continue
        story = read_story(attempt.problem)
        if story is None:
            yield Rejected(attempt.place, "its problem is none of the tiny world's")
        else:
            labels = [float(right) for right in check_lines(story, attempt.steps)]
            yield Solution(attempt.problem, attempt.steps, labels, SOURCE)
