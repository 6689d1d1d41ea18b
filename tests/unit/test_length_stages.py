"""How long a completion may be, step by step, and what becomes of those that were cut off."""

from types import SimpleNamespace

import pytest
import torch

from openrlhf_math.cli import main
from openrlhf_math.grpo.flags import build_parser
from openrlhf_math.grpo.problems.completion_limit import CompletionLimit, LimitSettings, as_wrong, mask_truncated
from openrlhf_math.grpo.settings import resolve

MINIMAL = ("--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data")


def limits(settings: LimitSettings, rates: list[float], until: int | None = None) -> list[int | None]:
    """The limit of each step, given its truncation rates; interrupted after `until` steps."""
    limit, seen = CompletionLimit(settings), []
    for step, rate in enumerate(rates):
        if step == until:
            state, limit = limit.state_dict(), CompletionLimit(settings)
            limit.restore(step, state)
        seen.append(limit.tokens)
        limit.observe(step + 1, rate)
    return seen


GROWS = LimitSettings(start=100, grow_at=0.2, grow_by=1.5, grow_to=300, grow_after=2)


@pytest.mark.parametrize(
    ("settings", "rates", "expected"),
    [
        (LimitSettings(), [1.0] * 3, [None] * 3),
        (LimitSettings(start=64), [1.0] * 3, [64] * 3),
        (LimitSettings(stages=((0, 64), (2, 128), (3, 256))), [1.0] * 5, [64, 64, 128, 256, 256]),
        (GROWS, [0.3] * 8, [100, 100, 150, 150, 225, 225, 300, 300]),  # 337 is above the highest
        (GROWS, [0.2] * 5, [100] * 5),  # at the bound is not above it
        (GROWS, [0.0, 0.5, 0.0, 0.0], [100, 100, 150, 150]),  # the mean of two is above
        (GROWS, [0.5, 0.0, 0.1, 0.1], [100, 100, 150, 150]),
        (GROWS, [0.1, 0.1, 0.5, 0.0], [100, 100, 100, 150]),  # a sliding mean, not blocks of two
        (LimitSettings(start=1, grow_at=0.0, grow_by=1.1, grow_to=3, grow_after=1), [1.0] * 4, [1, 2, 3, 3]),
    ],
)
def test_limit_of_each_step(settings, rates, expected):
    assert limits(settings, rates) == expected


@pytest.mark.parametrize("settings", [LimitSettings(stages=((0, 64), (2, 128))), GROWS])
@pytest.mark.parametrize("until", [1, 2, 3, 5])
def test_restored_limit_continues_unchanged(settings, until):
    rates = [0.3, 0.1, 0.4, 0.3, 0.0, 0.9, 0.9]
    assert limits(settings, rates, until) == limits(settings, rates)


def test_checkpoint_without_a_limit_begins_at_the_start():
    limit = CompletionLimit(GROWS)
    limit.restore(7, None)
    assert limit.tokens == 100


@pytest.mark.parametrize(
    ("flags", "context", "first"),
    [
        ((), None, None),
        (("--rollout.max_new_tokens", "64"), 64, 64),
        (("--math.length_stages", "0:64,9:128"), 128, 64),
        (("--math.length_stages", "0:64,9:128", "--rollout.max_new_tokens", "128"), 128, 64),
        (("--math.grow_at", "0.2", "--math.grow_to", "256", "--rollout.max_new_tokens", "64"), 256, 64),
    ],
)
def test_context_is_for_the_last_limit(flags, context, first):
    args = resolve(build_parser("grpo").parse_args([*MINIMAL, *flags]))
    assert args.rollout.max_new_tokens == args.math.completion_limit.last == context
    assert CompletionLimit(args.math.completion_limit).tokens == first


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--math.length_stages", "64"), "--math.length_stages 64: '64' is not STEP:VALUE"),
        (("--math.length_stages", "0:64,9:1.5"), "'9:1.5' is not STEP:VALUE"),
        (("--math.length_stages", "0:0,9:64"), "a completion needs at least 1 token"),
        (("--math.length_stages", "0:64,9:4096", "--data.max_len", "4096"), "4096 tokens and a prompt do not fit"),
        (("--math.length_stages", "0:64", "--math.grow_at", "0.2"), "both set the completion limit"),
        (("--math.length_stages", "0:64", "--rollout.max_new_tokens", "32"), "leave it out, or give its last, 64"),
        (("--math.length_stages", "0:64", "--reward.overlong_buffer_len", "65"), "65 is above the first limit, 64"),
        (("--math.grow_at", "0.2"), "say where the limit begins with --rollout.max_new_tokens"),
        (("--math.grow_at", "1", "--rollout.max_new_tokens", "64"), "give a share of completions"),
        (("--math.grow_at", "0.2", "--rollout.max_new_tokens", "64"), "give --math.grow_to, the highest limit"),
        (("--math.truncated", "mask", "--algo.advantage.estimator", "gae"), "OpenRLHF's loss of a critic"),
        (("--math.grow_to", "99"), "say when to grow with --math.grow_at"),
    ],
)
def test_impossible_limits(flags, sentence, capsys):
    assert main(["grpo", *MINIMAL, *flags, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [("grow_by", "1", "grows by a factor above 1"), ("grow_after", "0", "give 1 step or more")],
)
def test_invalid_growth(flag, value, sentence, capsys):
    growth = ("--math.grow_at", "0.2", "--math.grow_to", "128", "--rollout.max_new_tokens", "64")
    assert main(["grpo", *MINIMAL, *growth, f"--math.{flag}", value, "--dry-run"]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("truncated", [True, False])
def test_wrong_removes_the_reward_of_truncated_completions(truncated):
    logs = {"accuracy": 1.0, "format_rate": 1.0}
    response = {"prompt": "p", "reward": 1.0, "scores": 1.0, "truncated": truncated, "extra_logs": logs}
    changed = as_wrong(response)
    assert (changed["reward"], changed["scores"], changed["extra_logs"]["accuracy"]) == ((1 - truncated,) * 3)
    assert changed["prompt"] == "p" and changed["extra_logs"]["format_rate"] == 1.0
    assert response["reward"] == 1.0, "the executor's own stays as it is"


def test_mask_trains_only_on_complete_completions():
    rows, mask = torch.tensor([[1.0, 1.0], [-2.0, -2.0], [0.5, 0.0]]), torch.tensor([[1, 1], [1, 1], [1, 0]])
    experience = SimpleNamespace(
        advantages=rows, returns=rows.clone(), action_mask=mask, truncated=torch.tensor([False, True, False])
    )
    mask_truncated([experience])
    assert experience.advantages.tolist() == experience.returns.tolist() == [[1, 1], [0, 0], [0.5, 0]]
    assert experience.action_mask.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_dry_run_reports_it(capsys, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    (tmp_path / "tokenizer_config.json").write_text("{}")
    flags = ("--math.length_stages", "0:64,9:128", "--math.truncated", "mask")
    command = ["grpo", *MINIMAL, "--actor.model_name_or_path", str(tmp_path), *flags, "--dry-run"]
    assert main(command) == 0
    result = " ".join(capsys.readouterr().out.split())
    assert "completion limit: 64 tokens from step 0, 128 tokens from step 9" in result
    assert "left out of the loss" in result
