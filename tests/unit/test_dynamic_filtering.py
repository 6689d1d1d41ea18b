"""Dynamic filtering drops the groups whose advantages are all zero, and with a range those of another mean."""

import math
import sys
import types

import pytest
from rollout_without_engines import generator, response
from trained_batch import settings

FILTER = ("--algo.dynamic_filtering_enable", "--rollout.batch_size", 1, "--rollout.n_samples_per_prompt", 4)
PENALTY = ("--rollout.max_new_tokens", 8, "--reward.overlong_buffer_len", 4)


def kept(group: list[dict], flags, monkeypatch) -> bool:
    """Whether the group is trained, and not the one after it, which is mixed."""
    answers = {"first": group, "second": [response("second", reward) for reward in (0.0, 1.0, 0.0, 1.0)]}
    samples, rate, consumed, _ = generator(settings(*FILTER, *flags), answers, monkeypatch).generate_samples()
    prompts = {prompt for sample in samples for prompt in sample.prompts}
    assert len(samples) == 4 and len(prompts) == 1
    assert all(math.isfinite(sample.scores.item()) for sample in samples)
    assert consumed == (1 if prompts == {"first"} else 2) and rate == pytest.approx(100 / consumed)
    return prompts == {"first"}


@pytest.mark.parametrize(
    ("rewards", "stays"),
    [
        ((0.2, 0.2, 0.2, 0.2), False),  # the mean is inside OpenRLHF's range
        ((0.0, 0.0, 0.0, 0.0), False),
        ((1.0, 1.0, 1.0, 1.0), False),
        ((2.0, 2.0, 2.0, 2.0), False),
        ((1.0, 1.0000002, 1.0, 1.0), False),
        ((-1.0, -1.0, 1.0, -1.0), True),  # a mean below 0
        ((2.0, 2.0, 2.0, 0.0), True),  # a mean above 1
        ((1.0, 1.0, 1.0, 0.2), True),
        ((1, 0, 0, 0), True),
        ((1, 1, 1, 1), False),
    ],
)
@pytest.mark.parametrize("estimator", ["grpo", "grpo_no_std", "rloo", "group_norm", "dr_grpo", "reinforce_baseline",
                                       "reinforce"])  # fmt: skip
def test_group_stays_if_its_rewards_differ(rewards, stays, estimator, monkeypatch):
    group = [response("first", reward) for reward in rewards]
    assert kept(group, ("--algo.advantage.estimator", estimator), monkeypatch) == stays


@pytest.mark.parametrize(
    ("group", "flags", "stays"),
    [
        ([(1.0, 3), (1.0, 3), (1.0, 7), (1.0, 3)], PENALTY, True),  # the penalty makes the difference
        ([(1.0, 3), (1.0, 3), (1.0, 4), (1.0, 3)], PENALTY, False),
        ([(20.0, 3), (30.0, 3), (10.0, 3), (15.0, 3)], (), False),  # all are clipped to 10
        ([(1.0, 3, True), (0.0, 3, True), (0.0, 3, True), (1.0, 3, True)], ("--math.truncated", "mask"), False),
        ([(1.0, 3, True), (0.0, 3), (0.0, 3), (0.0, 3)], ("--math.truncated", "mask"), True),
        ([(1.0, 3, True), (0.0, 3), (0.0, 3), (0.0, 3)], ("--math.truncated", "wrong"), False),
        ([(1.0, 3, True), (1.0, 3), (1.0, 3), (1.0, 3)], ("--math.truncated", "wrong"), True),
        ([(1.0, 3), (0.0, 3), (0.0, 3), (0.0, 3)], ("--algo.dynamic_filtering_range", 0.3, 0.9), False),
        ([(1.0, 3), (1.0, 3), (0.0, 3), (0.0, 3)], ("--algo.dynamic_filtering_range", 0.3, 0.9), True),
        ([(0.5, 3), (0.5, 3), (0.5, 3), (0.5, 3)], ("--algo.dynamic_filtering_range", 0.3, 0.9), False),
        ([(0.5, 3), (0.5, 3), (0.5, 3), (0.5, 3)], ("--algo.advantage.estimator", "own_one.above_half"), False),
        ([(0.6, 3), (0.6, 3), (0.6, 3), (0.6, 3)], ("--algo.advantage.estimator", "own_one.above_half"), True),
    ],
)
def test_filter_uses_the_training_advantages(group, flags, stays, monkeypatch):
    module = types.ModuleType("own_one")
    module.above_half = lambda rewards: rewards - 0.5
    monkeypatch.setitem(sys.modules, "own_one", module)
    assert kept([response("first", *each) for each in group], flags, monkeypatch) == stays


def test_agent_without_scores_is_filtered_by_its_rewards(monkeypatch):
    for reward, stays in ((1.0, False), (0.0, True)):
        group = [response("first", each, scores=None) for each in (1.0, 1.0, 1.0, reward)]
        assert kept(group, (), monkeypatch) == stays


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), None),
        (("--algo.dynamic_filtering_range", 0.1, 0.9), [0.1, 0.9]),
    ],
)
def test_range_filter_is_off_by_default(flags, expected):
    assert settings(*flags).algo.dynamic_filtering_range == expected


def test_without_filtering_every_group_is_trained(monkeypatch):
    args = settings(*FILTER[1:])
    answers = {"first": [response("first", 0.2)] * 4}
    samples, *_ = generator(args, answers, monkeypatch).generate_samples()
    assert [sample.scores.item() for sample in samples] == pytest.approx([0.2] * 4)
