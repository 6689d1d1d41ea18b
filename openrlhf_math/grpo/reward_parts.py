"""Rewards that compose: parts by name, each a number for every completion of a group, added with weights.

A part is a function of a `Group`. It sees all completions of a prompt with their texts, lengths and grades.
"""

import asyncio
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from openrlhf_math.concurrency import in_thread, within
from openrlhf_math.errors import UserError, brief
from openrlhf_math.registry import Registry

FLAG, NORMALISED = "--math.rewards", "--math.normalise_rewards"
PAID = {"correct_reward": 1.0, "format_reward": 0.2}  # defaults of these flags
OVERLONG = "overlong"
TOGETHER, EACH = "together", "each"
TRY_SECONDS = 60.0
HELP = {
    "correct": "1 for a correct answer",
    "format": "1 for the correct format, whatever the answer",
    "length": "among the correct completions of a group 0 for the shortest, 1 for the longest, 0 for a wrong one; its "
    "weight is negative",
    OVERLONG: "DAPO's penalty, 0 to -1 over the last --reward.overlong_buffer_len tokens before the limit",
}


@dataclass(frozen=True, slots=True)
class Completion:
    """text: what the model wrote. tokens: from its first to its last. outcome: as `rewards.Grade`. answer: what the
    grader read in it, None if there is none. well_formed: whether it is in the correct format."""

    text: str
    tokens: int
    truncated: bool
    outcome: str
    answer: str | None
    well_formed: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one prompt. problem: the whole prompt, as the model saw it. limit: the most tokens of a
    completion. overlong_buffer: of DAPO's penalty, 0 without one."""

    problem: str
    gold: str
    completions: tuple[Completion, ...]
    limit: int
    overlong_buffer: int = 0


# Returns a number for each completion; may be a coroutine function.
Part = Callable[[Group], Sequence[float]]
_REGISTRY: Registry[Part] = Registry()
register_reward = _REGISTRY.register


@register_reward("correct")
def correct(group: Group) -> list[float]:
    return [float(one.outcome == "correct") for one in group.completions]


@register_reward("format")
def well_formed(group: Group) -> list[float]:
    return [float(one.well_formed) for one in group.completions]


@register_reward("length")
def relative_length(group: Group) -> list[float]:
    """(l_j - min l) / (max l - min l) over the correct completions, 0 for others and where lengths are equal.

    As in Kimi k1.5's length reward, https://arxiv.org/abs/2501.12599, section 2.3.3, but of correct completions alone.
    """
    lengths = [one.tokens for one in group.completions if one.outcome == "correct"]
    shortest, spread = min(lengths, default=0), max(lengths, default=0) - min(lengths, default=0)
    return [
        (one.tokens - shortest) / spread if spread and one.outcome == "correct" else 0.0 for one in group.completions
    ]


@register_reward(OVERLONG)
def overlong(group: Group) -> list[float]:
    """OpenRLHF's own penalty of DAPO, https://arxiv.org/abs/2503.14476, equation 13, with factor 1."""
    import torch
    from openrlhf.trainer.ppo_utils.length_penalty import apply_overlong_penalty

    lengths = torch.tensor([one.tokens for one in group.completions])
    batch = SimpleNamespace(response_length=lengths, rewards=torch.zeros(len(lengths), dtype=torch.float64))
    apply_overlong_penalty([batch], group.limit, group.overlong_buffer)
    return batch.rewards.tolist()


@dataclass(frozen=True, slots=True)
class RewardParts:
    """weights: of each part, in the order given. each: whether each part is normalised by itself (GDPO).

    overlong_buffer: tokens, where `overlong` is a part.
    """

    weights: tuple[tuple[str, float], ...]
    each: bool = False
    overlong_buffer: int = 0

    def __str__(self) -> str:
        words = " + ".join(f"{weight:g} x {name}" for name, weight in self.weights)
        return f"{words}, normalised {EACH if self.each else TOGETHER}"


def read_parts(flags: dict, ours: dict) -> RewardParts | None:
    """The parts of `--math.rewards`, None without the flag. Takes what `overlong` needs out of `flags`.

    Raises UserError for what cannot be read, for unknown parts, and for flags that contradict it.
    """
    text, normalised = ours["math.rewards"], ours["math.normalise_rewards"]
    if text is None:
        if normalised is not None:
            raise UserError(f"{NORMALISED} {normalised} is for {FLAG}; add that, or leave it out")
        return None
    weights = _weights(text)
    _check_others(flags, ours)
    each = normalised == EACH
    buffer = flags["reward.overlong_buffer_len"] or 0
    if OVERLONG in weights:
        if not buffer:
            raise UserError(f"{FLAG} {OVERLONG}: give --reward.overlong_buffer_len, the tokens before the limit")
        if flags["reward.overlong_penalty_factor"] != 1:
            raise UserError(
                f"--reward.overlong_penalty_factor {flags['reward.overlong_penalty_factor']:g}: the weight of "
                f"{OVERLONG} in {FLAG} is its factor; leave it out"
            )
        flags["reward.overlong_buffer_len"] = None  # or OpenRLHF would take it off the sum again
    if each:
        _check_each(flags)
    return RewardParts(tuple(weights.items()), each, int(buffer) if OVERLONG in weights else 0)


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for pair in text.split(","):
        name, found, number = pair.strip().partition("=")
        try:
            weight = float(number) if found else math.nan
        except ValueError:
            weight = math.nan
        if not name or not math.isfinite(weight) or weight == 0:
            raise UserError(
                f"{FLAG} {text}: {pair.strip()!r} is not NAME=WEIGHT with a finite weight other than 0, as in "
                "correct=1,format=0.2,length=-0.1"
            )
        if name in weights:
            raise UserError(f"{FLAG} {text}: {name} is there twice; give it one weight")
        if (name == "length" and weight > 0) or (name == OVERLONG and weight < 0):
            raise UserError(
                f"{FLAG} {text}: {name}={number} would pay for longer completions; give it the weight {-weight:g}, or "
                "write your own part"
            )
        weights[name] = weight
    return weights


def find_part(name: str) -> Part:
    """The part called `name`. Raises UserError if there is none."""
    part = _REGISTRY.find(FLAG, name)
    if not callable(part):
        raise UserError(f"{FLAG} {name}: it is not a function of a group of completions")
    return part


def try_parts(parts: RewardParts, problem: str, gold: str, limit: int) -> None:
    """Call each part that is not built in once, with two made-up completions of a problem, a correct and a wrong one.

    limit: as a group's. Raises UserError for a part that raises, that takes longer than TRY_SECONDS, or that does not
    give a finite number for each completion.
    """
    right = Completion(f"The answer is \\boxed{{{gold}}}.", 8, False, "correct", gold, True)
    wrong = Completion("I do not know.", 5, False, "wrong", None, False)
    group = Group(problem, gold, (right, wrong), limit, parts.overlong_buffer)
    for name, _ in parts.weights:
        if name in HELP:
            continue
        try:
            asyncio.run(within(TRY_SECONDS, values_of(find_part(name), group)))
        except TimeoutError:
            raise UserError(f"{FLAG} {name}: it did not return within {TRY_SECONDS:g} s for two completions") from None
        except Exception as error:
            raise UserError(
                f"{FLAG} {name}: tried on two made-up completions of the first problem, it failed with "
                f"{type(error).__name__}: {brief(error)}"
            ) from None


def _check_others(flags: dict, ours: dict) -> None:
    for name, paid in PAID.items():
        if ours[f"math.{name}"] != paid:
            raise UserError(f"--math.{name} and {FLAG} both say what is paid; leave one of them out")
    for name in ("reward.remote_url", "reward.model_name_or_path"):
        if flags[name]:
            raise UserError(f"--{name}: {FLAG} is computed where completions are graded here; leave one of them out")


def _check_each(flags: dict) -> None:
    from openrlhf_math.grpo.objective import UPSTREAM_ESTIMATORS

    name = flags["algo.advantage.estimator"]
    if name in UPSTREAM_ESTIMATORS:
        raise UserError(
            f"--algo.advantage.estimator {name}: {NORMALISED} {EACH} needs an estimator of groups alone: grpo, "
            "grpo_no_std or your own"
        )
    for penalty in ("overlong_buffer_len", "stop_properly_penalty_coef"):
        if flags[f"reward.{penalty}"] is not None:
            raise UserError(
                f"--reward.{penalty}: OpenRLHF takes this penalty off the sum, which {NORMALISED} {EACH} does not use; "
                f"leave it out, or make {OVERLONG} a part of {FLAG}"
            )


async def values_of(part: Part, group: Group) -> list[float]:
    """A finite number for each completion. Raises ValueError if the part gives anything else, and what it raises."""
    if inspect.iscoroutinefunction(part):
        given = await part(group)
    else:
        given = await in_thread(part, group)
    values = [float(value) for value in given]
    if len(values) != len(group.completions):
        raise ValueError(f"it gave {len(values)} value(s) for {len(group.completions)} completions")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"it gave {values}, which are not all finite")
    return values
