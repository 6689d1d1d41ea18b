"""What the experiments make of their runs: over seeds, on held-out problems, and in figures and tables."""

import json

import pytest
from recorded_runs import grpo_row

from openrlhf_math.cli.experiment_distillation import first_of, worked_sum
from openrlhf_math.cli.experiments import write_results
from openrlhf_math.evaluation.compare import Result
from openrlhf_math.evaluation.recorded import Judged
from openrlhf_math.experiments import curriculum, efficiency, kl, mismatch, rerank, teacher, tool
from openrlhf_math.experiments.over_seeds import EvaluatedRun, band, differences, pass_at_1, spread, tokens_per_correct


def results(*accuracies: float, tokens: float = 50.0) -> list[Result]:
    return [Result(f"Problem {number}", "2", accuracy, tokens) for number, accuracy in enumerate(accuracies)]


def rows(steps: int, **changed) -> list[dict]:
    return [grpo_row(step, **changed) for step in range(1, steps + 1)]


# --- over seeds, and on held-out problems


def test_band_is_the_mean_of_the_seeds_between_the_lowest_and_the_highest():
    found = band([rows(30, reward=0.2), rows(30, reward=0.6)], "reward")
    assert found.steps == list(range(1, 31))
    assert found.mean[7] == pytest.approx(0.4)
    assert (found.low[7], found.high[7]) == (pytest.approx(0.2), pytest.approx(0.6))


def test_band_has_the_steps_that_all_seeds_have():
    broken = [row | {"reward": None} if row["step"] == 3 else row for row in rows(10)]
    assert band([broken, rows(8)], "reward").steps == [1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_band_of_few_steps_keeps_them_all(steps):
    assert band([rows(steps, reward=0.3)], "reward").mean == pytest.approx([0.3] * steps)


def test_spread_names_the_seeds():
    found = spread([3.0, 1.0, 2.0])
    assert (found.mean, found.low, found.high, found.values) == (2.0, 1.0, 3.0, [3.0, 1.0, 2.0])


def test_held_out_problems_of_all_seeds_count_alike():
    found = pass_at_1([results(1.0, 0.5), results(0.0, 0.5)])
    low, high = found.ci95
    assert found.value == 0.5 and 0 <= low < 0.5 < high <= 1


def test_tokens_per_correct_include_wrong_completions():
    found = tokens_per_correct([results(1.0, 0.0, tokens=40.0), results(1.0, 1.0, tokens=20.0)])
    assert found.value == pytest.approx((40 + 40 + 20 + 20) / 3)
    assert tokens_per_correct([results(0.0, 0.0)]) is None


def test_differences_are_paired_by_problem():
    first, second = [results(*[0.0, 0.2, 0.4, 0.6] * 5)], [results(*[0.1, 0.3, 0.5, 0.7] * 5)]
    found = differences(first, second)["pass_at_1"]
    assert found.difference == pytest.approx(0.1)
    assert found.interval == (pytest.approx(0.1), pytest.approx(0.1)), "every problem moved by as much"


# --- kl


@pytest.fixture
def kl_findings() -> kl.Findings:
    students = [results(0.2, 0.4), results(0.4, 0.2)]
    runs = {
        0.1: [kl.Run(rows(20, kl=0.03, **{"memory/peak_gib": 4.0, "timing/step_total": 3.0}), results(0.5, 0.5))] * 2,
        0.0: [
            kl.Run(rows(20, reward=0.8, **{"memory/peak_gib": gib}), results(0.9, 0.7)) for gib in (2.0, 3.0)
        ],
    }  # fmt: skip
    return kl.analyse(students, runs)


def test_coefficients_are_ordered_and_compared_with_kl_0(kl_findings):
    zero, tenth = kl_findings.coefficients
    assert (zero.kl, tenth.kl) == (0.0, 0.1)
    assert (kl_findings.seeds, kl_findings.steps, kl_findings.student.value) == (2, 20, pytest.approx(0.3))
    assert zero.heldout.value == pytest.approx(0.8) and zero.against_zero is None
    assert tenth.against_zero.difference == pytest.approx(-0.3)
    assert zero.at_end.mean == pytest.approx(0.8)


def test_memory_time_and_distance_are_those_of_the_runs(kl_findings):
    zero, tenth = kl_findings.coefficients
    assert zero.peak_gib.values == [2.0, 3.0] and tenth.peak_gib.mean == 4.0
    assert (zero.step_seconds.mean, tenth.step_seconds.mean) == (2.0, 3.0)
    assert zero.kl_to_start is None, "it is not computed without a reference model"
    assert tenth.kl_to_start.mean == pytest.approx(0.03)


def test_first_step_compiles_and_is_not_timed():
    timed = [grpo_row(step, **{"timing/step_total": seconds}) for step, seconds in ((1, 100.0), (2, 2.0), (3, 4.0))]
    (one,) = kl.analyse([results(0.1)], {0.0: [kl.Run(timed, results(0.1))]}).coefficients
    assert one.step_seconds.mean == 3.0


def test_without_kl_0_there_is_no_comparison():
    (one,) = kl.analyse([results(0.1)], {0.1: [kl.Run(rows(5), results(0.1))]}).coefficients
    assert one.against_zero is None


# --- efficiency


def efficiency_run(seconds_after: float) -> efficiency.Run:
    before = efficiency.Model(results(0.5, 0.0, tokens=80.0), [10.0, 14.0], 1200)
    after = efficiency.Model(results(1.0, 0.5, tokens=40.0), [seconds_after], 1200)
    return efficiency.Run(rows(20), before, after)


def test_speeds_are_compared_seed_by_seed():
    found = efficiency.analyse([efficiency_run(6.0), efficiency_run(4.0)])
    assert found.before.completions_a_second.values == [100.0, 100.0]
    assert found.before.correct_a_second.mean == pytest.approx(25.0)
    assert found.faster.values == pytest.approx([2.0, 3.0])
    assert found.more_solved.values == pytest.approx([6.0, 9.0]), "as fast, times three times as accurate"


def test_lengths_and_accuracies_are_compared_problem_by_problem():
    found = efficiency.analyse([efficiency_run(6.0)])
    assert found.differences["pass_at_1"].difference == pytest.approx(0.5)
    assert found.differences["completion_tokens"].difference == pytest.approx(-40.0)
    assert found.before.tokens_per_correct.value == pytest.approx(320.0)
    assert found.after.tokens_per_correct.value == pytest.approx(80 / 1.5)


# --- curriculum


def curriculum_run(accuracies: list[float], tokens: float) -> EvaluatedRun:
    evaluations = [{"step": 2 * n, "eval_default_pass1": one} for n, one in enumerate(accuracies, start=1)]
    each = {"completion_length": tokens, "rollout/num_samples": 10.0, "curriculum/mixed_rate": 0.5}
    return EvaluatedRun(rows(2 * len(accuracies), **each), evaluations)


def test_orders_are_compared_at_an_accuracy_that_all_reach():
    slow, fast = [0.2, 0.3, 0.4, 0.5, 0.6], [0.4, 0.5, 0.6, 0.7, 0.8]
    found = curriculum.analyse({"uniform": [curriculum_run(slow, 8.0)], "window": [curriculum_run(fast, 10.0)]})
    uniform, window = found.orders
    assert found.targets == [pytest.approx(0.5)], "what uniform has at its end, a mean of three evaluations"
    assert uniform.steps.mean == pytest.approx(8.0) and uniform.tokens.mean == pytest.approx(8 * 80)
    assert window.steps.mean == pytest.approx(4.0) and window.tokens.mean == pytest.approx(4 * 100)
    assert window.fewer_tokens.mean == pytest.approx(1.6)


def test_between_evaluations_an_accuracy_is_reached_on_the_way():
    curve = curriculum.Curve([2.0, 4.0], [100.0, 300.0], [0.2, 0.6])
    assert curve.reached(0.3) == pytest.approx((2.5, 150.0))
    assert curve.reached(0.1) == (2.0, 100.0), "before the first evaluation nothing is known"
    with pytest.raises(ValueError, match="0.7 is not reached"):
        curve.reached(0.7)


# --- rerank


def judged(clusters: list[int], right: int, scores: list[float]) -> Judged:
    correct = [one == right for one in clusters]
    return Judged("", clusters, correct, [[0.9, score] for score in scores], [10] * len(clusters), 0, 0, 0)


def test_rules_are_reported_by_number_of_attempts():
    misled = judged([0, 0, 1, 2], right=1, scores=[0.1, 0.1, 0.8, 0.2])
    easy = judged([0, 0, 0, 1], right=0, scores=[0.5, 0.6, 0.7, 0.1])
    found = rerank.analyse([[misled], [easy]], spread([0.8, 0.9]))
    assert (found.seeds, found.problems, found.ks) == (2, 2, [1, 2, 4])
    at_all = {name: curve[-1].value for name, curve in found.curves.items()}
    assert at_all == {"pass@1": 0.5, "maj@k": 0.5, "weighted@k": 1.0, "best-of-k": 1.0, "pass@k": 1.0}
    assert {curve[0].value for curve in found.curves.values()} == {0.5}, "one attempt leaves nothing to choose"
    assert found.against_majority["weighted@k"].difference == 0.5


# --- tool


def tool_run(accuracy: float, heldout: float, **more) -> EvaluatedRun:
    records = [row | {"accuracy": accuracy * row["step"] / 10} for row in rows(10, **more)]
    return EvaluatedRun(records, [{"step": 10, "eval_heldout_pass1": heldout, "eval_num_samples": 16}])


def tool_findings() -> tool.Findings:
    calls = {"tool/calls": 0.5, "tool/failed_rate": 0.25, "tool/token_share": 0.2}
    runs = {
        tool.WITH: [tool_run(0.8, 0.9, **calls), tool_run(0.6, 0.7, **calls)],
        tool.WITHOUT: [tool_run(0.0, 0.0), tool_run(0.1, 0.1)],
    }
    return tool.analyse(runs)


def test_tool_gain_is_reported_by_seed():
    found = tool_findings()
    result, without = found.ways
    assert (found.seeds, found.steps, found.completions) == (2, 10, 16)
    assert result.heldout.values == [0.9, 0.7] and without.heldout.mean == pytest.approx(0.05)
    assert result.begun.values == pytest.approx([0.08, 0.06])
    assert (result.calls_at_end.mean, result.failed_at_end.mean, result.tool_tokens.mean) == (0.5, 0.25, 0.2)
    assert without.calls is None and without.tool_tokens is None


def test_run_without_a_tool_has_no_calls_in_the_table():
    (table,) = tool.tables(tool_findings())
    by_name = {row[0]: row[1:] for row in table.rows}
    assert by_name["held-out pass@1 at the end"] == ["80.0% (70.0% to 90.0%)", "5.0% (0.0% to 10.0%)"]
    assert by_name["calls a completion in the last step"] == ["0.50 (0.50 to 0.50)", "-"]


# --- teacher


def teacher_findings() -> teacher.Findings:
    def run(tokens: float, *accuracies: float, divergence: float | None = None) -> teacher.Run:
        each = {"completion_length": tokens, "rollout/num_samples": 10.0, "teacher/reverse_kl": divergence}
        evaluations = [{"step": 2 * (n + 1), "eval_x_pass1": one} for n, one in enumerate(accuracies)]
        return teacher.Run(rows(2 * len(accuracies), **each), evaluations, 1000.0, results(*accuracies))

    ways = {
        "GRPO": [run(10.0, 0.4, 0.5), run(10.0, 0.2, 0.6)],
        "teacher alone": [run(20.0, 0.6, 0.8, divergence=0.1)] * 2,
        "teacher and reward": [run(20.0, 0.3, 0.8, divergence=0.2)] * 2,
        "SFT on its traces": [teacher.Run(None, None, 900.0, results(0.6, 0.4))] * 2,
    }
    return teacher.analyse([results(0.2, 0.2)] * 2, [results(1.0, 0.9)] * 2, ways)


def test_tokens_to_the_accuracy_that_grpo_ends_with_begin_at_the_student():
    """From 0.2 at 0 tokens to 0.6 at 400: 0.5 at 300. A run that ends lower sets the target of its seed."""
    found = teacher_findings()
    assert found.targets == [0.5, 0.6] and found.steps == 4
    by_name = {one.name: one for one in found.ways}
    assert by_name["GRPO"].reached.values == pytest.approx([400.0, 400.0])
    assert by_name["teacher alone"].reached.values == pytest.approx([300.0, 400.0])
    assert by_name["teacher alone"].fewer.values == pytest.approx([4 / 3, 1.0])
    assert by_name["teacher alone"].reverse_kl.mean == pytest.approx([0.1] * 4)
    assert by_name["SFT on its traces"].reached is None
    assert by_name["SFT on its traces"].heldout.value == pytest.approx(0.5)
    assert by_name["SFT on its traces"].against.difference == pytest.approx(0.5 - 0.425)
    (table,) = teacher.tables(found)
    assert all(len(row) == len(table.header) for row in table.rows)


def test_budget_of_tokens_holds_the_first_attempt_at_every_problem_first():
    verdicts = [{"row": row, "attempt": attempt, "tokens": 10 * row} for row in (1, 2, 3) for attempt in (0, 1)]
    chosen = [(row["row"], row["attempt"]) for row in first_of(verdicts, 75)]
    assert chosen == [(1, 0), (2, 0), (3, 0), (1, 1)]
    assert len(first_of(verdicts, 1000)) == 6


def test_teacher_learns_sums_without_their_checks():
    lines = "Tom has 4 pens.\n4-3=1.\n1-1=0."
    again = "\nLet me check that again.\n4-3=1.\n1-1=0."
    end = "\n</think>\n\nThe answer is \\boxed{0}."
    assert worked_sum(f"<think>\n{lines}{again}{again}{end}") == worked_sum(f"<think>\n{lines}{end}")
    assert worked_sum(f"<think>\n{lines}{end}") == f"<think>\n{lines}{end}"


# --- what is written


def findings() -> dict:
    problems = [judged([0, 0, 1, 2], right=number % 2, scores=[0.1, 0.1, 0.8, 0.2]) for number in range(6)]
    run = kl.Run(rows(10), results(0.5, 0.5))
    return {
        "kl": (kl, kl.analyse([results(0.1, 0.3)], {0.0: [run], 0.01: [run]})),
        "efficiency": (efficiency, efficiency.analyse([efficiency_run(6.0)])),
        "curriculum": (
            curriculum,
            curriculum.analyse({name: [curriculum_run([0.1, 0.2, 0.3, 0.4], 9.0)] for name in ("uniform", "window")}),
        ),
        "rerank": (rerank, rerank.analyse([problems], None)),
        "tool": (tool, tool_findings()),
        "teacher": (teacher, teacher_findings()),
        "mismatch": (mismatch, mismatch_findings()),
    }


@pytest.mark.parametrize("name", ["kl", "efficiency", "curriculum", "rerank", "tool", "teacher", "mismatch"])
def test_experiment_leaves_its_figure_its_tables_and_its_commands(tmp_path, name):
    experiment, result = findings()[name]
    write_results(tmp_path / name, experiment, result, [["eval", "--instruction", ""]], 61.4)
    folder = tmp_path / name
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.png", f"{name}.svg", f"{name}.md", f"{name}.json", "commands.txt",
    }  # fmt: skip
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / f"{name}.svg").read_text()
    table = (folder / f"{name}.md").read_text()
    assert table.startswith(f"# {experiment.TITLE}") and f"({name}.png)" in table
    assert ("lowest to highest" if name in ("curriculum", "tool") else "95% intervals") in table
    assert json.loads((folder / f"{name}.json").read_text())["seconds_of_all_commands"] == 61
    assert "openrlhf-math eval --instruction ''" in (folder / "commands.txt").read_text()


def test_each_band_has_a_separate_panel(tmp_path):
    panels = {
        "kl": ("Reward, KL 0:", "Reward, KL 0.01 "),
        "mismatch": ("Exact engine", "Perturbed engine, uncorrected"),
    }
    for name, titles in panels.items():
        experiment, found = findings()[name]
        experiment.draw(found, tmp_path / name)
        drawn = (tmp_path / f"{name}.svg").read_text()
        assert [drawn.count(f"<!-- {title}") for title in titles] == [1, 1]


def test_table_says_what_its_ranges_are_of():
    (table,) = kl.tables(findings()["kl"][1])
    assert all(len(row) == len(table.header) for row in table.rows)
    assert table.rows[0] == ["reference model", "none", "yes"]
    assert "lowest to highest of the seeds" in table.note


# --- mismatch


def mismatch_findings() -> mismatch.Findings:
    def off(ess: float, *accuracies: float) -> mismatch.Run:
        figures = {"rollout_corr/ess": ess, "logprob_gap": 0.3, "rollout_corr/corrected_rate": 0.0}
        return mismatch.Run(rows(6, **figures), results(*accuracies))

    students, exact = [results(0.2, 0.4), results(0.4, 0.2)], [off(1.0, 0.9, 0.7), off(1.0, 0.8, 0.8)]
    runs = {mismatch.EXACT: exact, "off": [off(0.8, 0.3, 0.5), off(0.6, 0.4, 0.4)]}
    return mismatch.analyse(students, runs, noise=0.2)


def test_perturbed_engine_is_compared_with_the_exact_one():
    found = mismatch_findings()
    plain, worse = found.ways
    assert (found.seeds, found.steps, found.student.value) == (2, 6, pytest.approx(0.3))
    assert plain.against is None and worse.against.difference == pytest.approx(-0.4)
    assert worse.by_seed == pytest.approx([0.4, 0.4]) and worse.ess.mean == pytest.approx(0.7)
    assert [len(row) for row in mismatch.tables(found)[0].rows] == [7, 7]


def test_target_that_was_reached_before_training_gives_no_ratio_of_tokens():
    assert curriculum.times_fewer([100.0, 0.0], [50.0, 10.0]) is None
    assert curriculum.times_fewer([100.0, 80.0], [50.0, 0.0]) is None
    assert curriculum.times_fewer([100.0, 80.0], [50.0, 20.0]).values == [2.0, 4.0]
