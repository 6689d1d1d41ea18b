"""The comparison of rules of keeping traces: equal tokens, whole problems, and what is reported of the students."""

import random

import pytest

from openrlhf_math.evaluation.compare import Result
from openrlhf_math.experiments.rules import PLAIN, Run, analyse, draw, tables, within


def rows_of(sizes: list[list[int]]) -> list[dict]:
    """sizes: of each problem, its traces' tokens."""
    return [
        {"problem": f"p{number}", "training_tokens": tokens} for number, of_one in enumerate(sizes) for tokens in of_one
    ]


@pytest.mark.parametrize("seed", range(20))
def test_budget_is_filled_with_whole_problems(seed):
    rng = random.Random(seed)
    sizes = [[rng.randint(5, 40) for _ in range(rng.randint(1, 5))] for _ in range(50)]
    rows = rows_of(sizes)
    budget = rng.randint(50, sum(map(sum, sizes)))
    chosen = within(rows, budget, seed)
    used = sum(row["training_tokens"] for row in chosen)
    names = {row["problem"] for row in chosen}
    assert sorted(map(id, chosen)) == sorted(id(row) for row in rows if row["problem"] in names)
    left_out = [sum(of_one) for number, of_one in enumerate(sizes) if f"p{number}" not in names]
    assert used <= budget and all(used + tokens > budget for tokens in left_out)
    assert within(rows, budget, seed) == chosen


def test_full_budget_takes_everything():
    rows = rows_of([[3, 4], [5], [6, 7]])
    assert sorted(map(id, within(rows, 25, 0))) == sorted(map(id, rows))


def test_findings(tmp_path):
    """By hand: two seeds of two problems."""

    def run(tokens: int, *right: float) -> Run:
        return Run(tokens, 3, 2, [Result(f"p{place}", "1", value, 10.0) for place, value in enumerate(right)])

    result = analyse({PLAIN: [run(100, 0.0, 0.5), run(110, 0.5, 0.0)], "all": [run(90, 1.0, 0.5), run(95, 0.5, 1.0)]})
    plain, other = result.rules
    assert result.seeds == 2 and plain.against is None
    assert plain.accuracy.value == pytest.approx(0.25) and other.accuracy.value == pytest.approx(0.75)
    assert other.against.difference == pytest.approx(0.5) and other.tokens.values == [90, 95]
    (table,) = tables(result)
    assert [row[0] for row in table.rows] == [PLAIN, "all"] and {len(row) for row in table.rows} == {len(table.header)}
    draw(result, tmp_path / "rules")
    assert (tmp_path / "rules.png").stat().st_size > 1000
