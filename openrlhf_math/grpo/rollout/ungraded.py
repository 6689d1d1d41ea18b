"""Ungraded completions: those that the grader gave up, and those on which a user's reward raised."""

import contextlib
import traceback
from pathlib import Path

import ray
from openrlhf.utils.logging_utils import init_logger

from openrlhf_math.colocation.cluster import LOST
from openrlhf_math.rewards import Grade
from openrlhf_math.runs.records import append_jsonl

logger = init_logger(__name__)


class RewardErrors:
    """In a rollout actor: what `grade` raised, as a grade. A traceback is given once for each place that raises."""

    def __init__(self) -> None:
        self._seen: set[tuple] = set()

    def grade(self, function: object, error: Exception) -> tuple[Grade, str | None]:
        """function: the one that raised, for its name. Returns a grade without reward and a traceback, or None."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        name = getattr(function, "__qualname__", repr(function))
        reason = f"{name} raised {type(error).__name__} at {frame.filename}:{frame.lineno}: {error}"
        place = (type(error), frame.filename, frame.lineno)
        first = place not in self._seen
        self._seen.add(place)
        words = "".join(traceback.format_exception(error)) if first else None
        return Grade("ungraded", 0.0, None, False, 0.0, reason[:1000]), words


class Ungraded:
    """In the trainer: collects them. path: the run's ungraded.jsonl."""

    def __init__(self, engines: list, path: Path) -> None:
        self.engines, self.path = engines, path
        self._answers = self._errors = 0

    def take(self) -> list[dict]:
        """What the engines have noted since the last call."""
        items: list[dict] = []
        for answer in [engine.take_ungraded.remote() for engine in self.engines]:
            with contextlib.suppress(*LOST):  # they are gone with their engine
                items += ray.get(answer)
        return items

    def write(self, step: int, items: list[dict]) -> None:
        """Append items to the file; tracebacks go to the log, too. step: gradient steps done."""
        for item in items:
            append_jsonl(self.path, {"step": step, **item})
            if "traceback" in item:
                logger.warning(f"step {step}: the reward raised, which counts as ungraded\n{item['traceback']}")

    def note(self, response: dict) -> None:
        """One rollout, as the executor gives it."""
        self._answers += 1
        self._errors += "reward_error" in response
        self._last = response.get("reward_error")

    def end_batch(self, step: int) -> None:
        """Raises RuntimeError if the reward raised on every completion noted since the last call."""
        answers, errors = self._answers, self._errors
        self._answers = self._errors = 0
        if answers and errors == answers:
            self.write(step, self.take())
            raise RuntimeError(
                f"the reward raised on all {answers} completions of a batch: {self._last}; correct it, the "
                f"traceback is in {self.path}"
            )
