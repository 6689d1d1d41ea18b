"""Completions scored by a reward model, each once, for the rules that choose among them."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from openrlhf_math.concurrency import end, gather
from openrlhf_math.data import chat_date
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.recorded import Row
from openrlhf_math.evaluation.settings import fingerprint
from openrlhf_math.rerank.aggregate import Logit, Scores
from openrlhf_math.rerank.here import asked_scorer
from openrlhf_math.rerank.roles import Lost, Scorer, Unavailable
from openrlhf_math.rerank.scoring_engine import ScorerSettings
from openrlhf_math.rerank.verdicts import AskedScorerSettings
from openrlhf_math.runs.journal import open_journal

# Problems under way at once: their completions are scored together, more wait.
AT_ONCE = 32

# Problems with their completions, each with its own key. Called more than once, so that texts stay on the disk.
Rows = Callable[[], Iterable[tuple[str, Row]]]
AnyScorer = ScorerSettings | AskedScorerSettings
AGAIN = "what was scored is kept, run the same command again"


class ScoreJournal:
    """The scores of an evaluation's completions: what a killed run has, it keeps."""

    def __init__(self, output: Path, scorer: AnyScorer, completions: str = "") -> None:
        """completions: what distinguishes them from others, where nothing else in the output does.

        Raises UserError if there are scores of another scorer, or of other completions.
        """
        self._scorer = scorer
        self._lost: list[str] = []  # why, of completions that have no score now and may have one later
        decides: dict[str, object] = {
            "scorer": scorer.kind,
            "scorer-model": scorer.model,
            "separator": scorer.separator,
            "weights": "" if isinstance(scorer, AskedScorerSettings) else fingerprint(Path(scorer.model)),
            "completions": completions,
        }
        if isinstance(scorer, AskedScorerSettings):
            decides |= {"scorer-base-url": scorer.endpoint.endpoint.base_url, "scorer-votes": scorer.votes}
        else:
            decides[chat_date.KEY] = chat_date.chat_date()  # its chat template may write it
        changed = {
            "weights": "holds scores of what was in --scorer-model before its files changed",
            "completions": "holds scores of other completions",
        }
        fix = "score its completions.jsonl with --completions into a new directory"
        self._journal = open_journal(output, decides, changed, fix, ("scores.json", "scores.jsonl"))

    def make(self, rows: Rows) -> float:
        """Score what has none yet. Returns the seconds it took. Raises UserError if it cannot be scored, and when all
        others are, if an endpoint has not judged some."""
        begun, missing = time.time(), False
        for key, row in rows():
            if row.problem is None:
                raise UserError(f"{row.place} has no `problem`, which --scorer-model reads; add it")
            missing = missing or bool(self._missing(key, row))
        if missing and isinstance(self._scorer, AskedScorerSettings):
            asyncio.run(self._ask(self._scorer, rows()))
        elif missing and isinstance(self._scorer, ScorerSettings):
            from openrlhf_math.rerank.launch import scorer_started

            gc.collect()  # an engine that has sampled in this process leaves the device
            with scorer_started(self._scorer) as scorer:
                asyncio.run(self._score(scorer, rows()))
        return round(time.time() - begun, 3)

    def of(self, key: str, row: Row) -> list[Scores]:
        """The scores of a problem's completions, in order."""
        scores = [self._journal.read(key, sample)["scores"] for sample in range(len(row.responses))]
        return [self._of_kind(score) for score in scores]

    def _of_kind(self, score: Scores) -> Scores:
        """As the scorer gave it: a file does not say that a number is a logit."""
        return Logit(score) if isinstance(score, float) and self._scorer.kind == "reward-model" else score

    def close(self) -> None:
        self._journal.close()

    def _missing(self, key: str, row: Row) -> list[int]:
        return [sample for sample in range(len(row.responses)) if (key, sample) not in self._journal]

    async def _ask(self, settings: AskedScorerSettings, rows: Iterable[tuple[str, Row]]) -> None:
        self._lost.clear()
        try:
            async with asked_scorer(settings, whole=True) as scorer:
                await self._score(scorer, rows)
        except Unavailable as error:
            raise UserError(f"{error}; {AGAIN}") from None
        if self._lost:
            raise UserError(f"completions without a judgement: {len(self._lost)} ({self._lost[0]}); {AGAIN}")

    async def _score(self, scorer: Scorer, rows: Iterable[tuple[str, Row]]) -> None:
        under_way: set[asyncio.Task] = set()
        try:
            for key, row in rows:
                under_way.add(asyncio.create_task(self._score_one(scorer, key, row)))
                while len(under_way) >= AT_ONCE:
                    await _some(under_way)
            while under_way:
                await _some(under_way)
        finally:
            await end(under_way)

    async def _score_one(self, scorer: Scorer, key: str, row: Row) -> None:
        samples = self._missing(key, row)
        if isinstance(self._scorer, AskedScorerSettings):
            await gather(self._judge_one(scorer, key, row, sample) for sample in samples)
            return
        responses = [row.responses[sample] or "" for sample in samples]
        scores = await scorer.score(row.problem or "", responses) if samples else []
        for sample, score in zip(samples, scores, strict=True):
            self._journal.append(key, sample, {"scores": score})

    async def _judge_one(self, scorer: Scorer, key: str, row: Row, sample: int) -> None:
        """One completion by a model that writes its judgement: each is kept when it is there."""
        try:
            (score,) = await scorer.score(row.problem or "", [row.responses[sample] or ""])
        except Lost as error:
            self._lost.append(str(error))
        else:
            self._journal.append(key, sample, {"scores": score})


def choosing(scorer: AnyScorer | None, aggregation: str) -> dict[str, str]:
    """What a summary says of who scored, and how step scores were put together."""
    return {"scorer": scorer.kind, "scorer_model": scorer.model, "aggregation": aggregation} if scorer else {}


async def _some(under_way: set[asyncio.Task]) -> None:
    """Wait for one or more and take them out of the set. Raises what one of them raised."""
    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        under_way.remove(task)
        task.result()
