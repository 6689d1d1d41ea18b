"""Problems without a gold answer: the answer of most completions of a group takes its place.

TTRL, https://arxiv.org/abs/2504.16084. Equal answers vote together, however they are written.
"""

from collections import Counter
from collections.abc import Sequence

from openrlhf_math.rerank.answer_clusters import GraderSays, group
from openrlhf_math.rewards import Grade, GradingPool
from openrlhf_math.rewards.extract import extract, well_formed

FLAG = "math.majority_labels"
SHARE, VOTES = "majority/rate", "majority/votes"  # metrics: of completions, graded so; of these, in the majority


def is_missing(answer: str) -> bool:
    return not answer.strip()


def grades_by_majority(texts: Sequence[str], prompt: str, pool: GradingPool) -> tuple[str, list[Grade]]:
    """The answer of most completions, and each one's grade by it. Of clusters with as many votes the first counts.

    Without any answer it is "", and all are wrong. Blocks while the pool compares answers.
    """
    config = pool.config
    found = [extract(text, config.style) for text in texts]
    answers = [one.answer for one in found]
    clusters = group(answers, GraderSays(pool, prompt))
    votes = Counter(number for number in clusters if number is not None)
    winner = max(votes, key=lambda number: (votes[number], -number), default=None)
    grades = []
    for text, extraction, number in zip(texts, found, clusters, strict=True):
        formed = well_formed(text, extraction, config.style)
        if winner is not None and number == winner:
            grades.append(Grade("correct", config.correct_reward, extraction.answer, formed, 0.0))
        elif formed:
            grades.append(Grade("format", config.format_reward, extraction.answer, formed, 0.0))
        else:
            grades.append(Grade("wrong", 0.0, extraction.answer, formed, 0.0))
    return next(
        (answer for answer, number in zip(answers, clusters, strict=True) if number == winner), ""
    ) or "", grades


def agreement(means: dict[str, float]) -> dict[str, float]:
    """Of the completions that were graded by a majority, the share within it. means: over all completions."""
    return {VOTES: means[VOTES] / means[SHARE]} if means.get(SHARE) else {}
