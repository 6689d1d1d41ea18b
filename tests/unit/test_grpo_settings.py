"""Flags become settings; bad input is one sentence that names the flag, exit code 2, before Ray starts."""

import json
from types import SimpleNamespace

import pytest

from openrlhf_math.cli import main
from openrlhf_math.grpo.flags import build_parser
from openrlhf_math.grpo.settings import as_json, old_log_probs_needed, one_step_a_batch, resolve
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.patches.parsers import load_parser

MINIMAL = ["--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data"]


def settings(*more: str) -> SimpleNamespace:
    return resolve(build_parser("grpo").parse_args([*MINIMAL, *more]))


def test_every_upstream_flag_keeps_its_name_and_type():
    build_upstream, _ = load_parser("openrlhf.cli.train_ppo_ray")
    ours = {option: action for action in build_parser("grpo")._actions for option in action.option_strings}
    for action in build_upstream()._actions:
        for option in action.option_strings:
            assert (ours[option].dest, ours[option].type) == (action.dest, action.type)


def test_recipe_is_the_default():
    args = settings()
    assert args.algo.advantage.estimator == "grpo"
    assert args.algo.kl.init_coef == 0
    assert args.actor.loss_agg_mode == "seq-mean-token-mean"
    assert args.train.colocate_all and args.vllm.num_engines == 1
    assert args.train.batch_size == args.rollout.batch_size * args.rollout.n_samples_per_prompt
    assert one_step_a_batch(args) and not old_log_probs_needed(args)
    assert args.train.agent_func_path.endswith("default_agent.py")


def test_user_overrides_the_recipe():
    args = settings("--no-train.colocate_all", "--algo.kl.init_coef", "0.01", "--train.batch_size", "64")
    assert not args.train.colocate_all and args.algo.kl.init_coef == 0.01
    assert not one_step_a_batch(args) and old_log_probs_needed(args)


@pytest.mark.parametrize(
    ("flags", "needed"),
    [
        ((), False),
        (("--algo.kl.init_coef", "0.1"), True),  # in the reward
        (("--algo.kl.init_coef", "0.1", "--algo.kl.use_loss"), False),
        (("--algo.kl.init_coef", "0.1", "--algo.kl.use_loss", "--algo.kl.unbiased_gradient"), True),
        (("--train.max_epochs", "2"), True),
        (("--train.batch_size", "32"), True),
    ],
)
def test_old_log_probability_pass_is_skipped_only_if_unused(flags, needed):
    assert old_log_probs_needed(settings(*flags)) is needed


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--rollout.n_samples_per_prompt", "1"), "--rollout.n_samples_per_prompt 1: grpo compares"),
        (("--train.batch_size", "48"), "--train.batch_size 48 does not divide the 128 completions"),
        (("--train.micro_batch_size", "5"), "--train.micro_batch_size 5 on 1 training"),
        (("--actor.model_name_or_path", ""), "--actor.model_name_or_path is missing"),
        (("--rollout.micro_batch_size", "100000"), "OpenRLHF refuses these flags"),
        (("--math.grading_seconds", "1e9"), "--math.grading_seconds 1000000000.0: give"),
        (("--math.grading_workers", "5000"), "--math.grading_workers 5000: give"),
        (("--math.grading_gib", "1e12"), "--math.grading_gib"),
        (("--ds.deepcompile",), "--ds.deepcompile: DeepSpeed"),
        (("--ds.overlap_comm", "--ds.zero_stage", "1"), "--ds.overlap_comm: DeepSpeed"),
        (("--algo.advantage.estimator", "gpro"), "there is none of that name; choose one of grpo"),
    ],
)
def test_invalid_flags(flags, sentence, capsys):
    assert main(["grpo", *MINIMAL, *flags, "--dry-run"]) == 2
    assert sentence in capsys.readouterr().err


def test_unknown_flag_exits_with_2():
    assert main(["grpo", *MINIMAL, "--rollout.batch", "3"]) == 2  # not taken for an abbreviation


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def problems(path, count=16, **columns):
    row = {"problem": "1+1", "answer": "2"} | columns
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(count)))
    return path


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda model, data: model.joinpath("tokenizer_config.json").unlink(), "there is no tokenizer in it"),
        (lambda model, data: model.joinpath("config.json").unlink(), "there is no model in it"),
        (lambda model, data: data.unlink(), "data.jsonl"),
        (lambda model, data: data.write_text(""), "data.jsonl"),
        (lambda model, data: data.write_text('{"problem": "1", "answer": "1"}\n{"problem": '), "data.jsonl, line 2: "),
        (lambda model, data: data.write_text('{"question": "1", "answer": "1"}\n'), "problem"),
        (
            lambda model, data: problems(data, answer="\\frac{"),
            "gold answers of data cannot be parsed, the first in row 1",
        ),
        (lambda model, data: problems(data, count=3), "has 3 problems, fewer than one batch"),
        (
            lambda model, data: (data.parent / "run").mkdir() or (data.parent / "run/config.json").write_text("{}"),
            "holds another run",
        ),
    ],
    ids=[
        "no tokenizer",
        "no model",
        "no file",
        "empty file",
        "broken line",
        "no column",
        "bad golds",
        "too few",
        "run exists",
    ],
)
def test_invalid_inputs(break_it, sentence, model, tmp_path, capsys):
    data = problems(tmp_path / "data.jsonl")
    break_it(model, data)
    code = main(
        ["grpo", "--actor.model_name_or_path", str(model), "--data.prompt_dataset", str(data),
         "--math.run_dir", str(tmp_path / "run")]
    )  # fmt: skip
    assert code == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "prompts").exists(), "nothing half-written"


def test_missing_model_directory_differs_from_a_hub_name(capsys):
    assert main(["grpo", *MINIMAL, "--actor.model_name_or_path", "./no/such/dir"]) == 2
    assert "there is no such directory, and it is not a hub name" in capsys.readouterr().err


def test_model_size_is_read_from_files_or_from_the_name(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2000)
    assert count_parameters(str(tmp_path)) == 1000
    assert count_parameters("Qwen/Qwen2.5-32B-Instruct") == 32_000_000_000
    assert count_parameters("some/model") == 0


def test_saved_configuration_has_no_secrets():
    assert "s3cret" not in as_json(settings("--logger.wandb.key", "s3cret"))
