"""What a directory holds, and what of its records counts."""

import json

import pytest
from recorded_runs import evaluation, grpo_row, grpo_run, tuning_run, whole_run, write_lines

from openrlhf_math.cli import main
from openrlhf_math.errors import UserError
from openrlhf_math.report.runs import find_runs, kind_of, short_names
from openrlhf_math.runs.records import number, read_records


@pytest.mark.parametrize(
    "write, kind",
    [
        (grpo_run, "GRPO"),
        (tuning_run, "fine-tuning"),
        (lambda path: evaluation(path, [True, False]), "evaluation"),
        (whole_run, "whole"),
        (lambda path: grpo_run(path / "grpo").parent, "whole"),  # a demo run at work
    ],
)
def test_directory_kind_follows_its_files(tmp_path, write, kind):
    assert kind_of(write(tmp_path / "run")) == kind


def test_run_without_settings_is_recognized_by_its_records(tmp_path):
    for write, kind in ((grpo_run, "GRPO"), (tuning_run, "fine-tuning")):
        run = write(tmp_path / kind)
        (run / "config.json").unlink()
        assert kind_of(run) == kind


def test_complete_run_is_split_into_its_parts(tmp_path):
    found = find_runs([whole_run(tmp_path / "demo")])
    assert [run.name for run in found.grpo] == ["demo/grpo"]
    assert [run.name for run in found.tuning] == ["demo/sft"]
    assert [[run.name for run in group] for group in found.groups] == [["demo/eval_before", "demo/eval_after"]]
    assert list(found.reranked["demo"]) == ["pass@1", "maj@8"]


def test_separate_evaluations_form_one_ordered_group(tmp_path):
    paths = [evaluation(tmp_path / name, [True, False]) for name in ("b", "a", "c")]
    assert [run.name for run in find_runs(paths).groups[0]] == ["b", "a", "c"]


def test_run_given_twice_counts_once(tmp_path):
    run, page = grpo_run(tmp_path / "run"), tmp_path / "report.html"
    (tmp_path / "link").symlink_to(run)
    assert len(find_runs([run, tmp_path / "link"]).grpo) == 1
    assert main(["report", str(run), str(tmp_path / "link"), "--output", str(page)]) == 0
    assert "<title>Report of run</title>" in page.read_text()


def test_each_benchmark_of_an_evaluation_has_its_folder(tmp_path):
    run = tmp_path / "eval"
    parts = {name: evaluation(run / name, [True, False]) for name in ("aime24", "math500")}
    figures = {name: json.loads((part / "summary.json").read_text()) for name, part in parts.items()}
    (run / "summary.json").write_text(json.dumps({"benchmarks": figures}))
    assert find_runs([run]).groups[0][0].folders == parts


def test_names_are_as_long_as_needed(tmp_path):
    paths = [tmp_path / "a" / "grpo", tmp_path / "b" / "grpo", tmp_path / "b" / "sft"]
    assert short_names(paths[1:]) == ["grpo", "sft"]
    assert short_names(paths) == ["a/grpo", "b/grpo", "b/sft"]
    assert short_names(paths[:1] * 2) == ["grpo", "grpo"]


@pytest.mark.parametrize(
    "content, steps, unreadable",
    [
        ("", [], 0),
        ('{"step": 1}\n{"step": 2}\n', [1, 2], 0),
        ('{"step": 1}\n{"step": 2, "rew', [1], 0),  # at work
        ('{"step": 1}\n{"step": 2, "rew{"step": 2}\n{"step": 3}\n', [1, 3], 1),  # killed, then resumed
        ('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 2}\n', [1, 2], 0),  # resumed from step 1
        ('{"step": 1}\n7\nnull\n{"no": 1}\n{"step": "2"}\n\xff\n', [1], 5),
        ("[" * 100_000 + "\n", [], 1),
    ],
)
def test_records_are_read_as_they_are(tmp_path, content, steps, unreadable):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content.encode("latin-1"))
    records = read_records(path)
    assert ([row["step"] for row in records.rows], records.unreadable) == (steps, unreadable)


@pytest.mark.parametrize(
    "value, result", [(1, 1.0), (0.5, 0.5), (None, None), ("1", None), (True, None), (float("nan"), None), ([1], None)]
)
def test_only_finite_numbers_are_numbers(value, result):
    assert number({"x": value}, "x") == result


def _torn_settings(path):
    grpo_run(path)
    (path / "config.json").write_text('{"algo": ')


def _unfinished_evaluation(path):
    write_lines(path / "journal.jsonl", [{}])
    (path / "config.json").write_text('{"benchmark": ["gsm8k"]}')


def _torn_completions(path):
    evaluation(path, [True, False])
    (path / "completions.jsonl").write_text('{"problem_index": 0, "sam')


def _other_completions(path):
    evaluation(path, [True, False])
    (path / "completions.jsonl").write_text('{"sample": 0}\n')


@pytest.mark.parametrize(
    "write, flags, result",
    [
        (lambda path: None, [], "RUN {run}: there is no such directory"),
        (lambda path: path.write_text(""), [], "RUN {run} is a file; give the directory of the run"),
        (lambda path: path.mkdir(), [], "RUN {run}: neither a GRPO run, a fine-tuning, an evaluation nor a demo run"),
        (lambda path: grpo_run(path / "one"), [], "RUN {run} is not a run but holds some; name those: {run}/one"),
        (_unfinished_evaluation, [], "RUN {run}: an evaluation that has not finished"),
        (_torn_settings, [], "{run}/config.json is not a JSON object"),
        (_torn_completions, [], "{run}/completions.jsonl, line 1, is not a completion"),
        (_other_completions, [], "{run}/completions.jsonl, line 1, is not a completion"),
        (lambda path: evaluation(path, [True], benchmarks={"a": 1}), [], "{run}/summary.json has a benchmark without"),
        (grpo_run, ["--output", "{run}/metrics.jsonl"], "--output {run}/metrics.jsonl must end in .html"),
        (grpo_run, ["--markdown", "report.html"], "--markdown report.html must end in .md"),
        (grpo_run, ["--output", "{run}/no/report.html"], "--output {run}/no/report.html: there is no directory"),
        (grpo_run, ["--samples", "-1"], "--samples -1: give 0 or more"),
    ],
)
def test_unreportable_input_is_one_sentence(tmp_path, capsys, write, flags, result):
    run = tmp_path / "run"
    write(run)
    output = tmp_path / "report.html"
    flags = [flag.format(run=run) for flag in flags]
    assert main(["report", str(run), "--output", str(output), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"openrlhf-math report: {result.format(run=run)}")
    assert error.count("\n") == 1
    assert not output.exists()


def test_broken_run_with_a_good_one_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such directory"):
        find_runs([grpo_run(tmp_path / "a"), tmp_path / "b"])


def test_run_without_steps_and_skipped_lines_are_reported(tmp_path, capsys):
    started, torn = grpo_run(tmp_path / "started", steps=0), grpo_run(tmp_path / "torn", steps=3)
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rewa' + json.dumps(grpo_row(4)) + "\n")
    output = tmp_path / "report.html"
    assert main(["report", str(started), str(torn), "--output", str(output)]) == 0
    page = output.read_text()
    assert "started has no step yet." in page
    assert "torn: 1 line of metrics.jsonl cannot be read and is left out." in page
