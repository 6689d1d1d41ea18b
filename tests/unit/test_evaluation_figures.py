"""The figures of an evaluation, by hand and by brute force."""

from itertools import combinations, permutations

import numpy as np
import pytest

from openrlhf_math.evaluation.figures import Tally, figures, rules_of
from openrlhf_math.evaluation.recorded import Judged
from openrlhf_math.evaluation.voting import Entry
from openrlhf_math.rerank.aggregate import last, lowest
from openrlhf_math.rerank.choose import weighted


def tally(correct, clusters=None, tokens=None, truncated=None, formed=None, labels=None, scores=None):
    clusters = [int(one) for one in correct] if clusters is None else clusters
    judged = Judged("", clusters, list(map(bool, correct)), scores, tokens, clusters.count(None), 0, 0)
    return Tally(judged, formed or [True] * len(correct), truncated, labels or {})


def test_figures_of_two_problems_by_hand():
    result = figures(
        [
            tally([1, 1, 0, 0], tokens=[10, 20, 30, 40], truncated=[False, False, False, True]),
            tally([0, 0, 0, 1], [0, 0, None, 1], tokens=[10, 10, 10, 10], truncated=[False] * 4, formed=[1, 1, 0, 1]),
        ],
        seed=0,
    )
    assert (result["problems"], result["samples"], result["unanswered"]) == (2, 4, 1)
    assert result["pass_at_1"] == 3 / 8 and result["ci95"] == pytest.approx([0.25, 0.5])
    assert result["pass_at_k"]["4"]["accuracy"] == 1.0
    assert result["pass_at_k"]["2"]["accuracy"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert result["maj_at_k"]["4"]["accuracy"] == 0.5, "2:2 goes to what came first; two wrong ones beat one right one"
    assert result["completion_tokens"] == 140 / 8 and result["tokens_per_correct"] == pytest.approx(140 / 3)
    assert result["truncation_rate"] == 1 / 8 and result["format_rate"] == 7 / 8


@pytest.mark.parametrize("cut, warnings", [(0, []), (5, []), (6, ["truncated"])])
def test_frequent_truncation_is_reported(cut, warnings):
    result = figures([tally([1] * 50 + [0] * 50, truncated=[True] * cut + [False] * (100 - cut))], seed=0)
    assert result["warnings"] == warnings


def test_spread_over_samples_needs_the_same_number_for_all():
    result = figures([tally([1, 0]), tally([1, 1])], seed=0)["over_samples"]
    assert result == {"sd": pytest.approx(0.125**0.5), "standard_error": pytest.approx(0.25)}
    assert figures([tally([1, 0]), tally([1, 1, 0])], seed=0)["over_samples"] is None
    assert figures([tally([1]), tally([0])], seed=0)["over_samples"] is None


def test_tokens_per_correct_interval_is_within_its_problems():
    result = figures([tally([1, 1, 0, 0], tokens=[25] * 4), tally([0, 0, 0, 1], tokens=[10] * 4)], seed=0)
    assert result["tokens_per_correct_ci95"] == [40.0, 50.0]


def test_maj_at_k_is_the_mean_over_the_subsets_of_k():
    rng = np.random.default_rng(0)
    tallies = []
    for _ in range(60):
        clusters = rng.integers(0, 3, 5).tolist()
        tallies.append(tally([one == 0 for one in clusters], clusters))

    def majority_is_right(clusters):
        votes = {name: clusters.count(name) for name in clusters}
        best = max(votes.values())
        return next(name for name in clusters if votes[name] == best) == 0

    expected = np.mean(
        [
            np.mean([majority_is_right(list(drawn)) for drawn in permutations(one.judged.answer_clusters, 4)])
            for one in tallies
        ]
    )
    assert figures(tallies, seed=0)["maj_at_k"]["4"]["accuracy"] == pytest.approx(expected, abs=0.02)


def test_pass_at_k_is_the_mean_over_the_subsets_of_k():
    correct = [1, 0, 0, 1, 0, 0, 0, 0]
    expected = np.mean([any(drawn) for drawn in combinations(correct, 4)])
    assert figures([tally(correct)], seed=0)["pass_at_k"]["4"]["accuracy"] == pytest.approx(expected)


def test_unknown_values_are_none():
    result = figures([tally([1, 0], tokens=[1, 2], truncated=[False, False]), tally([1, 0])], seed=0)
    for name in ("completion_tokens", "tokens_per_correct", "truncation_rate", "completion_tokens_ci95"):
        assert result[name] is None
    assert figures([tally([0, 0], tokens=[1, 2])], seed=0)["tokens_per_correct"] is None


def test_problem_without_completions_counts_as_unsolved():
    result = figures([tally([1, 1]), tally([])], seed=0)
    assert result["pass_at_1"] == 0.5 and result["maj_at_k"]["2"]["accuracy"] == 0.5


def test_problems_count_alike_however_many_completions_they_have():
    assert figures([tally([1]), tally([0, 0, 0])], seed=0)["pass_at_1"] == 0.5


def test_intervals_of_means_over_completions_are_of_these_means():
    """Problems with different numbers of completions, and one without any, against resampling in a loop."""
    tokens = [[1000], [10] * 20, [50, 60], []]
    truncated = [[True], [False] * 20, [True, False], []]
    tallies = [tally([1] * len(one), tokens=one, truncated=cut) for one, cut in zip(tokens, truncated, strict=True)]
    result = figures(tallies, seed=0)
    rng = np.random.default_rng(5)
    for name, values in (("completion_tokens", tokens), ("truncation_rate", truncated)):
        means = []
        for _ in range(20_000):
            drawn = [value for problem in rng.integers(0, 4, 4) for value in values[problem]]
            if drawn:
                means.append(np.mean(drawn))
        assert result[f"{name}_ci95"] == pytest.approx(np.quantile(means, (0.025, 0.975)), rel=0.1), name
        assert result[name] == pytest.approx(np.mean(sum(values, [])))
    assert result["format_rate_ci95"] == [1.0, 1.0]
    assert None not in result["tokens_per_correct_ci95"]
    assert (result["fewest_samples"], result["samples"]) == (0, 20)


def test_problem_without_completions_leaves_tokens_known():
    result = figures([tally([1, 0], tokens=[10, 30]), tally([])], seed=0)
    assert result["completion_tokens"] == 20 and result["completion_tokens_ci95"] == [20, 20]


def test_one_completion_a_problem_has_no_pass_at_k():
    result = figures([tally([1]), tally([0])], seed=0)
    assert result["pass_at_k"] == result["maj_at_k"] == {} and result["pass_at_1"] == 0.5


def test_labels_are_in_natural_order():
    labels = [{"difficulty": "10"}, {"difficulty": "2"}, {"difficulty": "2"}, {}]
    result = figures([tally([n % 2], labels=one) for n, one in enumerate(labels)], seed=0)["by"]["difficulty"]
    assert list(result) == ["2", "10", "not given"]
    assert (result["2"]["problems"], result["2"]["pass_at_1"]) == (2, 0.5)


def test_constant_label_is_omitted():
    assert figures([tally([1], labels={"subject": "a"}), tally([0], labels={"subject": "a"})], seed=0)["by"] == {}


def test_same_seed_gives_the_same_figures_and_another_one_other_intervals():
    rng = np.random.default_rng(1)
    tallies = [tally(rng.integers(0, 2, 8)) for _ in range(30)]
    assert figures(tallies, 3) == figures(tallies, 3) != figures(tallies, 4)


def test_score_rule_is_reported_with_the_others():
    """What reranked@k plugs into."""
    rows = [tally([0, 0, 1], [0, 0, 1], scores=[0.1, 0.1, 0.9])]
    result = figures(rows, seed=0, rules={"weighted_at_k": Entry("weighted", weighted, lambda steps: steps[-1])})
    assert result["weighted_at_k"]["3"]["accuracy"] == 1.0


# The right answer is first and fourth; by their last steps the scores prefer it, by their worst they do not.
SCORED = [[0.9, 0.9], [0.5, 0.4], [0.5, 0.3], [0.1, 0.8]]


@pytest.mark.parametrize(
    ("scores", "aggregation", "weighted_is_right", "best_is_right", "unscored"),
    [
        (SCORED, last, 1, 1, 0),
        ([[0.2, 0.2], *SCORED[1:]], lowest, 0, 0, 0),
        ([None, *SCORED[1:3], 0.6], last, 0, 1, 1),  # 0.6 against 0.4 + 0.3
        ([0.1, 0.9, float("nan"), 0.2], last, 0, 0, 1),
    ],
)
def test_score_rules_are_reported_where_scores_exist(scores, aggregation, weighted_is_right, best_is_right, unscored):
    tallies = [tally([1, 0, 0, 1], scores=scores), tally([1, 1, 1, 1])]
    result = figures(tallies, seed=0, rules=rules_of(tallies, aggregation))
    assert result["weighted_at_k"]["4"]["accuracy"] == (weighted_is_right + 1) / 2
    assert result["best_of_k"]["4"]["accuracy"] == (best_is_right + 1) / 2
    low, high = result["best_of_k"]["4"]["ci95"]
    assert low <= result["best_of_k"]["4"]["accuracy"] <= high
    assert result["unscored"] == unscored + 4, "the second problem's have none"


@pytest.mark.parametrize("scores", [None, [None, None]])
def test_without_scores_only_majority_is_reported(scores):
    result = figures([tally([1, 0], scores=scores)], seed=0, rules=rules_of([tally([1, 0], scores=scores)], last))
    assert "maj_at_k" in result and not {"weighted_at_k", "best_of_k", "unscored"} & result.keys()
