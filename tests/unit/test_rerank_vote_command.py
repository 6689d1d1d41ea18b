"""`openrlhf-math vote`: recorded attempts in, accuracy by rule out, and sentences for bad input."""

import json
import math
import random
import sys
from itertools import combinations, product

import numpy as np
import pytest

from openrlhf_math.cli import main
from openrlhf_math.evaluation import recorded
from openrlhf_math.evaluation.estimates import bootstrap_intervals, pass_at_k
from openrlhf_math.evaluation.voting import numbers_of_attempts
from openrlhf_math.rewards import GradingPool, RewardConfig

# Two of three say 2 in different words; the best score is on 3; 0.5 is a minority that the scores prefer.
ROWS = [
    {
        "problem": "1+1?",
        "gold": "2",
        "responses": [r"\boxed{3}", r"\boxed{2}", r"so x, \boxed{x=2}"],
        "scores": [[0.9, 0.9], [0.45, 0.6], 0.5],
        "tokens": [10, 10, 10],
    },
    {
        "problem": "",
        "gold": r"\frac{1}{2}",
        "responses": [r"\boxed{7}", r"\boxed{7}", r"\boxed{0.5}"],
        "scores": [[0.1], [0.2], [0.9, 0.8]],
        "tokens": [10, 10, 40],
    },
]


def jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def vote(tmp_path, capsys):
    """Votes over rows; gives the output, as JSON."""

    def run(rows, *arguments):
        file = tmp_path / "rows.jsonl"
        file.write_text(jsonl(rows))
        assert main(["vote", str(file), "--workers", "1", "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_accuracy_by_rule(vote):
    result = vote(ROWS, "--aggregate", "min")
    assert result["ks"] == [1, 2, 3]
    assert result["pass@1"]["accuracy"] == [0.5]
    assert result["pass@k"]["accuracy"] == [0.5, pytest.approx((1 + 2 / 3) / 2), 1.0]
    at_all = {name: rule["accuracy"][-1] for name, rule in result["rules"].items()}
    by_scores = {"weighted, min": 1.0, "best_of_n, min": 0.5, "weighted_best_of_n, min": 1.0, "chairman, min": 0.5}
    assert at_all == {"majority": 0.5, **by_scores}
    assert {rule["accuracy"][0] for rule in result["rules"].values()} == {0.5}
    assert all(low <= high for low, high in (rule["interval"] for rule in result["rules"].values()))


def test_each_rule_is_compared_with_the_majority_by_problem(vote):
    """10 problems: the scores are right where the majority errs in 6, and wrong where it is right in 1."""

    def row(right, others, score):
        return {"gold": "1", "responses": [rf"\boxed{{{one}}}" for one in [*right, *others]], "scores": score}

    better, worse, same = [
        row("1", "22", [0.9, 0.1, 0.1]), row("11", "2", [0.1, 0.1, 0.9]), row("11", "2", [0.9, 0.1, 0.1])
    ]  # fmt: skip
    rules = vote([better] * 6 + [worse] + [same] * 3, "--aggregate", "last")["rules"]
    assert rules["majority"]["from_majority"] is None
    result = rules["best_of_n, last"]["from_majority"]
    assert result["difference"][0] == 0 and result["p"][0] == 1 and result["difference"][-1] == pytest.approx(0.5)
    signs = [sum(one) for one in product((1, -1), repeat=7)]
    assert result["p"][-1] == pytest.approx(sum(abs(one) >= 5 for one in signs) / len(signs))
    low, high = result["interval"][-1]
    assert 0 < low < 0.5 < high
    alone = vote([better], "--rule", "best_of_n", "--aggregate", "last")["rules"]
    assert alone["best_of_n, last"]["from_majority"] is None


def test_all_aggregations_are_shown_by_default(vote):
    names = vote(ROWS)["rules"]
    assert len(names) == 1 + 4 * 4 and "weighted, product" in names


def test_subsets_of_a_few_attempts_are_the_mean_over_all_of_them(vote):
    rows = ROWS[:1]
    result = vote(rows, "--rule", "best_of_n", "--aggregate", "last", "--subsets", "4000")
    scores, right = [0.9, 0.6, 0.5], [False, True, True]
    expected = np.mean([right[max(pair, key=scores.__getitem__)] for pair in combinations(range(3), 2)])
    assert result["rules"]["best_of_n, last"]["accuracy"][1] == pytest.approx(expected, abs=0.03)


def test_logits_are_logits_in_every_problem_and_subset(vote):
    """Three attempts of four are within 0 and 1: 0.9 is more than 0.3 + 0.3, but e^0.9 less than e^0.3 + e^0.3."""
    answers, logits = ["2", "3", "2", "4"], [0.3, 0.9, 0.3, -9.0]
    within = {"gold": "2", "responses": [rf"\boxed{{{one}}}" for one in answers[:3]], "scores": logits[:3]}
    beyond = {"gold": "2", "responses": [rf"\boxed{{{one}}}" for one in answers], "scores": [[one] for one in logits]}

    def right(chosen) -> bool:
        powers = {name: sum(math.exp(logits[one]) for one in chosen if answers[one] == name) for name in answers}
        return powers["2"] > max(powers["3"], powers["4"])

    flags = ("--rule", "weighted", "--aggregate", "last", "--subsets", "4000")
    (rule,) = vote([beyond, beyond | within], *flags)["rules"].values()
    pairs = [sum(map(right, combinations(range(n), 2))) / math.comb(n, 2) for n in (4, 3)]
    assert rule["accuracy"][1] == pytest.approx(sum(pairs) / 2, abs=0.02) and rule["accuracy"][2] == 1.0


@pytest.mark.parametrize("name", ["scores", "confidence"])
def test_numbers_whose_sum_is_too_large_are_no_traceback(tmp_path, capsys, name):
    row = ROWS[0] | {name: [[1.7e308, 1.7e308], 1, 2] if name == "scores" else [1.7e308] * 3}
    file = tmp_path / "rows.jsonl"
    for one in (row, row | {name: [10**400, 1, 2]}):
        file.write_text(jsonl([one]))
        assert main(["vote", str(file), "--workers", "1", "--json"]) == (0 if name == "scores" else 2)
        shown = capsys.readouterr()
        assert json.loads(shown.out)["unscored"] == 1 if name == "scores" else name in shown.err


def test_same_seed_gives_the_same_numbers(vote):
    rng = random.Random(0)
    rows = [
        {
            "gold": "1",
            "responses": [rf"\boxed{{{rng.randint(1, 3)}}}" for _ in range(8)],
            "scores": [rng.random() for _ in range(8)],
        }
        for _ in range(10)
    ]
    assert vote(rows, "--seed", "3") == vote(rows, "--seed", "3") != vote(rows, "--seed", "4")


def test_without_scores_only_vote_rules_are_shown(vote):
    rows = [{key: row[key] for key in ("gold", "responses")} for row in ROWS]
    assert list(vote(rows)["rules"]) == ["majority"]
    assert list(vote([ROWS[0], rows[1]])["rules"]) == ["majority"]


def test_custom_rule_and_aggregation(vote):
    result = vote(ROWS, "--rule", f"{__name__}.the_third", "--aggregate", "statistics.median")
    assert result["rules"][f"{__name__}.the_third, statistics.median"]["accuracy"][-1] == 1.0


def the_third(clusters, scores):
    return min(2, len(clusters) - 1)


CHOICES = {
    "negative": "-1",
    "beyond": "len(clusters)",
    "text": "'0'",
    "fraction": "0.5",
    "unanswered": "(*clusters, None).index(None) % len(clusters)",
}


@pytest.mark.parametrize("name", [*CHOICES, "no_number", "words"])
def test_own_rule_or_aggregation_that_returns_nonsense_is_named(name, tmp_path, monkeypatch, capsys):
    source = "".join(f"def {one}(clusters, scores): return {found}\n" for one, found in CHOICES.items())
    source += "def no_number(steps): return None\ndef words(steps): return 'high'\n"
    (tmp_path / "own_choices.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_choices", raising=False)
    row = ROWS[0] | {"responses": [r"\boxed{2}", None, r"\boxed{2}"]}
    file = tmp_path / "rows.jsonl"
    file.write_text(jsonl([row]))
    own = f"own_choices.{name}"
    flags = ("--rule", own) if name in CHOICES else ("--rule", "weighted", "--aggregate", own)
    assert main(["vote", str(file), "--workers", "1", *flags]) == 2
    assert own in capsys.readouterr().err


def test_missing_answer_score_or_gold_is_wrong_and_reported(vote):
    nothing = [
        {"gold": "5", "responses": [None, "", "I do not know"], "scores": [math.nan, [], None]},
        {"gold": "5", "responses": [], "scores": []},
        {"gold": "", "responses": [r"\boxed{5}"], "scores": [10**400]},
        {"gold": "5", "responses": [r"\boxed{4}", "\ud800 \\boxed{5}"], "scores": [[0.9, math.nan], 0.1]},
    ]
    result = vote(nothing)
    assert (result["unanswered"], result["ungraded"], result["unscored"], result["fewest_attempts"]) == (3, 1, 5, 0)
    accuracies = {name: rule["accuracy"][-1] for name, rule in result["rules"].items()}
    assert accuracies.pop("majority") == 0.0
    assert set(accuracies.values()) == {0.25}


def test_early_stopping_reports_saved_tokens(vote):
    rows = [{"gold": "1", "responses": [r"\boxed{1}"] * 8, "tokens": [10] * 4 + [20] * 4}]
    result = vote(rows, "--confidence", "0.9")["early_stop"]
    # 3 equal answers are 1 - 1/16 sure; 4 of 8 cannot lose to a cluster that has not come yet
    assert result["leads with 0.9 confidence"] == {
        "accuracy": 1.0,
        "attempts": 3.0,
        "planned": 8.0,
        "saved": pytest.approx(0.75),
    }
    assert result["cannot lose"]["saved"] == pytest.approx(80 / 120)
    del rows[0]["tokens"]
    assert vote(rows)["early_stop"]["cannot lose"]["saved"] == 0.5


def test_equal_responses_are_graded_once(monkeypatch):
    pool, asked = GradingPool(RewardConfig(workers=1)), []
    grade_now = pool.grade_now
    monkeypatch.setattr(pool, "grade_now", lambda *row: asked.append(row) or grade_now(*row))
    row = recorded.Row("", None, "5", [r"\boxed{5}"] * 20 + [r"\boxed{6}"] * 20, None, None)
    judged = recorded.judge(row, pool)
    pool.close()
    assert judged.answer_clusters == [0] * 20 + [1] * 20 and judged.correct == [True] * 20 + [False] * 20
    assert len(asked) == 2


def test_tables_and_plot(tmp_path, capsys):
    file, plot = tmp_path / "rows.jsonl", tmp_path / "plot.png"
    rows = [*ROWS, {"gold": "1", "responses": [r"\boxed{1}"], "scores": [None]}]
    file.write_text(jsonl(rows))
    assert main(["vote", str(file), "--plot", str(plot), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    for text in ("pass@1", "pass@k", "weighted_best_of_n, product", "95% at 3", "cannot lose"):
        assert text in printed
    assert "1 of 7 attempts have a score that is not a number" in printed
    assert "fewer attempts than k" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"gold": "5"', "line 2: "),
        ("[1, 2]", "line 2: "),
        ("\udcff", "line 2: "),
        ('{"gold": "5"}', "line 2 has no `responses`"),
        ('{"responses": []}', "line 2 has no `gold`"),
        ('{"gold": true, "responses": []}', "line 2: `gold` is True"),
        ('{"gold": "5", "responses": "5"}', "line 2: `responses` is '5'"),
        ('{"gold": "5", "responses": [5]}', "line 2: `responses` is [5]"),
        ('{"gold": "5", "responses": ["5"], "problem": 7}', "line 2: `problem` is 7"),
        ('{"gold": "5", "responses": ["5"], "scores": [1, 2]}', "line 2 has 1 `responses` and 2 `scores`"),
        ('{"gold": "5", "responses": ["5"], "scores": ["1"]}', "line 2: `scores` is ['1']"),
        ('{"gold": "5", "responses": ["5"], "scores": [[true]]}', "line 2: `scores` is [[True]]"),
        ('{"gold": "5", "responses": ["5"], "scores": 0.5}', "line 2: `scores` is 0.5"),
        ('{"gold": "5", "responses": ["5"], "tokens": [-1]}', "line 2: `tokens` is [-1]"),
    ],
)
def test_bad_row_is_named(line, message, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_bytes((jsonl(ROWS[:1]) + line + "\n").encode("utf-8", "surrogateescape"))
    assert main(["vote", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}, {message}" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.jsonl"], "missing.jsonl cannot be read"),
        (["{folder}"], "there is no file of a known format in it"),
        (["{empty}"], "has no rows"),
        (["{hollow}"], "has no attempts"),
        (["{rows}", "--rule", "nosuch"], "--rule nosuch: there is none of that name"),
        (["{rows}", "--aggregate", "no.such"], "--aggregate no.such: cannot be imported"),
        (["{unscored}", "--rule", "weighted"], "1 has no `scores`, which --rule weighted needs"),
        (["{rows}", "--subsets", "0"], "--subsets 0"),
        (["{rows}", "--seed", "-1"], "--seed -1"),
        (["{rows}", "--confidence", "1"], "--confidence 1.0"),
        (["{rows}", "--timeout", "0"], "--timeout 0"),
        (["{rows}", "--plot", "plot.txt"], "must end in .png"),
        (["{rows}", "--plot", "/nowhere/plot.png"], "there is no directory /nowhere"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, capsys):
    files = {
        "rows": ROWS,
        "empty": [],
        "hollow": [{"gold": "5", "responses": []}],
        "unscored": [{"gold": "5", "responses": ["5"]}],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text(jsonl(rows))
    paths = {name: tmp_path / name for name in files}
    assert main(["vote", *[argument.format(folder=tmp_path, **paths) for argument in arguments]]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "samples, correct, k, value",
    [(0, 0, 1, 0), (4, 0, 2, 0), (4, 4, 1, 1), (4, 1, 1, 0.25), (4, 1, 2, 0.5), (5, 2, 2, 0.7), (2, 1, 8, 1)],
)
def test_pass_at_k(samples, correct, k, value):
    assert pass_at_k(samples, correct, k) == pytest.approx(value)


def test_pass_at_k_is_the_mean_over_all_subsets():
    correct = [True, False, False, True, False, False, False]
    for k in range(1, 8):
        expected = np.mean([any(subset) for subset in combinations(correct, k)])
        assert pass_at_k(len(correct), sum(correct), k) == pytest.approx(expected)


def test_joint_intervals_match_single_ones():
    correct = np.random.default_rng(0).random((50, 4)) < 0.4
    scores = np.stack([correct.mean(axis=1), correct.any(axis=1)], axis=1)
    assert bootstrap_intervals(scores)[0] == pytest.approx(bootstrap_intervals(scores[:, :1])[0])
    assert bootstrap_intervals(scores).shape == (2, 2)


@pytest.mark.parametrize("most, ks", [(0, []), (1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (32, [1, 2, 4, 8, 16, 32])])
def test_numbers_of_attempts(most, ks):
    assert numbers_of_attempts(most) == ks


def test_plot_tick_labels_match_positions(tmp_path, monkeypatch):
    """Equal steps have labels in equal steps: 72.5% is not written 73% or 72%."""
    from matplotlib.figure import Figure

    from openrlhf_math.evaluation.voting import draw

    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: kept.append(figure))
    curve = [0.731, 0.752, 0.779, 0.801]
    result = {"ks": [1, 2, 4, 8], "problems": 9, "rules": {"majority": {"accuracy": curve}}}
    draw(result | {"pass@k": {"accuracy": curve}, "pass@1": {"accuracy": curve}}, tmp_path / "plot.png")
    (axes,) = kept[0].axes
    kept[0].canvas.draw()
    for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        assert abs(float(label.get_text().rstrip("%")) / 100 - place) < 1e-9
