"""Advantage estimators against the formula, and the identity of the flat loss."""

import math
import sys
import types

import pytest
import torch
from openrlhf.models import PolicyLoss

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.advantages import centre, check_estimator, find_estimator, grpo, register_advantage_estimator
from openrlhf_math.grpo.update.loss import OnPolicyLoss


def test_grpo_matches_the_paper():
    rewards = torch.tensor([[1.0, 0.0, 0.2, 1.0]])
    mean = 2.2 / 4
    std = math.sqrt(sum((r - mean) ** 2 for r in (1.0, 0.0, 0.2, 1.0)) / 3)
    expected = torch.tensor([[(r - mean) / std for r in (1.0, 0.0, 0.2, 1.0)]])
    torch.testing.assert_close(grpo(rewards), expected)


@pytest.mark.parametrize("reward", [0.0, 0.2, 1.0, 0.1 + 0.2])
@pytest.mark.parametrize("size", [2, 3, 6, 7, 8, 100])
def test_group_of_equal_rewards_has_advantage_exactly_zero(reward: float, size: int):
    assert (grpo(torch.full((3, size), reward)) == 0).all()
    assert (centre(torch.full((3, size), reward)) == 0).all()


@pytest.mark.parametrize("scale", [1.0, 1e-3, -7.0, 4096.0])
@pytest.mark.parametrize("estimator", [grpo, centre])
def test_rewards_equal_up_to_rounding_give_zero_advantage(scale: float, estimator):
    rounded = torch.tensor([[1, 1.0000002, 1, 1], [1, 1, 0.9999995, 1.0000002], [0, 0, 0, 0]])
    assert not estimator(scale * rounded).any()
    apart = torch.tensor([[1, 1.00001, 1, 1], [0, 0, 0, 1e-5]])
    assert estimator(scale * apart).any(dim=-1).all()


@pytest.mark.parametrize("bad", [[math.nan, 1.0], [math.inf, 1.0], [math.inf, -math.inf]])
def test_nan_reward_is_not_treated_as_rounding(bad):
    assert not torch.isfinite(grpo(torch.tensor([bad]))).any()


def test_groups_are_independent():
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.2, 0.2]])
    torch.testing.assert_close(grpo(torch.cat([one, other])), torch.cat([grpo(one), grpo(other)]))


def test_names_resolve_to_registry_then_upstream_then_dotted_path(monkeypatch):
    assert find_estimator("grpo") is grpo
    assert find_estimator("rloo") is None
    module = types.ModuleType("my_estimators")
    module.double = lambda rewards: 2 * rewards
    monkeypatch.setitem(sys.modules, "my_estimators", module)
    assert find_estimator("my_estimators.double").function is module.double


WRONG = {
    "of_first": lambda rewards: rewards[:, :1],
    "transposed": lambda rewards: rewards.T,  # as many values, of other completions
    "as_list": lambda rewards: rewards.tolist(),
    "nothing": lambda rewards: None,
    "nan": lambda rewards: rewards * math.nan,
    "nan_where_equal": lambda rewards: (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True),
    "raises": lambda rewards: rewards.reshape(-1, 3),
}


@pytest.mark.parametrize("name", WRONG)
def test_own_estimator_is_tried_out_before_a_run(name: str, monkeypatch):
    monkeypatch.setitem(sys.modules, "own", types.SimpleNamespace(**WRONG))
    with pytest.raises(UserError, match=f"--algo.advantage.estimator own.{name}"):
        check_estimator(f"own.{name}")


def test_own_estimator_with_another_shape_in_a_later_batch_is_refused(monkeypatch):
    own = types.SimpleNamespace(cut=lambda rewards: rewards[:2], in_place=lambda rewards: rewards.zero_().double())
    monkeypatch.setitem(sys.modules, "own", own)
    check_estimator("own.cut")
    with pytest.raises(UserError, match=r"\(3, 4\).*\(2, 4\)"):
        find_estimator("own.cut")(torch.ones(3, 4))
    rewards = torch.ones(3, 4)
    assert find_estimator("own.in_place")(rewards).dtype == torch.float32 and rewards.all()


@pytest.mark.parametrize("name", ["gpro", "no_such_module.estimator", "math.no_such_function"])
def test_unknown_estimator_lists_known_ones_or_the_import_error(name: str):
    with pytest.raises(UserError, match="grpo, grpo_no_std, gae, .*|cannot be imported"):
        find_estimator(name)


def test_registered_estimator_is_found():
    register_advantage_estimator("sign_of_reward")(torch.sign)
    assert find_estimator("sign_of_reward") is torch.sign


def batch(groups: int = 4, size: int = 8, length: int = 12):
    torch.manual_seed(0)
    logits = torch.randn(groups * size, length, 30, requires_grad=True)
    lengths = torch.randint(1, length + 1, (groups * size,))
    mask = (torch.arange(length) < lengths[:, None]).float()
    log_probs = logits.log_softmax(-1)[..., 0] * mask
    rewards = torch.tensor([0.0, 0.2, 1.0])[torch.randint(0, 3, (groups, size))]
    advantages = grpo(rewards).reshape(-1, 1) * torch.ones_like(mask)
    return logits, log_probs, mask, advantages


def test_loss_is_zero_and_its_gradient_is_not():
    logits, log_probs, mask, advantages = batch()
    loss, *_ = OnPolicyLoss(PolicyLoss(token_level_loss=False))(log_probs, None, advantages, action_mask=mask)
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad.norm() > 1e-2


def test_gradient_equals_the_one_with_old_log_probabilities_from_another_pass():
    logits, log_probs, mask, advantages = batch()
    loss, *_ = PolicyLoss(token_level_loss=False)(log_probs, log_probs.detach().clone(), advantages, action_mask=mask)
    (expected,) = torch.autograd.grad(loss, logits, retain_graph=True)
    loss, *_ = OnPolicyLoss(PolicyLoss(token_level_loss=False))(
        log_probs, torch.zeros_like(mask), advantages, action_mask=mask
    )
    (actual,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
