"""Micro-batches: whole groups under a token budget; leaving out what teaches nothing changes no gradient."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from openrlhf.models import PolicyLoss
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.loss_utils import get_loss_batch_info
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.grpo.update.loss import OnPolicyLoss
from openrlhf_math.grpo.update.micro_batches import (
    GroupReplayBuffer,
    SkippingReplayBuffer,
    fill,
    group_by_prompt,
    packed_tokens,
    split,
)
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.packed_actor import PackedActor


def item(prompt: list[int], completion: list[int], advantage: float) -> Experience:
    sequence = torch.tensor(prompt + completion)
    action_mask = torch.zeros(len(sequence) - 1, dtype=torch.bool)
    action_mask[len(prompt) - 1 :] = True
    return Experience(
        sequences=sequence, attention_mask=torch.ones_like(sequence), action_mask=action_mask,
        action_log_probs=torch.zeros(len(sequence) - 1), rollout_log_probs=torch.zeros(len(sequence) - 1),
        advantages=torch.full((len(sequence) - 1,), advantage), total_length=torch.tensor(len(sequence)),
        response_length=torch.tensor(len(completion)),
    )  # fmt: skip


GROUPS = [  # prompt, completions, advantages
    ([1, 2, 3], [[4, 5], [6, 7, 8, 9]], (1.0, -1.0)),
    ([9, 8], [[7], [6, 5]], (0.0, 0.0)),
    ([5, 5, 5, 5], [[1, 2, 3, 4, 5, 6], [2]], (-0.5, 0.5)),
    ([3], [[3, 3], [3]], (0.0, 0.0)),
]
ITEMS = [item(prompt, c, a) for prompt, cs, advantages in GROUPS for c, a in zip(cs, advantages, strict=True)]


@pytest.fixture(scope="module")
def strategy(tmp_path_factory):
    """A single training process."""
    store = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    args = SimpleNamespace(train=SimpleNamespace(batch_size=len(ITEMS), max_tokens_per_gpu=20))
    yield SimpleNamespace(args=args, ds_device_mesh=init_device_mesh("cpu", (1,), mesh_dim_names=("dp",)))
    dist.destroy_process_group()


def gradients(buffer_class, strategy) -> dict[str, torch.Tensor]:
    """Of one step over ITEMS, micro-batch by micro-batch, as the policy actor computes it."""
    buffer = buffer_class(1, dynamic_batch=True)
    buffer.items = list(ITEMS)
    buffer.setup_dynamic_batch(strategy)
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=10, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2)  # fmt: skip
    actor = PackedActor(Qwen2ForCausalLM(config), SHARED_PREFIX)
    loss_fn = OnPolicyLoss(PolicyLoss(token_level_loss=False))
    for step in range(len(buffer)):
        batch = buffer.collate_fn([buffer[step]])
        info = get_loss_batch_info(strategy, batch.action_mask, replay_buffer=buffer, step=step, dynamic_batch=True)
        log_probs = actor(batch.sequences, batch.action_mask, batch.attention_mask)
        loss, *_ = loss_fn(log_probs, None, batch.advantages, action_mask=batch.action_mask, **info)
        loss.backward()
    return {name: p.grad for name, p in actor.model.named_parameters()}


def test_skipping_zero_advantage_completions_changes_no_gradient(strategy):
    everything, skipping = gradients(GroupReplayBuffer, strategy), gradients(SkippingReplayBuffer, strategy)
    assert any(gradient.abs().max() > 1e-4 for gradient in everything.values())
    for name, gradient in everything.items():
        torch.testing.assert_close(skipping[name], gradient, atol=1e-7, rtol=1e-5, msg=name)


def test_size_of_micro_batches_changes_no_gradient(strategy, monkeypatch):
    small = gradients(SkippingReplayBuffer, strategy)
    monkeypatch.setattr(strategy.args.train, "max_tokens_per_gpu", 1000)
    for name, gradient in gradients(SkippingReplayBuffer, strategy).items():
        torch.testing.assert_close(small[name], gradient, atol=1e-7, rtol=1e-5, msg=name)


def indices(buffer_class, strategy, items) -> list[list[int]]:
    buffer = buffer_class(1, dynamic_batch=True)
    buffer.items = items
    buffer.setup_dynamic_batch(strategy)
    assert buffer.dynamic_global_batch_size[0] == len(items), "normalised by all"
    assert buffer.dynamic_optimizer_step == [0] * (len(buffer) - 1) + [1]
    return buffer.dynamic_indices


def test_zero_advantage_completions_are_skipped(strategy):
    assert sorted(sum(indices(SkippingReplayBuffer, strategy, list(ITEMS)), [])) == [0, 1, 4, 5]
    assert sorted(sum(indices(GroupReplayBuffer, strategy, list(ITEMS)), [])) == list(range(8))


def test_batch_without_any_signal_still_takes_its_step(strategy):
    assert indices(SkippingReplayBuffer, strategy, [item([1], [2, 3], 0.0) for _ in ITEMS]) == [[0]]


def test_groups_are_found_by_their_prompt():
    assert group_by_prompt(ITEMS, [7, 0, 6, 1]) == [[7, 6], [0, 1]]
    assert packed_tokens(ITEMS, [0, 1]) == 3 + 2 + 4


@pytest.mark.parametrize("at_least", [1, 3, 8])
def test_micro_batches_hold_every_item_once_within_budget(at_least):
    groups = [[0, 1], [2, 3], [4, 5], [6, 7]]
    batches = split(fill(groups, lambda group: packed_tokens(ITEMS, group), 12), at_least)
    assert sorted(sum(batches, [])) == list(range(8))
    assert len(batches) >= at_least
    assert all(sum(packed_tokens(ITEMS, [n]) for n in batch) <= 12 or len(batch) <= 2 for batch in batches)


def test_group_above_the_budget_is_halved():
    batches = fill([[0, 1, 2, 3]], len, 2)
    assert batches == [[0, 1], [2, 3]]


def test_more_micro_batches_than_items_are_refused():
    with pytest.raises(ValueError, match="2 items cannot be 3 micro-batches"):
        split([[0], [1]], 3)


def test_completion_without_action_tokens_is_not_computed(strategy):
    """`--math.truncated mask` leaves it none."""
    left_out = [replace(each, action_mask=torch.zeros_like(each.action_mask)) for each in ITEMS[:4]]
    buffer = GroupReplayBuffer(1, dynamic_batch=True)
    buffer.items = left_out + ITEMS[4:]
    buffer.setup_dynamic_batch(strategy)
    assert sorted(sum(buffer.dynamic_indices, [])) == [4, 5, 6, 7]
    assert buffer.dynamic_global_batch_size[0] == 4
    assert buffer.dynamic_batch_num_tokens[0] == sum(int(each.action_mask.sum()) for each in ITEMS[4:])


@pytest.mark.parametrize("buffer_class", [GroupReplayBuffer, SkippingReplayBuffer])
def test_batch_without_action_tokens_has_gradient_zero(buffer_class, strategy, monkeypatch):
    left_out = [replace(each, action_mask=torch.zeros_like(each.action_mask)) for each in ITEMS]
    monkeypatch.setattr(sys.modules[__name__], "ITEMS", left_out)
    assert all(gradient is None or not gradient.any() for gradient in gradients(buffer_class, strategy).values())


def test_synchronized_values_are_on_the_device(strategy, monkeypatch):
    """NCCL refuses a tensor in CPU memory; `meta` represents its device."""
    devices = []
    monkeypatch.setattr(get_accelerator(), "current_device_name", lambda: "meta")
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, **_: devices.append(tensor.device.type))
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: 1.0)
    buffer = GroupReplayBuffer(1, dynamic_batch=True)
    buffer.items = list(ITEMS)
    buffer.setup_dynamic_batch(strategy)
    assert set(devices) == {"meta"}
