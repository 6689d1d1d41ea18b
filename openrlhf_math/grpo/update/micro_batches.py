"""Micro-batches of whole groups under a token budget, without completions of zero advantage."""

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from deepspeed.accelerator import get_accelerator
from jaxtyping import Int64
from openrlhf.trainer.ppo_utils.experience import Experience, make_experience_batch, split_experience_batch
from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer
from torch import distributed as dist

from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.settings import data_parallel_ranks, only_advantages_teach

if TYPE_CHECKING:
    from openrlhf_math.colocation.strategy import MathStrategy

Group = list[int]  # items with the same prompt, by their number


def group_by_prompt(items: list[Experience], numbers: list[int]) -> list[Group]:
    """The items of `numbers` that share a prompt, in order of first appearance."""
    groups: dict[tuple[int, ...], Group] = {}
    for number in numbers:
        groups.setdefault(_prompt(items[number]), []).append(number)
    return list(groups.values())


def _prompt(item: Experience) -> tuple[int, ...]:
    first_action = int(item.action_mask.reshape(-1).int().argmax()) + 1
    return tuple(item.sequences.reshape(-1)[:first_action].tolist())


def prompt_numbers(batch: Experience) -> Int64[torch.Tensor, " completions"]:
    """The same number for completions of one prompt, counted from 0."""
    numbers: dict[tuple[int, ...], int] = {}
    firsts = (batch.action_mask.int().argmax(dim=1) + 1).tolist()
    prompts = [
        tuple(sequence[:first][shown[:first].bool()].tolist())
        for sequence, shown, first in zip(batch.sequences, batch.attention_mask, firsts, strict=True)
    ]
    found = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    return torch.tensor(found, device=batch.sequences.device)


def packed_tokens(items: list[Experience], group: Group, shares_prompts: bool = True) -> int:
    """Tokens of a group, the prompt once for all its completions, or once for each."""
    total = sum(int(items[number].total_length) for number in group)
    return total - (len(group) - 1) * len(_prompt(items[group[0]])) if shares_prompts else total


def fill(groups: list[Group], tokens: Callable[[Group], int], budget: int) -> list[list[int]]:
    """Micro-batches of item numbers, each under `budget` tokens: first fit from the longest group down.

    A group above the budget is halved.
    """
    queue = sorted(groups, key=tokens, reverse=True)
    bins: list[tuple[int, list[int]]] = []
    while queue:
        group = queue.pop(0)
        size = tokens(group)
        if size > budget and len(group) > 1:
            queue[:0] = _halves(group)
            continue
        place = next((number for number, (used, _) in enumerate(bins) if used + size <= budget), None)
        if place is None:
            bins.append((size, list(group)))
        else:
            used, members = bins[place]
            bins[place] = (used + size, members + group)
    return [members for _, members in bins]


def split(batches: list[list[int]], count: int) -> list[list[int]]:
    """`count` batches or more, as every training process must take the same number: the largest is halved until then.

    Raises ValueError where there are fewer items than `count`.
    """
    batches = list(batches)
    if sum(map(len, batches)) < count:
        raise ValueError(f"{sum(map(len, batches))} items cannot be {count} micro-batches")
    while len(batches) < count:
        largest = max(batches, key=len)
        batches.remove(largest)
        batches += _halves(largest)
    return batches


def _halves(items: list[int]) -> list[list[int]]:
    return [items[: len(items) // 2], items[len(items) // 2 :]]


def teaches(item: Experience) -> bool:
    """Whether a completion has a gradient under the policy loss alone: some advantage is not zero."""
    return bool((item.advantages * item.action_mask).any())


def acts(item: Experience) -> bool:
    """Whether a completion is in the loss at all: one that `--math.truncated mask` leaves out has no action token."""
    return bool(item.action_mask.any())


class GroupReplayBuffer(NaiveReplayBuffer):
    """OpenRLHF's replay buffer in its dynamic-batch mode, with micro-batches of whole groups."""

    trains = staticmethod(acts)  # whether an item is computed
    shares_prompts = True  # whether the completions of a group are behind one copy of their prompt

    def setup_dynamic_batch(self, strategy: "MathStrategy") -> None:
        args, process_group = strategy.args, strategy.ds_device_mesh["dp"].get_group()
        share = args.train.batch_size // dist.get_world_size(process_group)
        steps = int(_reduced(len(self.items) // share, dist.ReduceOp.MIN, process_group))
        self.sample_batch_size = 1
        self.dynamic_indices, self.dynamic_optimizer_step = [], []
        self.dynamic_sample_loss_scale, self.dynamic_batch_num_tokens, self.dynamic_global_batch_size = [], [], []
        for step in range(steps):
            numbers = list(range(step * share, (step + 1) * share))
            batches = self._micro_batches(numbers, args.train.max_tokens_per_gpu, process_group)
            action_tokens = [int(self.items[number].action_mask.sum()) for number in numbers]
            total = _reduced(sum(action_tokens), dist.ReduceOp.SUM, process_group)
            samples = _reduced(sum(count > 0 for count in action_tokens), dist.ReduceOp.SUM, process_group)
            self.dynamic_indices += batches
            self.dynamic_optimizer_step += [0] * (len(batches) - 1) + [1]
            self.dynamic_sample_loss_scale += [len(batch) / share for batch in batches]
            self.dynamic_batch_num_tokens += [max(total, 1)] * len(batches)  # all may be left out
            self.dynamic_global_batch_size += [max(samples, 1)] * len(batches)

    def _micro_batches(self, numbers: list[int], budget: int, process_group: dist.ProcessGroup) -> list[list[int]]:
        kept: list[int] = []
        idle: list[int] = []
        for number in numbers:
            (kept if self.trains(self.items[number]) else idle).append(number)
        if not kept:  # the optimizer still takes its step, so one item gives its zero gradient
            kept = [min(idle, key=lambda number: int(self.items[number].total_length))]
            idle.remove(kept[0])
        tokens = partial(packed_tokens, self.items, shares_prompts=self.shares_prompts)
        batches = fill(group_by_prompt(self.items, kept), tokens, budget)
        count = int(_reduced(len(batches), dist.ReduceOp.MAX, process_group))
        lacking = max(0, count - len(kept))  # other processes have more to train: idle items keep in step with them
        return split(batches + [[number] for number in idle[:lacking]], count)


class SkippingReplayBuffer(GroupReplayBuffer):
    """Leaves out completions without advantage; the loss is still normalised by all of them."""

    trains = staticmethod(teaches)


def _reduced(value: float, operation: dist.ReduceOp.RedOpType, process_group: dist.ProcessGroup) -> float:
    """On the device of the process group's backend: NCCL does not accept CPU tensors."""
    tensor = torch.tensor(float(value), device=get_accelerator().current_device_name())
    dist.all_reduce(tensor, op=operation, group=process_group)
    return tensor.item()


def balance_groups(experiences: list[Experience], args: GRPOArguments, seed: int) -> list[Experience]:
    """One experience for each training process: the completions of its optimizer steps, one step after another.

    Takes the place of OpenRLHF's `balance_experiences`, which sorts completions by length: the longest would be trained
    first, and those of a group in several steps. Here the groups come in random order, drawn from `seed`. A step takes
    `--train.batch_size` completions, which are whole groups if it is a multiple of the group size, and each process
    gets an equal number of them and about as many tokens.
    """
    numbers = [number for experience in experiences for number in experience.index]
    items = [item for experience in experiences for item in split_experience_batch(experience)]
    groups: dict[int, Group] = {}
    for place in sorted(range(len(items)), key=numbers.__getitem__):
        groups.setdefault(numbers[place] // args.rollout.n_samples_per_prompt, []).append(place)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    completions = [(number, place) for number, group in enumerate(order) for place in group]
    ranks = data_parallel_ranks(args)
    members: list[list[int]] = [[] for _ in range(ranks)]
    for start in range(0, len(completions), args.train.batch_size):
        pieces: dict[int, Group] = {}  # of groups, in this step
        for number, place in completions[start : start + args.train.batch_size]:
            pieces.setdefault(number, []).append(place)
        for rank, share in enumerate(_dealt(list(pieces.values()), ranks, partial(_tokens_trained, items, args))):
            members[rank] += share
    return [make_experience_batch([items[place] for place in share]) for share in members if share]


def _dealt(groups: list[Group], ranks: int, tokens: Callable[[Group], int]) -> list[list[int]]:
    """The members of groups as `ranks` lists of equal number, with about as many tokens: the longest group first."""
    share = sum(map(len, groups)) // ranks
    loads = [0] * ranks
    members: list[list[int]] = [[] for _ in range(ranks)]
    for group in sorted(groups, key=tokens, reverse=True):
        rest = list(group)
        while rest:
            rank = min((r for r in range(ranks) if len(members[r]) < share), key=loads.__getitem__, default=ranks - 1)
            room = share - len(members[rank]) if len(members[rank]) < share else len(rest)
            members[rank] += rest[:room]
            loads[rank] += tokens(rest[:room])
            rest = rest[room:]
    return members


def _tokens_trained(items: list[Experience], args: GRPOArguments, group: Group) -> int:
    """Tokens that a group takes through the model."""
    if not args.math.shared_prefix:
        return sum(int(items[number].total_length) for number in group)
    trains = teaches if only_advantages_teach(args) else acts
    kept = [items[number] for number in group if trains(items[number])]
    prompt = max((int(item.total_length - item.response_length) for item in kept), default=0)
    return prompt + sum(int(item.response_length) for item in kept)
