"""An evaluation without a model: completions made elsewhere are graded, and the same figures made of them."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_math.evaluation.figures import all_marked, figures, judging, rules_of
from openrlhf_math.evaluation.recorded import Row
from openrlhf_math.evaluation.results import write_completions, write_summary
from openrlhf_math.evaluation.scoring import ScoreJournal, choosing
from openrlhf_math.rerank.aggregate import find_aggregation
from openrlhf_math.rerank.answer_judge import JudgeSettings
from openrlhf_math.rerank.scoring_engine import ScorerSettings
from openrlhf_math.rerank.verdicts import AskedScorerSettings
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.journal import refused_if_unwritable

if TYPE_CHECKING:
    from openrlhf_math.rerank.answer_judge import AnswerJudge


def score(
    rows: list[Row],
    name: str,
    output: Path,
    rewards: RewardConfig,
    seed: int,
    parquet: bool,
    advance: Callable[[], None],
    scorer: ScorerSettings | AskedScorerSettings | None = None,
    aggregation: str = "last",
    judge: JudgeSettings | None = None,
) -> dict:
    """Grade and write, and score before if there is a `scorer`. Returns the figures; `advance` is called after each
    problem. aggregation: of step scores, these or those that the rows have. judge: see `rerank.answer_judge`."""
    if scorer:
        rows = _scored(rows, name, output, scorer)
    begun = time.time()
    pool = GradingPool(rewards)

    def marked(asked: "AnswerJudge | None") -> Iterator[Any]:
        for one in all_marked(rows, pool, asked):
            advance()
            yield one

    try:
        with refused_if_unwritable(output), judging(judge, rewards, output) as asked:
            tallies = write_completions(output, marked(asked), parquet)
            rules = rules_of(tallies, find_aggregation(aggregation))
            summary = {"benchmark": name, "style": rewards.style, "seed": seed, **choosing(scorer, aggregation)}
            summary |= asked.figures(sum(len(one.judged.correct) for one in tallies)) if asked else {}
            summary |= figures(tallies, seed, rules)
            summary["seconds_grading"] = round(time.time() - begun, 3)
            write_summary(output, summary)
    finally:
        pool.close()
    return summary


def _scored(rows: list[Row], name: str, output: Path, scorer: ScorerSettings | AskedScorerSettings) -> list[Row]:
    """The rows with the scorer's scores in place of those they may have."""
    keyed = [(f"{name} {number}", row) for number, row in enumerate(rows)]
    digest = hashlib.sha256()
    for _, row in keyed:
        digest.update(repr((row.problem, row.responses)).encode("utf-8", "backslashreplace"))
    scores = ScoreJournal(output, scorer, digest.hexdigest()[:16])
    try:
        scores.make(lambda: keyed)
        return [replace(row, scores=scores.of(key, row)) for key, row in keyed]
    finally:
        scores.close()
