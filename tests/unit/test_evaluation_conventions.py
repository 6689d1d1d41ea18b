r"""pass@1, pass@k and maj@k against the definitions of Qwen2.5-Math's evaluation and lighteval.

Their definitions are written again here, as plainly as possible, over what a grader has said of each completion. The
figures must be equal wherever the definitions say the same; where they do not, both numbers stand in the table. Why
they differ: docs/eval.md.
"""

import json
from pathlib import Path

import pytest

from openrlhf_math.evaluation.figures import Marked, figures, mark
from openrlhf_math.evaluation.recorded import Row, in_order
from openrlhf_math.evaluation.voting import Entry, accuracies
from openrlhf_math.rerank.choose import majority
from openrlhf_math.rewards import GradingPool, RewardConfig


def qwen_accuracy(scores: list[list[bool]], sample: int) -> float:
    """evaluate.py, `acc`: of a table with a row a problem and a column a sample, the mean of a column (the first)."""
    return sum(row[sample] for row in scores) / len(scores)


def qwen_majority(answers: list[list[str]], scores: list[list[bool]], k: int) -> float:
    """rm_maj_eval.py, `maj@k`: of the first k the most frequent text, of equals the one that came first;
    it scores as the first completion with that text. No answer is the text ""."""
    right = 0
    for texts, marks in zip(answers, scores, strict=True):
        first = texts[:k]
        winner = max(dict.fromkeys(first), key=first.count)
        right += marks[first.index(winner)]
    return right / len(answers)


def lighteval_pass_at_k(scores: list[list[bool]], k: int) -> float:
    """metrics_sample.py, `PassAtK`: 1 - prod over i from n - c + 1 to n of (1 - k / i), 1 if n - c < k."""
    found = []
    for marks in scores:
        n, c = len(marks), sum(marks)
        missed = 1.0
        for i in range(n - c + 1, n + 1):
            missed *= 1 - k / i
        found.append(1.0 if n - c < k else 1 - missed)
    return sum(found) / len(found)


def lighteval_majority(answers: list[list[str]], golds: list[str], k: int) -> float:
    """metrics_sample.py, `MajAtK`: of the first k the most frequent text, of equals the one that came
    first, is compared with the gold, as text. No answer is the text ""."""
    right = 0
    for texts, gold in zip(answers, golds, strict=True):
        first = texts[:k]
        right += max(first, key=first.count) == gold
    return right / len(answers)


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1))
    yield pool
    pool.close()


def marked(pool, rows) -> list[Marked]:
    return list(in_order(lambda row: mark(row, pool), rows, 2))


def row(gold, *answers) -> Row:
    responses = [None if answer is None else rf"so it is \boxed{{{answer}}}." for answer in answers]
    return Row("", None, gold, responses, None, None)


def texts_of(found: list[Marked]) -> list[list[str]]:
    return [[grade.answer or "" for grade in one.grades] for one in found]


def scores_of(found: list[Marked]) -> list[list[bool]]:
    return [one.judged.correct for one in found]


def ours(found: list[Marked]) -> dict:
    return figures([one.tally() for one in found], seed=0)


def majority_of_the_first(found: list[Marked], k: int) -> float:
    """Our rule on the first k alone."""
    right = 0
    for one in found:
        chosen = majority(one.judged.answer_clusters[:k])
        right += chosen is not None and one.judged.correct[chosen]
    return right / len(found)


# Answers spelled alike where they are equal, all of them there; with ties.
ALIKE = [
    row("2", "2", "2", "3", "2"),
    row("7", "6", "6", "7", "5"),
    row("9", "9", "8", "9", "8"),  # a tie that the gold came first in
    row("4", "5", "4", "5", "4"),  # and one it did not
    row("1", "2", "3", "4", "1"),  # all different
    row("0", "0", "0", "0", "0"),
    row(r"\frac{1}{2}", r"\frac{1}{2}", "2", r"\frac{1}{2}", "3"),
]


def test_metrics_match_where_equal_answers_are_spelled_alike(pool):
    found = marked(pool, ALIKE)
    result, scores, texts = ours(found), scores_of(found), texts_of(found)
    assert result["pass_at_1"] == pytest.approx(sum(qwen_accuracy(scores, sample) for sample in range(4)) / 4)
    for k in (2, 4):
        assert result["pass_at_k"][str(k)]["accuracy"] == pytest.approx(lighteval_pass_at_k(scores, k))
    assert result["pass_at_1"] == pytest.approx(lighteval_pass_at_k(scores, 1))
    assert result["maj_at_k"]["4"]["accuracy"] == pytest.approx(qwen_majority(texts, scores, 4))
    assert result["maj_at_k"]["4"]["accuracy"] == pytest.approx(
        lighteval_majority(texts, [one.gold for one in ALIKE], 4)
    )
    for k in (1, 2, 3, 4):
        assert majority_of_the_first(found, k) == pytest.approx(qwen_majority(texts, scores, k))


def test_pass_at_1_of_one_completion_is_qwens_accuracy(pool):
    found = marked(pool, [row(one.gold, "7") for one in ALIKE])
    assert ours(found)["pass_at_1"] == pytest.approx(qwen_accuracy(scores_of(found), 0)) == pytest.approx(1 / 7)


DIFFERENCES = [
    pytest.param(row("0.5", r"\frac{1}{2}", "0.5", "3", "3", r"\frac{2}{4}"), 1, 0, id="spellings are one answer"),
    pytest.param(row("3", "3", "3", "1/2", "0.5", r"\frac{1}{2}"), 0, 1, id="of wrong answers too"),
    pytest.param(row("5", None, None, None, "5", "5"), 1, 0, id="no answer has no vote"),
    pytest.param(row("5", None, "5", None, "6", None), 1, 0, id="so that a tie may arise"),
    pytest.param(row("5", "6", None, None, "5", "5"), 1, 0, id="nor does it come first in one"),
]


@pytest.mark.parametrize("one, we, they", DIFFERENCES)
def test_cases_where_maj_at_k_differs(pool, one, we, they):
    found = marked(pool, [one])
    assert ours(found)["maj_at_k"]["5"]["accuracy"] == we
    assert qwen_majority(texts_of(found), scores_of(found), 5) == they


def test_only_two_differences_exist(pool):
    """Their rule over clusters in place of texts, and without those that have no answer, is ours."""
    found = marked(pool, [*ALIKE, *(case.values[0] for case in DIFFERENCES)])
    for one in found:
        answered = [number for number, name in enumerate(one.judged.answer_clusters) if name is not None]
        clusters = [str(one.judged.answer_clusters[number]) for number in answered]
        scores = [one.judged.correct[number] for number in answered]
        assert ours([one])["maj_at_k"][str(len(one.grades))]["accuracy"] == qwen_majority([clusters], [scores], 99)


def test_maj_at_k_is_their_mean_over_orders(pool):
    """Theirs takes the first k; any other k might as well have come first."""
    from itertools import permutations

    found = marked(pool, ALIKE)
    texts, scores = texts_of(found), scores_of(found)
    theirs = []
    for order in permutations(range(4)):
        drawn = [[[row[number] for number in order] for row in table] for table in (texts, scores)]
        theirs.append(qwen_majority(*drawn, 3))
    (by_k,) = accuracies([one.judged for one in found], [Entry("", majority, None)], [3], 4000, 0).mean(axis=0)
    assert by_k[0] == pytest.approx(sum(theirs) / len(theirs), abs=0.01)


RECORDED = Path(__file__).parent / "data" / "completions.jsonl"


def test_on_recorded_completions_of_a_model(pool):
    """Completions of the tiny model at temperature 1, 40 problems of 4: truncated ones, ones without an answer."""
    rows = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    think = GradingPool(RewardConfig(style="think", workers=1))
    try:
        found = list(in_order(lambda row: mark(row, think), [_row(one) for one in rows], 2))
    finally:
        think.close()
    result, scores, texts = ours(found), scores_of(found), texts_of(found)
    assert result["unanswered"] > 5 and 0.2 < result["pass_at_1"] < 0.8
    assert result["pass_at_1"] == pytest.approx(sum(qwen_accuracy(scores, sample) for sample in range(4)) / 4)
    assert result["pass_at_k"]["2"]["accuracy"] == pytest.approx(lighteval_pass_at_k(scores, 2))
    answered = [one for one in found if None not in one.judged.answer_clusters]
    assert len(answered) > 20
    assert ours(answered)["maj_at_k"]["4"]["accuracy"] == pytest.approx(
        qwen_majority(texts_of(answered), scores_of(answered), 4)
    )
    assert result["maj_at_k"]["4"]["accuracy"] >= qwen_majority(texts, scores, 4)


def _row(one: dict) -> Row:
    return Row("", one["problem"], one["gold"], one["responses"], None, None)
