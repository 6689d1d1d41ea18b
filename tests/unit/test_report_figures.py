"""The figures, curves and tables of a report."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import pytest
from recorded_runs import evaluation, grpo_row, grpo_run, whole_run

from openrlhf_math.report.evaluations import comparison_table, evaluation_table, headlines
from openrlhf_math.report.figures import (
    grpo_table,
    memory_plot,
    phases_of,
    seconds,
    single_table,
    time_plot,
    training_headlines,
)
from openrlhf_math.report.plots import GRPO, evaluation_curves, part_curves, plot, single_points, smoothed
from openrlhf_math.report.report import bar, ends, opening_of, tables_of
from openrlhf_math.report.runs import Training, all_settings, differences, find_runs
from openrlhf_math.report.samples import samples_of
from openrlhf_math.report.table import Interval, Table, as_markdown
from openrlhf_math.runs.process import FAILED, FINISHED, Process
from openrlhf_math.runs.records import Records

CURVES = {curve.title: curve for curve in GRPO}
ROWS = [grpo_row(step) for step in range(1, 31)]


def test_tokens_per_second_cover_the_whole_batch():
    row = grpo_row(1, completion_length=50.0) | {"rollout/num_samples": 100.0, "timing/step_total": 2.0}
    assert CURVES["Speed of a step"].value(row) == 50 * 100 / 2
    assert CURVES["Speed of generation"].value(row) == pytest.approx(50 * 100 / 1.2)
    assert CURVES["Speed of a step"].value(row | {"timing/step_total": 0.0}) is None


def test_phases_of_a_step_add_up_to_it():
    assert sum(seconds(ROWS[0])) == pytest.approx(ROWS[0]["timing/step_total"])
    assert seconds(ROWS[0])[-2:] == pytest.approx([0.2 + 0.1 + 0.1 + 0.05, 0])
    assert seconds({"step": 1}) is None


OVERLAPPED = ROWS[0] | {
    "timing/generation": 0.25, "timing/rollout_wait": 0.7, "timing/step_total": 1.75, "rollout/num_samples": 100.0,
    "timeline/rollout_begin": 10.0, "timeline/rollout_end": 14.0, "completion_length": 50.0,
}  # fmt: skip


def test_overlapped_step_has_the_wait_and_the_speed_of_its_own_generation():
    assert sum(seconds(OVERLAPPED)) == pytest.approx(OVERLAPPED["timing/step_total"])
    assert phases_of([[ROWS[0]], [OVERLAPPED]])[-1] == "waiting for rollouts"
    assert "waiting for rollouts" not in phases_of([ROWS])
    speed = CURVES["Speed of generation"].value
    assert speed(OVERLAPPED) == 100 * 50 / 4
    assert speed(ROWS[0] | {"rollout/num_samples": 100.0, "completion_length": 50.0}) == pytest.approx(5000 / 1.2)
    assert speed({name: value for name, value in OVERLAPPED.items() if "timeline" not in name}) is None


def test_accuracy_by_majorities_is_marked():
    rows = [row | {"accuracy": 0.5, "majority/rate": 0.5} for row in ROWS]
    run = Training("name", "GRPO", Path("x"), {}, Records(rows), Records([]), [])
    assert "majority" in training_headlines([run])[0][1]
    assert [row[1] for row in grpo_table([run]).rows if row[0] == "labelled by a majority"] == ["50.0% to 50.0%"]
    gold = Training(
        "name", "GRPO", Path("x"), {}, Records([row | {"majority/rate": 0.0} for row in ROWS]), Records([]), []
    )
    assert "majority" not in training_headlines([gold])[0][1]


def test_every_curve_has_its_unit_and_its_steps():
    for curve in GRPO:
        drawn = plot(curve, [ROWS])
        if curve.title == "KL to the start" or any(
            word in curve.title.lower() for word in ("tool", "teacher", "majority")
        ):
            assert drawn is None  # no reference model, so 0 throughout; no tool, no teacher
            continue
        assert f">{curve.unit}</text>" in drawn.svg
        assert ">step</text>" in drawn.svg


def test_every_source_difficulty_and_k_has_a_curve():
    rows = [grpo_row(1, **{"accuracy/difficulty/3": 0.2}), grpo_row(2)]
    found = [(curve.title, curve.value(rows[0])) for curve in part_curves(rows)]
    assert found == [("Groups: pass@4", 0.6), ("Accuracy on a set", 0.5), ("Accuracy at difficulty 3", 0.2)]


def test_kl_is_plotted_when_computed():
    assert plot(CURVES["KL to the start"], [ROWS, [grpo_row(1, kl=0.01)]]) is not None


def test_reverse_kl_is_plotted_with_a_teacher():
    drawn = plot(
        CURVES["Reverse KL to the teacher"],
        [ROWS, [grpo_row(step, **{"teacher/reverse_kl": -0.01}) for step in (1, 2)]],
    )
    assert ">nats a token</text>" in drawn.svg


def test_steps_without_a_number_are_counted():
    rows = [grpo_row(step, grad_norm=None if step in (3, 4) else 1.0) for step in range(1, 11)]
    assert plot(CURVES["Gradient norm"], [rows, ROWS]).missing == 2


def test_single_point_is_a_number_without_a_plot(tmp_path):
    rows = [[grpo_row(7) | {"accuracy": 0.625}], []]
    assert plot(CURVES["Accuracy"], rows) is None
    assert single_points(CURVES["Accuracy"], rows) == [(7, 0.625), None]
    assert single_points(CURVES["Accuracy"], [ROWS[:2], ROWS[:1]]) == [] == single_points(CURVES["Accuracy"], [[]])
    table = single_table(
        [CURVES["Accuracy"]], rows, find_runs([grpo_run(tmp_path / "a"), grpo_run(tmp_path / "b")]).grpo
    )
    assert [row[1:] for row in table.rows] == [["62.5% (step 7)", "-"]]


@pytest.mark.parametrize("rows", [ROWS[:2], [grpo_row(step) for step in range(1, 3001)]])
def test_plot_size_is_independent_of_steps(rows):
    for drawn in (plot(CURVES["Reward"], [rows]), time_plot(rows, "run"), memory_plot([rows])):
        assert 1000 < len(drawn.svg) < 60_000


def test_rounding_errors_look_like_zero():
    ticks = plot(CURVES["Policy loss"], [ROWS]).svg
    assert "0.008" in ticks and "1e" not in ticks


def test_slow_first_step_does_not_flatten_the_plot():
    slow = grpo_row(1) | {"timing/generation": 100.0}
    assert "the first, 100.8 s, is cut off" in time_plot([slow, *ROWS[1:]], "run").note


def test_smoothed_line_has_the_mean_of_neighbours():
    values = [1.0, 2.0, 6.0, 3.0, 0.0]
    means = [fmean(values[:2]), 3.0, fmean(values[1:4]), 3.0, fmean(values[3:])]
    assert smoothed(values, 3).tolist() == pytest.approx(means)


def test_each_evaluation_during_a_run_has_a_curve():
    row = {"step": 10, "eval_gsm8k_pass1": 0.5, "eval_gsm8k_pass4": 0.7, "eval_gsm8k_response_length_mean": 90.0}
    curves = evaluation_curves([row | {"eval_num_samples": 100.0}])
    assert [curve.title for curve in curves] == ["Held out: pass@1", "Held out: pass@4", "Held out: completion length"]
    assert all("gsm8k" in curve.note for curve in curves)


def test_run_in_figures(tmp_path):
    table = grpo_table(find_runs([grpo_run(tmp_path / "a"), grpo_run(tmp_path / "b", steps=0)]).grpo)
    output = {row[0]: row[1:] for row in table.rows}
    assert output["steps"] == ["30", "0"]
    first, last = (fmean(row["accuracy"] for row in rows) for rows in (ROWS[:3], ROWS[-3:]))
    assert output["accuracy"] == [f"{first:.1%} to {last:.1%}", "-"]
    assert output["seconds a step, after the first"] == ["2.00", "-"]
    assert output["... generation"] == ["1.00", "-"]
    assert "KL to the start" not in " ".join(output)


def test_evaluations_share_one_scale(tmp_path):
    groups = find_runs([whole_run(tmp_path / "demo")]).groups
    table = evaluation_table(groups)
    assert [[*row[:3], *row[-2:]] for row in table.rows] == [
        ["demo/eval_before", "25.0%", "15.0% to 35.0%", "sums", "40"],
        ["demo/eval_after", "75.0%", "65.0% to 85.0%", "sums", "40"],
    ]
    scale = ends(table.intervals)
    assert scale == (0.1, 0.9)
    assert bar(Interval(0.1, 0.5, 0.9), scale) == pytest.approx({"low": 0, "value": 50, "high": 100})


def test_missing_figures_show_a_dash(tmp_path):
    broken = {"ci95": ["a", None], "pass_at_k": {"x": 1, "2": None}, "problems": None, "truncation_rate": "much"}
    table = evaluation_table([find_runs([evaluation(tmp_path / "a", [True, False], **broken)]).groups[0]])
    assert table.rows[0] == ["a", "50.0%", "no bound to no bound", "20.5", "-", "-", "0", "sums", "-"]
    assert table.intervals == [None]


def test_before_and_after_are_compared_by_problem(tmp_path):
    table = comparison_table(find_runs([whole_run(tmp_path / "demo")]).groups)
    what, difference, _, first, second, p, name, benchmark = table.rows[0]
    assert (name, what, first, second) == ("demo/eval_after less demo/eval_before", "pass@1, points", "25.0%", "75.0%")
    assert difference == "+50.0" and float(p) < 0.01


def test_result_comes_first(tmp_path):
    folder = whole_run(tmp_path / "demo")
    lengths = []
    for name in ("eval_before", "eval_after"):
        rows = [json.loads(line) for line in (folder / name / "completions.jsonl").read_text().splitlines()]
        lengths.append(fmean(row["tokens"] for row in rows))
    ((result, of),) = headlines(find_runs([folder]).groups)
    assert result == "25.0% → 75.0%, {:.0f} → {:.0f} tokens".format(*lengths)
    assert "sums" in of and "demo/eval_before → demo/eval_after" in of


def test_without_evaluations_the_result_is_of_the_training_completions(tmp_path):
    run = grpo_run(tmp_path / "a")
    rows = [grpo_row(step, completion_length=100.0 - step) | {"accuracy": step / 40} for step in range(1, 21)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "eval.jsonl").unlink(missing_ok=True)
    ((result, of),) = opening_of(find_runs([run])).headlines
    # of 20 steps the first two and the last two: (1 + 2) / 2 / 40 and (19 + 20) / 2 / 40
    assert result == "3.8% → 48.8%, 98 → 80 tokens" and "training problems" in of and "of 20 steps" in of
    (run / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert opening_of(find_runs([run])).headlines == ()


def test_evaluations_during_a_run_are_its_result(tmp_path):
    run = grpo_run(tmp_path / "a")
    rows = [
        {"step": 4, "eval_sums_pass1": 0.25, "eval_sums_response_length_mean": 90.4, "eval_sums_truncated_rate": 0.0},
        {"step": 8, "eval_sums_pass1": 0.5, "eval_sums_response_length_mean": 70.6, "eval_logic_pass1": 0.1},
        {"step": 12, "eval_sums_pass1": 0.75, "eval_sums_response_length_mean": 60.6, "eval_logic_pass1": None},
    ]
    (run / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ((result, of),) = opening_of(find_runs([run])).headlines
    assert result == "25.0% → 75.0%, 90 → 61 tokens"
    assert "on sums" in of and "step 4 " in of and "step 12" in of


def test_run_that_failed_says_why(tmp_path):
    run = grpo_run(tmp_path / "a")
    write = asdict(Process("openrlhf-math grpo", FAILED, "the disk is full", step=3, steps=80))
    (run / "process.json").write_text(json.dumps(write))
    ((name, why),) = opening_of(find_runs([run])).ended
    assert name == "a" and "failed" in why and "step 3 of 80" in why and "the disk is full" in why
    (run / "process.json").write_text(json.dumps(write | {"state": FINISHED}))
    assert opening_of(find_runs([run])).ended == ()


def test_evaluations_of_other_problems_are_reported_but_not_compared(tmp_path):
    runs = [evaluation(tmp_path / "a", [True] * 3), evaluation(tmp_path / "b", [True] * 4)]
    assert headlines(find_runs(runs).groups) == []
    table = comparison_table(find_runs(runs).groups)
    assert not table.rows and "are on different problems" in table.note


def test_same_problem_is_shown_before_and_after(tmp_path):
    output = samples_of(find_runs([whole_run(tmp_path / "demo")]).groups[0], most=4)[0]
    assert output.counts == {"wrong, then correct": 20, "correct both times": 10, "wrong both times": 10}
    assert [shown.change for shown in output.shown] == [
        "wrong, then correct", "correct both times", "wrong both times", "wrong, then correct",
    ]  # fmt: skip
    before, after = output.shown[0].samples
    assert (before.outcome, after.outcome) == ("wrong, in correct format", "correct")
    assert output.shown[0].problem == "Problem 10: 1+1?"


def test_samples_are_hidden_on_request(tmp_path):
    assert samples_of(find_runs([whole_run(tmp_path / "demo")]).groups[0], most=0) == []


def test_evaluations_of_other_problems_are_shown_separately(tmp_path):
    runs = [evaluation(tmp_path / name, [True] * problems) for name, problems in (("a", 3), ("b", 4), ("c", 3))]
    output = samples_of(find_runs(runs).groups[0], most=8)
    assert [[sample.evaluation for sample in one.shown[0].samples] for one in output] == [["a", "c"], ["b"]]


def test_differing_settings_are_in_a_table(tmp_path):
    other = {"actor": {"adam": {"lr": 1e-4}, "model_name_or_path": "runs/sft/model"}, "new": None}
    runs = find_runs([grpo_run(tmp_path / "a"), grpo_run(tmp_path / "b", settings=other)]).grpo
    assert differences(runs).rows == [["actor.adam.lr", "0.0002", "0.0001"], ["new", "-", "null"]]
    assert differences(runs[:1]) is None
    assert differences([runs[0], runs[0]]).note == "All settings are alike."


def test_secrets_are_not_in_settings(tmp_path):
    table = all_settings(find_runs([grpo_run(tmp_path / "a")]).grpo[0])
    assert "wandb-secret" not in str(table)


@pytest.mark.parametrize("hostile", ["a|b", "a\nb", "<b>|`x`\\|", "| --- |", "\x1b[31m|", "\ud800"])
def test_markdown_cell_stays_a_cell(hostile):
    text = as_markdown("t", [Table("t", ["a", hostile], [[hostile, "2"]])])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 3
    for line in lines:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3
    assert "<b>" not in text.replace("\\<", "")
    text.encode()


def test_markdown_has_every_table(tmp_path):
    text = as_markdown("Report", tables_of(find_runs([whole_run(tmp_path / "demo")])))
    for title in ("Evaluations", "Paired comparison", "Choosing among attempts, demo", "GRPO", "Fine-tuning"):
        assert f"\n## {title}\n" in text
