"""A key of Weights & Biases is used and written nowhere."""

import json
import sys
from importlib.machinery import ModuleSpec

import pytest

from openrlhf_math.cli import main
from openrlhf_math.grpo import flags, settings
from openrlhf_math.runs.process import resume_command
from openrlhf_math.sft import settings as sft_settings
from openrlhf_math.sft.inputs import settings_of
from openrlhf_math.training import flag_checks

KEY = "0123456789abcdef0123456789abcdef01234567"
GRPO = ["--actor.model_name_or_path", "m/m", "--data.prompt_dataset", "d.jsonl"]
SFT = ["--model.model_name_or_path", "m/m", "--data.dataset", "d.jsonl"]


@pytest.fixture(autouse=True)
def wandb(monkeypatch):
    """As if wandb were installed and nobody were logged in."""
    monkeypatch.setenv(flag_checks.WANDB_VARIABLE, "")
    monkeypatch.setattr(flag_checks, "find_spec", lambda name: ModuleSpec(name, None))


def resolved(monkeypatch, *key: str):
    """Settings of GRPO and of a fine-tuning with these values of the flag, and both as a run writes them."""
    more = ["--logger.wandb.key", *key] if key else []
    monkeypatch.setattr(sys, "argv", ["openrlhf-math", "grpo", *GRPO, *more])
    grpo = settings.resolve(flags.build_parser("grpo").parse_args(GRPO + more))
    sft = sft_settings.resolve(sft_settings.build_parser("sft").parse_args(SFT + more))
    return grpo, sft, settings.as_json(grpo), json.dumps(settings_of(sft))


def test_key_is_set_only_where_wandb_reads_it(monkeypatch):
    grpo, sft, *written = resolved(monkeypatch, KEY)
    assert flag_checks.os.environ[flag_checks.WANDB_VARIABLE] == KEY
    assert grpo.logger.wandb.key == sft.logger.wandb.key == flag_checks.HIDDEN, "OpenRLHF must see that there is one"
    for text in (*written, repr(grpo), repr(sft), " ".join(sys.argv), resume_command()):
        assert KEY not in text


def test_key_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(flag_checks.WANDB_VARIABLE, KEY)
    grpo, *_ = resolved(monkeypatch, flag_checks.FROM_ENVIRONMENT)
    assert grpo.logger.wandb.key == flag_checks.HIDDEN and flag_checks.os.environ[flag_checks.WANDB_VARIABLE] == KEY


def test_without_the_flag_wandb_is_not_used(monkeypatch):
    grpo, sft, *_ = resolved(monkeypatch)
    assert not grpo.logger.wandb.key and not sft.logger.wandb.key


@pytest.mark.parametrize("command", [["grpo", *GRPO], ["sft", *SFT]])
def test_without_wandb_the_flag_is_refused_before_a_model_loads(monkeypatch, capsys, command):
    monkeypatch.setattr(flag_checks, "find_spec", lambda name: None)
    assert main([*command, "--logger.wandb.key", KEY]) == 2
    result = capsys.readouterr().err
    assert "--logger.wandb.key: wandb is not installed; pip install wandb" in result and KEY not in result
