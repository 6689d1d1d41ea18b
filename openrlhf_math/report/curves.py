"""The curves of a run, one a figure: its name, its unit, and the source of its values."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from openrlhf_math.runs.records import number

Value = Callable[[dict], float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of every step.

    value: of a record, None where it has none. share: between 0 and 1, shown in percent. from_zero: the axis begins
    there. room: the axis reaches at least so far to both sides of 0, so that rounding errors look as small as they are.
    zeros_matter: whether a curve that is 0 throughout says something; if not, it is left out.
    noisy: whether a smoothed line helps.
    """

    title: str
    unit: str
    note: str
    value: Value
    share: bool = False
    from_zero: bool = True
    room: float = 0.0
    zeros_matter: bool = True
    noisy: bool = True


def named(name: str) -> Value:
    return lambda row: number(row, name)


def generation_seconds(row: dict) -> float | None:
    """Of the batch of a step. With `--math.overlap` it was generated while the policy trained on the one before."""
    if "timing/rollout_wait" not in row:
        return number(row, "timing/generation")
    begin, end = (number(row, f"timeline/rollout_{name}") for name in ("begin", "end"))
    return None if begin is None or end is None else end - begin


def step_seconds(row: dict) -> float | None:
    return number(row, "timing/step_total")


def tokens_a_second(duration: Value) -> Value:
    """Completion tokens of the whole batch, without a tool's, by the seconds of a part of the step."""

    def value(row: dict) -> float | None:
        length, completions = (number(row, name) for name in ("completion_length", "rollout/num_samples"))
        seconds = duration(row)
        if length is None or completions is None or seconds is None or seconds <= 0:
            return None
        return (length - (number(row, "tool/tokens") or 0.0)) * completions / seconds

    return value


GRPO = (
    Curve("Reward", "reward", "mean over the step's completions", named("reward"), from_zero=False),
    Curve("Accuracy", "correct completions", "on training problems, sampled", named("accuracy"), share=True),
    Curve(
        "Labelled by a majority", "completions", "without a gold answer: accuracy is agreement with their group",
        named("majority/rate"), share=True, zeros_matter=False,
    ),
    Curve("Completion length", "tokens", "mean over completions", named("completion_length")),
    Curve("Length of correct completions", "tokens", "mean", named("length/correct_mean")),
    Curve("Length of wrong completions", "tokens", "mean", named("length/wrong_mean")),
    Curve("Groups without a correct completion", "groups", "zero advantage", named("groups/solved_none"), share=True),
    Curve("Groups without a wrong completion", "groups", "zero advantage", named("groups/solved_all"), share=True),
    Curve("Truncation", "completions", "cut off at the token limit", named("truncation_rate"), share=True),
    Curve("Entropy", "nats a token", "of the policy's next-token distribution", named("entropy_loss")),
    Curve("Gradient norm", "L2 norm", "before clipping", named("grad_norm")),
    Curve(
        "KL to the start", "nats a token", "mean over tokens, from the reference model", named("kl"),
        from_zero=False, zeros_matter=False,
    ),
    Curve(
        "Reverse KL to the teacher", "nats a token", "mean of log student / teacher over the action tokens",
        named("teacher/reverse_kl"), from_zero=False,
    ),
    Curve(
        "Policy loss", "loss", "without a teacher and with one gradient step a batch 0; its gradient is not",
        named("policy_loss"), from_zero=False, room=0.01,
    ),
    Curve("Log-probability gap", "nats a token", "trainer against vLLM", named("logprob_gap")),
    Curve("Effective sample size", "share of the tokens", "of weights policy / engine", named("rollout_corr/ess")),
    Curve(
        "KL to the engine", "nats a token", "KL(rollout || trainer), estimated by w - 1 - log w",
        named("rollout_corr/k3_kl"),
    ),
    Curve("Ungraded completions", "completions", "not graded in time: wrong", named("ungraded_rate"), share=True),
    Curve("Correct format", "completions", "whatever their answer", named("format_rate"), share=True),
    Curve("Zero advantage", "completions", "one reward in the group", named("zero_advantage_rate"), share=True),
    Curve("Tool calls", "calls", "mean over completions", named("tool/calls")),
    Curve("Failed tool calls", "calls", "they raised, ended or ran out of time", named("tool/failed_rate"), share=True),
    Curve("Time in the tool", "seconds", "mean over completions", named("tool/seconds")),
    Curve("Tokens of the tool", "completion tokens", "left out of the loss", named("tool/token_share"), share=True),
    Curve("Learning rate", "learning rate", "of the optimizer", named("learning_rate"), noisy=False),
    Curve("Speed of a step", "completion tokens / s", "generation and training", tokens_a_second(step_seconds)),
    Curve("Speed of generation", "completion tokens / s", "generation alone", tokens_a_second(generation_seconds)),
    Curve("Peak memory", "GiB", "sum of each process's peak in the step", named("memory/peak_gib")),
)  # fmt: skip

# Metrics whose names depend on the problems: the beginning of the name, of the title, the unit.
PARTS = {
    "reward/": ("Part of the reward: ", "reward"),
    "groups/pass_at_": ("Groups: pass@", "groups"),
    "accuracy/source/": ("Accuracy on ", "correct completions"),
    "accuracy/difficulty/": ("Accuracy at difficulty ", "correct completions"),
}

TUNING = (
    Curve("Loss", "nats", "training loss", named("loss")),
    Curve("Gradient norm", "L2 norm", "before clipping", named("grad_norm")),
    Curve("Learning rate", "learning rate", "of the optimizer", named("learning_rate"), noisy=False),
)

# Of evaluations during a run: what OpenRLHF calls it, what it is called here.
OPENRLHF_EVALUATION = re.compile(r"eval_(?P<of>.+_)?(?P<what>pass\d+|response_length_mean|truncated_rate)")
NOT_DRAWN = ("step", "steps", "tokens", "eval_num_samples")


def part_curves(rows: list[dict]) -> list[Curve]:
    """A curve of the training accuracy for every source and difficulty, of every pass@k of the groups, and of every
    part of the reward, without its weight."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(tuple(PARTS)))
    return [
        Curve(
            title + name.removeprefix(prefix),
            unit,
            "on training problems, sampled",
            named(name),
            share=unit != "reward",
            from_zero=unit != "reward",
        )  # fmt: skip
        for prefix, (title, unit) in PARTS.items()
        for name in names
        if name.startswith(prefix)
    ]


def evaluation_curves(rows: list[dict]) -> list[Curve]:
    """A curve for every number of the evaluations during a run."""
    names = dict.fromkeys(name for row in rows for name in row if name not in NOT_DRAWN)
    return [_evaluation_curve(name) for name in names if any(number(row, name) is not None for row in rows)]


def _evaluation_curve(name: str) -> Curve:
    found = OPENRLHF_EVALUATION.fullmatch(name)
    if not found:
        share = name in ("accuracy", "auc", "right")
        title = name.upper() if name == "auc" else name
        return Curve(
            f"Held out: {title}", "" if share else name, "evaluations during the run", named(name), share=share
        )
    of, what = (found["of"] or "all_").rstrip("_"), found["what"]
    if what == "response_length_mean":
        return Curve("Held out: completion length", "tokens", f"on {of}, during the run", named(name))
    if what == "truncated_rate":
        return Curve("Held out: truncation", "completions", f"on {of}, during the run", named(name), share=True)
    return Curve(f"Held out: pass@{what[4:]}", "problems", f"on {of}, during the run", named(name), share=True)
