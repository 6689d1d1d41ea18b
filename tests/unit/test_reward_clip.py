"""`--reward.clip_range` clips rewards, not what an estimator makes of them; groups of equal rewards teach nothing."""

import pytest
import torch
from naive_loss import Completion
from trained_batch import experiences, settings

from openrlhf_math.grpo.update.micro_batches import teaches


def advantages(rewards: list[float], *flags, lengths=None, truncated=None):
    """One advantage for each completion of one group, and the experiences."""
    size = len(rewards)
    lengths, truncated = lengths or [3] * size, truncated or [False] * size
    group = [
        Completion([0, 1], [2] * length, reward, cut, old=torch.zeros(length), reference=torch.zeros(length))
        for reward, length, cut in zip(rewards, lengths, truncated, strict=True)
    ]
    args = settings("--rollout.batch_size", 1, "--rollout.n_samples_per_prompt", size, *flags)
    batches = experiences(group, args)
    pairs = [pair for each in batches for pair in zip(each.advantages, each.action_mask, strict=True)]
    return [row[mask == 1][-1].item() for row, mask in pairs], batches


def normalised(rewards: list[float], eps: float = 0.0) -> list[float]:
    mean = sum(rewards) / len(rewards)
    std = (sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1)) ** 0.5
    return [(r - mean) / (std + eps) for r in rewards]


@pytest.mark.parametrize("estimator", ["grpo", "group_norm"])
def test_single_correct_completion_keeps_its_advantage(estimator):
    rewards = [1.0] + [0.0] * 149
    found, _ = advantages(rewards, "--algo.advantage.estimator", estimator)
    assert max(found) > 12
    assert found == pytest.approx(normalised(rewards), rel=1e-4)


@pytest.mark.parametrize("estimator", ["grpo", "grpo_no_std", "group_norm", "rloo", "dr_grpo"])
def test_rewards_are_clipped_before_the_baseline(estimator):
    found, batches = advantages([50.0, 3.0, -2.0, 0.5], "--algo.advantage.estimator", estimator,
                                "--reward.clip_range", -1, 4)  # fmt: skip
    clipped = [4.0, 3.0, -1.0, 0.5]
    mean = sum(clipped) / 4
    expected = {
        "grpo": normalised(clipped),
        "group_norm": normalised(clipped, 1e-9),
        "grpo_no_std": [r - mean for r in clipped],
        "dr_grpo": [r - mean for r in clipped],
        "rloo": [r - (4 * mean - r) / 3 for r in clipped],
    }[estimator]
    assert found == pytest.approx(expected, rel=1e-5)
    rewards = torch.cat([each.info["reward"] for each in batches])
    assert rewards.tolist() == [50.0, 3.0, -2.0, 0.5], "metrics show the reward as graded"


@pytest.mark.parametrize("estimator", ["grpo", "group_norm"])
def test_clip_comes_after_the_length_penalty(estimator):
    """max_new_tokens 8, buffer 4: 6 tokens cost half of the factor, 8 all of it."""
    flags = ("--rollout.max_new_tokens", 8, "--reward.overlong_buffer_len", 4, "--reward.overlong_penalty_factor", 2,
             "--reward.clip_range", -0.5, 1)  # fmt: skip
    found, batches = advantages([1.0, 1.0, 0.0, 0.0], "--algo.advantage.estimator", estimator, *flags,
                                lengths=[4, 6, 8, 2])  # fmt: skip
    assert torch.cat([each.rewards for each in batches]).tolist() == [1.0, 0.0, -2.0, 0.0]
    assert found == pytest.approx(normalised([1.0, 0.0, -0.5, 0.0]), rel=1e-5)


EQUAL = [[0.2] * 6, [0.1 + 0.2] * 7, [1.0, 1.0000002, 1.0, 1.0], [1 / 3] * 3]


@pytest.mark.parametrize("estimator", ["grpo", "grpo_no_std", "group_norm", "rloo", "dr_grpo"])
@pytest.mark.parametrize("rewards", EQUAL)
def test_equal_rewards_have_zero_advantage_with_a_group_baseline(estimator, rewards):
    found, batches = advantages(rewards, "--algo.advantage.estimator", estimator)
    assert found == [0.0] * len(rewards)
    assert not any(teaches(each) for each in batches)


def test_without_a_group_baseline_equal_rewards_match_openrlhf():
    found, _ = advantages([12.0, 12.0], "--algo.advantage.estimator", "reinforce", "--algo.advantage.no_std_norm",
                          lengths=[2, 4])  # fmt: skip
    assert found == [0.0, 0.0]  # its mean is over all tokens of the batch
    found, _ = advantages([12.0, 5.0], "--algo.advantage.estimator", "reinforce", "--algo.advantage.no_std_norm",
                          lengths=[2, 4])  # fmt: skip
    mean = (2 * 10.0 + 4 * 5.0) / 6  # clipped to 10
    assert found == pytest.approx([10 - mean, 5 - mean])
