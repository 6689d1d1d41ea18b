"""In which order a batch is trained when it gives several optimizer steps, and by which process."""

from collections import Counter
from functools import cache
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from naive_loss import Completion
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_trainer import PPOTrainer
from openrlhf.trainer.ppo_utils.experience import Experience
from trained_batch import rolled_out, settings

from openrlhf_math.grpo import trainer
from openrlhf_math.grpo.update.micro_batches import balance_groups

SIZE = 4
EMPTY = SimpleNamespace(limit=None, drawn={}, metrics={}, span=None, off_policy=lambda step: {})
cached_settings = cache(settings)


def completions(groups: int) -> list[Completion]:
    """Group g, with prompt [0, g], has four completions of about 2 + g tokens and advantages that are not 0."""
    made = []
    for group in range(groups):
        for number in range(SIZE):
            tokens = [number + 1] * (2 + group + number % 2)
            made.append(Completion([0, group], tokens, float(number % 2), old=torch.zeros(1), reference=torch.zeros(1)))
    return made


def balanced(groups: int, ranks: int, steps: int, seed: int = 0, rows: str = "on", truncated=()) -> list[list[list]]:
    """Of [rank][step], the (group, number of tokens) of each completion."""
    args = cached_settings(
        "--rollout.batch_size", groups, "--rollout.n_samples_per_prompt", SIZE, "--actor.num_gpus_per_node", ranks,
        "--train.batch_size", groups * SIZE // steps, "--math.shared_prefix", rows,
    )  # fmt: skip
    items = rolled_out(completions(groups), args)
    for number, item in enumerate(items):
        item.advantages = torch.ones(item.action_mask.shape)
        if number // SIZE in truncated:
            item.action_mask = torch.zeros_like(item.action_mask)
    shuffled = items[1::2] + items[::2]  # batches of the passes before do not keep the order
    batches = [Experience.concat_experiences(shuffled[start : start + 3], 0) for start in range(0, len(items), 3)]
    shares = balance_groups(batches, args, seed)
    assert len(shares) == ranks
    dealt = []
    for share in shares:
        rows = [
            (row[1].item(), int(length) - 2) for row, length in zip(share.sequences, share.total_length, strict=True)
        ]
        size = len(rows) // steps
        dealt.append([rows[start : start + size] for start in range(0, len(rows), size)])
    return dealt


@pytest.mark.parametrize(("ranks", "steps"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (4, 3)])
@pytest.mark.parametrize("rows", ["on", "off"])
@pytest.mark.parametrize("truncated", [(), (0, 5, 11)])
def test_each_step_of_each_process_has_whole_groups(ranks, steps, rows, truncated):
    dealt = balanced(12, ranks, steps, rows=rows, truncated=truncated)
    counts = Counter(group for rank in dealt for step in rank for group, _ in step)
    assert counts == dict.fromkeys(range(12), SIZE)
    for rank in dealt:
        assert [len(step) for step in rank] == [12 * SIZE // ranks // steps] * steps
        for step in rank:
            assert set(Counter(group for group, _ in step).values()) == {SIZE}


def test_step_not_divisible_by_group_takes_every_completion_once():
    dealt = balanced(6, 2, 4)  # steps of 6 completions, 3 a process
    counts = Counter(completion for rank in dealt for step in rank for completion in step)
    assert sum(counts.values()) == 24 and set(Counter(group for group, _ in counts.elements()).values()) == {SIZE}
    assert all(len(step) == 3 for rank in dealt for step in rank)


def test_every_group_is_in_every_step_equally_often():
    """Over seeds: the longest does not come first."""
    firsts = Counter()
    for seed in range(80):
        firsts.update({group for group, _ in balanced(8, 1, 4, seed)[0][0]})
    assert all(6 <= firsts[group] <= 36 for group in range(8)), firsts  # 20 expected, standard deviation 3.9


def test_order_follows_from_the_seed_alone():
    assert balanced(8, 2, 2, seed=5) == balanced(8, 2, 2, seed=5)
    assert len({str(balanced(8, 2, 2, seed)) for seed in range(20)}) > 15


@pytest.mark.parametrize("seed", range(10))
def test_processes_have_about_as_many_tokens_in_each_step(seed):
    for step in zip(*balanced(16, 2, 2, seed), strict=True):
        loads = [sum(tokens for _, tokens in share) for share in step]
        longest = max(sum(t for g, t in share if g == group) for share in step for group, _ in share)
        assert max(loads) - min(loads) <= longest


def test_order_differs_by_step_and_is_reproducible_after_a_kill(monkeypatch):
    drawn = []

    def upstream_step(self, samples, step):
        drawn.append(ppo_trainer.balance_experiences.keywords["seed"])
        return {"truncated": 0.0, "skipped_steps": 0.0}, step + 1

    monkeypatch.setattr(PPOTrainer.__ray_metadata__.modified_class, "train_step", upstream_step)
    monkeypatch.setattr(trainer, "append_jsonl", lambda *_: None)
    for _ in range(2):
        run = object.__new__(trainer.MathTrainer)
        run.args = settings("--train.seed", 7)
        for name in ("engines", "phases", "stop", "samples_generator", "watchdog"):
            setattr(run, name, MagicMock())
        run.samples_generator.taken, run.trained = EMPTY, False
        for step in range(4):
            run.train_step([], step)
    assert drawn[:4] == drawn[4:] and len(set(drawn)) == 4
    assert run.trained and isinstance(run.args, SimpleNamespace)
