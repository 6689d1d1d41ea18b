"""A solution as a row of JSON, which `openrlhf-math vote` reads."""

from collections.abc import Sequence
from dataclasses import asdict

from openrlhf_math.rerank.aggregate import Scores
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.reranker import Solved
from openrlhf_math.tools.attempt import ToolUse


def row(number: int, problem: str, gold: str | None, solved: Solved) -> dict:
    """The problem with its answer, its attempts, and what they cost. Keys stay; those of `vote` are gold to tokens.

    tokens_used: all that were written, also by attempts that are not_counted. unscored: attempts without a score; their
    `score` is the lowest of the problem. votes: of each cluster. answer_clusters: of each attempt, which
    answer it gives. scores: None without a scorer.
    score: of each attempt, aggregated. confidence: of the model in each attempt, see `Confidence`; None if not
    measured. left_out: attempts that had no vote, as the least confident. unmeasured, by_model: see `Decision`.
    tool_calls, tool_failed, tool_seconds: of each attempt, see `ToolUse`; only with a tool, whose output is in the
    responses and not in the tokens.
    error: why there is no solution.
    """
    solution = solved.solution
    if solution is None:
        return {"number": number, "problem": problem, "gold": gold, "answer": None, "error": solved.error,
                "responses": [], "scores": None, "tokens": []}  # fmt: skip
    decision, attempts = solution.decision, solution.attempts
    return {
        "number": number,
        "problem": problem,
        "gold": gold,
        "answer": solution.answer,
        "chosen": decision.attempt,
        "text": solution.text,
        "votes": list(decision.votes),
        "ended": decision.ended,
        "tokens_used": decision.tokens,
        "tokens_saved": decision.tokens_saved,
        "not_counted": decision.not_counted,
        "unscored": decision.unscored if solution.scored else 0,
        "left_out": decision.left_out,
        "unmeasured": decision.unmeasured,
        "by_model": decision.by_model,
        "seconds": round(solution.seconds, 3),
        "responses": [attempt.text for attempt in attempts],
        "answers": [attempt.answer for attempt in attempts],
        "answer_clusters": list(solution.answer_clusters),
        "scores": [_plain(attempt.scores) for attempt in attempts] if solution.scored else None,
        "score": list(solution.scores),
        "confidence": confidence_of(attempts),
        "tokens": [attempt.tokens for attempt in attempts],
        "by": [attempt.by for attempt in attempts],
        **_tool(attempts),
    }


def _tool(attempts: Sequence[Attempt]) -> dict[str, list]:
    """Of each attempt, where there is a tool."""
    if not any(attempt.tool for attempt in attempts):
        return {}
    uses = [(attempt.tool or ToolUse()).as_row() for attempt in attempts]
    return {name: [use[name] for use in uses] for name in ToolUse().as_row()}


def confidence_of(attempts: Sequence[Attempt]) -> list[dict | None] | None:
    """Of each attempt; None if not measured."""
    if all(attempt.confidence is None for attempt in attempts):
        return None
    return [asdict(attempt.confidence) if attempt.confidence else None for attempt in attempts]


def _plain(scores: Scores) -> float | list | None:
    """NaN and infinity have no place in JSON."""
    if isinstance(scores, (int, float)):
        return scores if abs(scores) < float("inf") else None
    return None if scores is None else [_plain(step) for step in scores]
