"""The teacher that is not asked but read: completions that were recorded, such as a GRPO run's rollouts."""

from collections import Counter
from collections.abc import Iterable

from openrlhf_math.data.problems import Problem, completion_rows
from openrlhf_math.distill.questions import key_of
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Question
from openrlhf_math.endpoint.reply import Answer, Failure
from openrlhf_math.errors import UserError

# How a completion ended, by its `truncated`; CSV has it as text.
_CUT: dict[bool | str | None, str] = {None: "stop", False: "stop", "false": "stop", True: "length", "true": "length"}


class Recorded:
    """See `teachers.Teacher`. `--model` names a file or folder of rows with `problem` and `response`, or `responses`.

    Attempt n at a problem is its n-th completion there. Raises UserError if the file cannot be read or is of no use.
    """

    workers = 1

    def __init__(self, settings: DistillSettings) -> None:
        self.failed_tries: Counter[str] = Counter()
        self._replies: dict[str, list[Answer]] = {}
        for place, row in completion_rows(settings.model):
            problem = row.get("problem")
            if not isinstance(problem, str):
                raise UserError(
                    f"--model {settings.model}: {place} has no text `problem`; it is not a recorded completion"
                )
            replies = self._replies.setdefault(key_of(Problem(problem, "", "", 0)), [])
            replies += [_reply(place, *one) for one in _completions(settings.model, place, row)]

    async def __aenter__(self) -> "Recorded":
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def answer(self, question: Question) -> Answer:
        """Raises Failure if so many completions were not recorded."""
        replies = self._replies.get(question.key, [])
        if question.attempt >= len(replies):
            raise Failure(f"only {len(replies)} completions of this problem were recorded")
        return replies[question.attempt]


def _completions(model: str, place: str, row: dict) -> Iterable[tuple]:
    """Text, tokens and whether it was cut off, of each completion of a row."""
    if "responses" in row:
        texts = row["responses"]
        count = len(texts) if isinstance(texts, list) else 0
        tokens, truncated = (row.get(name) or [None] * count for name in ("tokens", "truncated"))
        lists = isinstance(tokens, list) and isinstance(truncated, list)
        if count and lists and len(tokens) == len(truncated) == count:
            return zip(texts, tokens, truncated, strict=True)
        raise UserError(f"--model {model}: {place} has no list of `responses` with as many `tokens` and `truncated`")
    return [(row.get("response"), row.get("tokens"), row.get("truncated"))]


def _reply(place: str, text: object, tokens: object, truncated: object) -> Answer:
    if not isinstance(text, str):
        raise UserError(f"--model: {place} has a response that is not text; correct or drop the row")
    said = truncated.lower() if isinstance(truncated, str) else truncated
    cut = _CUT.get(said, "") if said is None or isinstance(said, (bool, str)) else ""
    if not cut:
        raise UserError(f"--model: {place} has `truncated` {truncated!r:.40}, it must be true or false; correct it")
    return Answer(text, "", cut, tokens if isinstance(tokens, int) else None)
