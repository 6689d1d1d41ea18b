"""Files of the release before, under their former names, are read as those of today."""

import json
from dataclasses import asdict
from importlib import import_module

import pytest
from recorded_runs import evaluation, grpo_row, grpo_run, write_lines
from test_rollout_files import row as rollout
from test_rollout_files import write

from openrlhf_math.cli import main
from openrlhf_math.curation.base_rates import read_counts
from openrlhf_math.former_names import FIGURES, METRICS, renamed
from openrlhf_math.report.runs import find_runs
from openrlhf_math.report.samples import groups_of, samples_of
from openrlhf_math.report.status import status_of
from openrlhf_math.rewards import Grade
from openrlhf_math.runs.records import number
from openrlhf_math.runs.rollouts import read_step


def former_evaluation(path):
    """An output of `eval` as the release before wrote it."""
    evaluation(path, [True, False, False])
    file = path / "completions.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    write_lines(
        file,
        [
            row | {"class": 0} | ({} if row["outcome"] == "correct" else {"outcome": "undecided", "reason": "timeout"})
            for row in rows
        ],
    )
    summary = json.loads((path / "summary.json").read_text())
    summary["undecided"] = summary.pop("ungraded") + 4
    (path / "summary.json").write_text(json.dumps(summary))
    return path


def former_row(step):
    row = grpo_row(step)
    return {name: value for name, value in row.items() if name not in METRICS.values()} | {
        "undecided_rate": 0.25,
        "idle_rate": 0.5,
    }


@pytest.fixture
def former_run(tmp_path):
    run = grpo_run(tmp_path / "grpo")
    write_lines(run / "metrics.jsonl", [former_row(step) for step in range(1, 31)])
    write_lines(run / "undecided.jsonl", [{"step": 1, "reason": "timeout", "gold": "2", "response": "hm"}])
    write(run / "rollouts", 1, [rollout(), rollout(sample=1, outcome="undecided", reward=0.0, reason="memory")])
    return run


def test_row_has_present_names_in_its_order_and_the_present_value_counts():
    assert list(renamed({"a": 1, "undecided": 2, "b": 3}, FIGURES).items()) == [("a", 1), ("ungraded", 2), ("b", 3)]
    assert renamed({"undecided": 2, "ungraded": 3}, FIGURES) == {"ungraded": 3}


def test_metrics_of_a_former_run(former_run):
    (run,) = find_runs([former_run]).grpo
    row = run.records.rows[-1]
    assert (number(row, "ungraded_rate"), number(row, "zero_advantage_rate")) == (0.25, 0.5)
    assert not METRICS.keys() & row.keys()
    assert status_of(former_run).changes["ungraded_rate"].last == 0.25


def test_completions_of_both_files_are_shown(former_run):
    write_lines(former_run / "ungraded.jsonl", [{"step": 2, "reason": "memory", "gold": "3", "response": "so"}])
    (run,) = find_runs([former_run]).grpo
    assert [row["reason"] for row in run.ungraded] == ["timeout", "memory"]


def test_report_of_former_runs(former_run, tmp_path):
    before = former_evaluation(tmp_path / "before")
    found = find_runs([former_run, before])
    assert found.groups[0][0].figures["sums"]["ungraded"] == 4
    parts = [*samples_of(found.groups[0], 3), groups_of(found.grpo[0])]
    outcomes = {sample.outcome for part in parts for one in part.shown for sample in one.samples}
    assert outcomes == {"correct", "ungraded"}
    output = tmp_path / "report.html"
    assert main(["report", str(former_run), str(before), "--output", str(output)]) == 0
    assert "undecided" not in output.read_text()


def test_status_of_a_former_evaluation(tmp_path):
    run = former_evaluation(tmp_path / "run")
    (run / "journal.jsonl").write_text("{}\n")
    (run / "config.json").write_text("{}")
    assert status_of(run).evaluation["ungraded"] == 4


def test_benchmark_keeps_its_name(tmp_path):
    run = former_evaluation(tmp_path / "run")
    figures = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({"benchmarks": {"undecided": figures}}))
    (run / "journal.jsonl").write_text("{}\n")
    (run / "config.json").write_text("{}")
    assert status_of(run).evaluation["undecided ungraded"] == 4
    assert list(find_runs([run]).groups[0][0].figures) == ["undecided"]


def test_former_evaluation_is_compared_and_gives_pass_rates(tmp_path, capsys):
    former = former_evaluation(tmp_path / "former")
    present = evaluation(tmp_path / "present", [True, True, False])
    assert main(["eval", "--compare", str(former), str(present), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sums"]["pass_at_1"]["first"] == pytest.approx(1 / 3)
    assert read_counts([former / "completions.jsonl"])[1] == 4


def test_vote_over_completions_of_a_former_evaluation(tmp_path, capsys):
    former = former_evaluation(tmp_path / "former")
    assert main(["vote", str(former / "completions.jsonl"), "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pass@1"]["accuracy"] == [1.0]


@pytest.mark.parametrize("name", ["undecided", "ungraded"])
def test_rollouts_of_a_former_run(former_run, capsys, name):
    (path,) = (former_run / "rollouts").iterdir()
    assert [row["outcome"] for row in read_step(path)] == ["correct", "ungraded"]
    assert main(["rollouts", str(former_run), "--where", f"outcome = '{name}'", "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["sample"], row["outcome"]) == (1, "ungraded")


def test_reward_may_give_the_former_outcome():
    assert asdict(Grade("undecided", 0.0, None, False, 0.1, "time"))["outcome"] == "ungraded"
    assert Grade("undecided", 0.0, None, False, 0.1) == Grade("ungraded", 0.0, None, False, 0.1)


@pytest.mark.parametrize("command", ["solve", "serve"])
@pytest.mark.parametrize(
    ("former", "present"), [("--at-once", "attempt_concurrency"), ("--problems-at-once", "problem_concurrency")]
)
def test_flag_is_read_under_its_former_name_which_the_help_does_not_show(command, former, present):
    parser = import_module(f"openrlhf_math.cli.{command}").build_parser(command)
    problem = ["1+1?"] if command == "solve" else []
    assert getattr(parser.parse_args([*problem, "--model", "m", former, "7"]), present) == 7
    assert former not in parser.format_help() and f"--{present.replace('_', '-')}" in parser.format_help()
