"""Evaluation: the estimates, and bad input refused in one sentence before an engine starts."""

import json

import numpy as np
import pytest

from openrlhf_math.cli import main
from openrlhf_math.evaluation.estimates import bootstrap_intervals, pass_at_1, tokens_per_correct


def test_pass_at_1_is_the_mean_over_problems_and_samples():
    assert pass_at_1(np.array([[1, 1, 0, 0], [1, 0, 0, 0]])) == 0.375


def test_interval_matches_the_normal_approximation_on_many_problems():
    correct = (np.random.default_rng(1).random((500, 1)) < 0.3).astype(int)
    ((low, high),) = bootstrap_intervals(correct)
    half = 1.96 * np.sqrt(correct.var() / 500)
    assert low == pytest.approx(correct.mean() - half, abs=0.004)
    assert high == pytest.approx(correct.mean() + half, abs=0.004)


def test_more_samples_of_the_same_problems_do_not_narrow_the_interval():
    once = np.array([[1], [0]] * 50)
    repeated = np.repeat(once, 16, axis=1).mean(axis=1, keepdims=True)
    assert np.array_equal(bootstrap_intervals(repeated), bootstrap_intervals(once))


def test_tokens_per_correct_counts_the_wrong_ones_tokens_too():
    tokens = np.array([[100, 300]])
    assert tokens_per_correct(tokens, np.array([[True, False]])) == 400
    assert tokens_per_correct(tokens, np.array([[False, False]])) is None


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--samples", "4"), "--samples 4: greedy decoding gives the same completion every time"),
        (("--samples", "0"), "--samples 0: give 1 or more"),
        (("--max-tokens", "0"), "--max-tokens 0"),
        (("--temperature", "-1"), "--temperature -1.0"),
        (("--top-p", "0"), "--top-p 0.0"),
        (("--model", "./nowhere"), "--model ./nowhere: there is no such directory"),
        (("--benchmark", "missing.jsonl"), "missing.jsonl: there is no such file"),
        (
            ("--problem-key", "question"),
            "has no column 'question', only problem, answer; name it with --problem-key",
        ),
        (("--max-problems", "0"), "--max-problems 0: give 1 or more"),
        (("--max-problems", "-5"), "--max-problems -5: give 1 or more"),
        (("--max-context", "0"), "--max-context 0: give 1 or more"),
        (("--tensor-parallel", "0"), "--tensor-parallel 0: give 1 or more"),
    ],
)
def test_bad_input(model, tmp_path, capsys, flags, sentence):
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"problem": "1+1", "answer": "2"}) + "\n")
    command = ["eval", "--model", str(model), "--benchmark", str(data), "--output", str(tmp_path / "out")]
    assert main([*command, *flags]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_results_of_another_evaluation_are_not_overwritten(model, tmp_path, capsys):
    (tmp_path / "summary.json").write_text("{}")
    assert main(["eval", "--model", str(model), "--benchmark", "x.jsonl", "--output", str(tmp_path)]) == 2
    assert "holds another evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "--output is missing"),
        (("--output", "{out}"), "--model is missing"),
        (("--output", "{out}", "--model", "{model}"), "--benchmark is missing"),
        (("--output", "{out}", "--seed", "-1"), "--seed -1: give 0 or more"),
        (("--output", "{out}", "--model", "{model}", "--benchmark", "x", "--prompt", "y"), "--prompt y: there is none"),
        (("--output", "{out}", "--model", "{model}", "--benchmark", "x", "--timeout", "0"), "--timeout 0.0"),
        (("--compare", "{model}", "{model}"), "summary.json cannot be read"),
    ],
)
def test_missing_or_unknown_names(model, tmp_path, capsys, flags, sentence):
    places = {"out": tmp_path / "out", "model": model}
    assert main(["eval", *(flag.format(**places) for flag in flags)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
