"""The checks of `openrlhf-math grpo` that need a tokenizer: prompt lengths, unparsable golds, chat templates."""

import json

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.problems import keep_parsable, read_problems
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A directory with a tokenizer and the configuration of a model."""
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer(["How many apples? 1+1=2."]).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(model, data, tmp_path, *more):
    return main(
        ["grpo", "--actor.model_name_or_path", str(model), "--data.prompt_dataset", str(data),
         "--math.run_dir", str(tmp_path / "run"), *more]
    )  # fmt: skip


def test_too_long_prompt_names_its_row_and_the_fix(model, tmp_path, capsys):
    rows = [{"problem": "1+1", "answer": "2"}] * 15 + [{"problem": "1 " * 900, "answer": "2"}]
    data = write(tmp_path / "data.jsonl", rows)
    assert run(model, data, tmp_path, "--data.max_len", "512", "--rollout.max_new_tokens", "256") == 2
    error = capsys.readouterr().err
    assert "1 prompts of" in error and "the first in row 16" in error and "raise --data.max_len" in error
    assert not (tmp_path / "run").exists()


def test_tokenizer_without_chat_template_names_the_flag(model, tmp_path, capsys):
    bare = tmp_path / "bare"
    tokenizer = build_tokenizer(["1+1=2"])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bare)
    (bare / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    data = write(tmp_path / "data.jsonl", [{"problem": "1+1", "answer": "2"}] * 16)
    assert run(bare, data, tmp_path) == 2
    assert "has no chat template; add --no-data.apply_chat_template" in capsys.readouterr().err


@pytest.mark.parametrize(
    "poisoned",
    [
        {"problem": "", "answer": "2"}, {"problem": " \n", "answer": "2"}, {"answer": "2"},
        {"problem": 7, "answer": "2"}, {"problem": float("nan"), "answer": "2"},
        {"problem": {"text": "1+1"}, "answer": "2"}, {"problem": ["1+1"], "answer": "2"},
        {"problem": [{"role": "user"}], "answer": "2"}, {"problem": [{"role": "user", "content": 3}], "answer": "2"},
        {"problem": "\x7fELF\0\0\x01", "answer": "2"}, {"problem": "1+1", "answer": "2\0"},
        {"problem": "1\ud8351", "answer": "2"},
        {"problem": [{"role": "system", "content": "\udc00"}, {"role": "user", "content": "1+1"}], "answer": "2"},
        {"problem": "1+1", "answer": "2\ud800"}, {"problem": "1+1", "answer": ["2", "3"]},
        {"problem": "1+1", "answer": {"value": "2"}}, {"problem": "1+1", "answer": True},
    ],
)  # fmt: skip
def test_malformed_row_is_named_before_start(model, tmp_path, capsys, poisoned):
    data = write(tmp_path / "data.jsonl", [{"problem": "1+1", "answer": "2"}] * 16 + [poisoned])
    assert run(model, data, tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{data} row 17: " in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("gold", ["", None, float("nan")])
def test_empty_gold_is_skipped_and_named(tmp_path, capsys, model, gold):
    rows = [{"problem": "1+1", "answer": "2"}] * 16 + [{"problem": "1+2", "answer": gold}]
    data = write(tmp_path / "data.jsonl", rows)
    assert run(model, data, tmp_path, "--math.max_bad_golds", "0.05") == 2
    error = capsys.readouterr().err
    assert "1 of 17 gold answers of data cannot be parsed, the first in row 17 ('')" in error


def test_problems_with_unparsable_gold_are_skipped(tmp_path):
    rows = [{"problem": f"{n}+1", "answer": str(n + 1)} for n in range(19)] + [{"problem": "?", "answer": r"\frac{"}]
    problems = read_problems(str(write(tmp_path / "data.jsonl", rows)), "problem", "answer")
    kept, rejected = keep_parsable(problems, 0.05)
    assert len(kept) == 19 and [problem.row for problem in rejected] == [20]
    with pytest.raises(UserError, match="1 of 20 gold answers of data cannot be parsed, the first in row 20"):
        keep_parsable(problems, 0.04)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--train.micro_batch_size", "7"), "--train.micro_batch_size 7 on 1 process(es) does not divide"),
        (("--data.dataset", ""), "--data.dataset is missing"),
        (("--data.dataset", "none.jsonl"), "none.jsonl: there is no such file"),
        (("--model.model_name_or_path", "./none"), "--model.model_name_or_path ./none: there is no such directory"),
        (("--data.output_key", "trace"), "no column 'trace', only problem, response"),
        ((), "has 3 rows, fewer than one batch (--train.batch_size 128); lower the batch size or add rows"),
    ],
)
def test_bad_input_of_sft(model, tmp_path, capsys, flags, sentence):
    data = write(tmp_path / "sft.jsonl", [{"problem": "1+1", "response": r"\boxed{2}"}] * 3)
    command = ["sft", "--model.model_name_or_path", str(model), "--data.dataset", str(data)]
    assert main([*command, "--math.run_dir", str(tmp_path / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("eval_data_pass1", True),
        ("eval_data_pass4", True),
        ("none", True),
        ("accuracy", False),
        ("eval_x_pass1", False),
    ],
)
def test_best_checkpoint_metric_must_be_an_evaluation_metric(model, tmp_path, capsys, key, known):
    data = write(tmp_path / "data.jsonl", [{"problem": f"{n}+1", "answer": str(n + 1)} for n in range(16)])
    flags = ("--eval.dataset", str(data), "--ckpt.best_metric_key", key, "--dry-run")
    assert run(model, data, tmp_path, *flags) == (0 if known else 2)
    assert ("eval_data_pass1 or eval_data_pass4" in capsys.readouterr().err) != known
