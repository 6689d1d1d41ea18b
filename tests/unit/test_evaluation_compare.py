"""Two runs compared over the same problems: the difference, its interval, its p-value, and what is refused."""

import json

import numpy as np
import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.compare import Result, compare, compare_runs
from openrlhf_math.evaluation.estimates import RESAMPLES, bootstrap_ratio, sign_flip_p_value


def test_few_differences_give_the_exact_p_value():
    assert sign_flip_p_value(np.array([1.0, 1.0, 1.0])) == 2 / 8
    assert sign_flip_p_value(np.array([1.0, -1.0, 0.0])) == 1.0
    assert sign_flip_p_value(np.zeros(5)) == 1.0
    assert sign_flip_p_value(np.array([0.1, 0.2, 0.3, 0.0])) == 2 / 8, "sums of fractions that should be equal"


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15])
def test_p_value_agrees_with_scipy(shift):
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(2).normal(shift, 0.5, 60)
    theirs = stats.permutation_test(
        (differences, np.zeros(60)),
        lambda one, other: one.mean() - other.mean(),
        permutation_type="samples",
        n_resamples=20_000,
        random_state=0,
    )
    assert sign_flip_p_value(differences) == pytest.approx(theirs.pvalue, abs=0.02)


def test_p_values_are_calibrated_without_a_difference():
    rng = np.random.default_rng(3)
    values = [sign_flip_p_value(rng.integers(-1, 2, 12).astype(float)) for _ in range(400)]
    assert np.mean(np.array(values) <= 0.05) <= 0.07


def test_p_value_of_many_problems_is_never_zero():
    assert sign_flip_p_value(np.ones(200)) == 1 / (1 + RESAMPLES)


def test_ratio_has_no_upper_bound_if_nothing_may_be_correct():
    tokens = np.array([100.0, 100.0, 100.0, 100.0])
    low, high = bootstrap_ratio(tokens, np.array([1, 1, 1, 1]))
    assert low == high == 100
    low, high = bootstrap_ratio(tokens, np.array([1, 0, 0, 0]))
    assert low >= 100 and high is None


def results(accuracies, tokens=10.0):
    return [Result(f"problem {n}", "1", accuracy, tokens) for n, accuracy in enumerate(accuracies)]


def test_paired_test_detects_what_separate_intervals_miss():
    """The second run is a little better at every problem; problems differ far more than that."""
    hard = np.linspace(0, 0.9, 40)
    result = compare(results(hard), results(hard + 0.05), seed=0)["pass_at_1"]
    assert result.difference == pytest.approx(0.05) and result.interval == pytest.approx((0.05, 0.05))
    assert result.p_value < 0.001
    shuffled = compare(results(hard), results(np.roll(hard + 0.05, 17)), seed=0)["pass_at_1"]
    assert shuffled.p_value > 0.1 and shuffled.interval[0] < 0 < shuffled.interval[1]


def test_lengths_are_compared_where_both_runs_know_them():
    assert compare(results([1, 0], 10.0), results([1, 0], 8.0), 0)["completion_tokens"].difference == -2
    assert "completion_tokens" not in compare(results([1, 0], 10.0), results([1, 0], None), 0)


@pytest.fixture
def run(tmp_path):
    """Writes a run as `eval` leaves it."""

    def write(name, benchmarks):
        folder = tmp_path / name
        several = len(benchmarks) > 1
        for benchmark, problems in benchmarks.items():
            place = folder / benchmark if several else folder
            place.mkdir(parents=True)
            rows = [
                {"problem_index": n, "sample": sample, "problem": text, "gold": "1", "outcome": outcome, "tokens": 5}
                for n, (text, outcomes) in enumerate(problems.items())
                for sample, outcome in enumerate(outcomes)
            ]
            (place / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (place / "summary.json").write_text(json.dumps({"benchmark": benchmark}))
        if several:
            (folder / "summary.json").write_text(json.dumps({"benchmarks": dict.fromkeys(benchmarks, {})}))
        return folder

    return write


def test_runs_are_compared_by_benchmark(run):
    first = run("first", {"a": {"x": ["correct", "wrong"], "y": ["wrong", "wrong"]}, "b": {"z": ["correct"]}})
    second = run("second", {"a": {"x": ["correct"], "y": ["correct"]}, "b": {"z": ["format"]}})
    result = compare_runs(first, second, seed=0)
    assert (result["a"]["pass_at_1"].first, result["a"]["pass_at_1"].second) == (0.25, 1.0)
    assert result["b"]["pass_at_1"].difference == -1.0


@pytest.mark.parametrize(
    "other, sentence",
    [
        ({"a": {"x": ["correct"], "other": ["wrong"]}}, "problem 1 is 'y' in the first and 'other' in the second"),
        ({"a": {"x": ["correct"]}}, "problem 1 is 'y' in the first and none in the second"),
        ({"a": {"y": ["correct"], "x": ["wrong"]}}, "problem 0 is 'x' in the first and 'y' in the second"),
        ({"a": {"x": ["correct"], "y": ["wrong"]}, "c": {"z": ["wrong"]}}, "first has no results on c"),
    ],
)
def test_runs_on_different_problems_are_refused_by_name(run, other, sentence):
    first, second = run("first", {"a": {"x": ["correct"], "y": ["wrong"]}}), run("second", other)
    with pytest.raises(UserError, match=sentence):
        compare_runs(first, second, seed=0)


@pytest.mark.parametrize("text, sentence", [(None, "cannot be read"), ("[1]", "not those of an"), ("{", "not those")])
def test_invalid_run_is_refused(run, tmp_path, text, sentence):
    (tmp_path / "no").mkdir()
    if text:
        (tmp_path / "no" / "summary.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        compare_runs(run("first", {"a": {"x": ["correct"]}}), tmp_path / "no", seed=0)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("problems", [3, 1])
def test_run_without_the_completions_of_all_its_problems_is_refused(run, several, problems):
    more = {"b": {"z": ["correct"]}} if several else {}
    folder, other = (run(name, {"a": {"x": ["correct"], "y": ["wrong"]}} | more) for name in ("first", "second"))
    figures = {"problems": problems}
    summary = {"benchmarks": {"a": figures, "b": {"problems": 1}}} if several else {"benchmark": "a"} | figures
    (folder / "summary.json").write_text(json.dumps(summary))
    for runs in ((folder, other), (other, folder)):
        with pytest.raises(UserError, match=str(problems)):
            compare_runs(*runs, seed=0)
    compare_runs(other, other, seed=0)


def test_run_without_any_completion_is_refused(run):
    folder = run("first", {"a": {"x": []}})
    with pytest.raises(UserError, match="0 problems"):
        compare_runs(folder, folder, seed=0)
