"""`--math.rewards`: parts of a reward, their sum, and each normalised by itself."""

import asyncio
import math
import statistics
import sys
import types
from types import SimpleNamespace

import pytest
import torch
from rollout_without_engines import generator, response
from trained_batch import settings

from openrlhf_math.cli import main
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.reward_parts import Completion, Group, find_part, values_of

TEMPLATE = "{{ messages[0].content }}"
PARTS = ("--math.rewards", "correct=1,length=-0.5")
EACH = (*PARTS, "--math.normalise_rewards", "each")


def group(*completions: tuple, limit: int = 100, buffer: int = 0) -> Group:
    """completions: outcome, tokens, whether well formed."""
    made = [Completion("text", tokens, False, outcome, "1", formed) for outcome, tokens, formed in completions]
    return Group("p", "1", tuple(made), limit, buffer)


def values(name: str, of: Group) -> list[float]:
    return asyncio.run(values_of(find_part(name), of))


def test_values_of_reward_parts():
    four = group(("correct", 30, True), ("wrong", 90, True), ("correct", 10, False), ("correct", 20, True))
    assert values("correct", four) == [1, 0, 1, 1]
    assert values("format", four) == [1, 1, 0, 1]
    assert values("length", four) == [1, 0, 0, 0.5]
    assert values("length", group(("correct", 5, True), ("correct", 5, True), ("wrong", 9, True))) == [0, 0, 0]
    assert values("length", group(("wrong", 5, True))) == [0]


@pytest.mark.parametrize(("tokens", "expected"), [(1, 0), (60, 0), (61, -1 / 40), (80, -0.5), (100, -1), (120, -1)])
def test_penalty_of_dapo(tokens, expected):
    """Its equation 13: 0 up to limit - buffer, then linear, -1 beyond the limit."""
    assert values("overlong", group(("correct", tokens, True), buffer=40)) == [pytest.approx(expected)]


@pytest.fixture
def own(monkeypatch):
    module = types.ModuleType("own_parts")
    module.texts = lambda of: [len(one.text) for one in of.completions]

    async def slow(of):
        await asyncio.sleep(0)
        return torch.arange(len(of.completions))

    module.slow = slow
    module.nan = lambda of: [math.nan] * len(of.completions)
    module.short = lambda of: [1.0]
    module.no_function = 3
    monkeypatch.setitem(sys.modules, "own_parts", module)


def test_custom_part(own):
    two = group(("correct", 1, True), ("wrong", 1, True))
    assert values("own_parts.texts", two) == [4, 4] and values("own_parts.slow", two) == [0, 1]
    for name in ("nan", "short"):
        with pytest.raises(ValueError, match="it gave"):
            values(f"own_parts.{name}", two)
    for name in ("own_parts.none", "own_parts.no_function", "corect"):
        with pytest.raises(UserError, match="^--math.rewards"):
            find_part(name)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--math.rewards", "correct"), "'correct' is not NAME=WEIGHT"),
        (("--math.rewards", "correct=nan"), "is not NAME=WEIGHT"),
        (("--math.rewards", "correct=0"), "is not NAME=WEIGHT"),
        (("--math.rewards", ""), "is not NAME=WEIGHT"),
        (("--math.rewards", "correct=1,correct=2"), "correct is there twice"),
        (("--math.rewards", "correct=1,length=0.1"), "give it the weight -0.1"),
        (("--math.rewards", "correct=1,overlong=-1"), "give it the weight 1"),
        (("--math.rewards", "overlong=1"), "give --reward.overlong_buffer_len"),
        (("--math.normalise_rewards", "each"), "is for --math.rewards"),
        ((*PARTS, "--math.format_reward", 0.1), "both say what is paid"),
        ((*PARTS, "--reward.remote_url", "http://127.0.0.1:1"), "leave one of them out"),
        ((*EACH, "--algo.advantage.estimator", "rloo"), "needs an estimator of groups alone"),
        ((*EACH, "--reward.overlong_buffer_len", 5, "--rollout.max_new_tokens", 9), "--reward.overlong_buffer_len"),
        ((*EACH, "--reward.stop_properly_penalty_coef", 0.5), "--reward.stop_properly_penalty_coef"),
        (
            ("--math.rewards", "overlong=1", "--reward.overlong_buffer_len", 5, "--reward.overlong_penalty_factor", 2),
            "is its factor",
        ),
    ],
)
def test_invalid_flags(flags, sentence):
    with pytest.raises(UserError) as raised:
        settings(*flags)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


OWN_PARTS = """
import asyncio, time

def digits(group):
    assert group.problem and group.limit == 8 and [one.answer for one in group.completions] == [group.gold, None]
    return [sum(letter.isdigit() for letter in one.text) for one in group.completions]

def short(group):
    return [1.0]

def missing(group):
    return [len(one.answer) for one in group.completions]

async def slow(group):
    await asyncio.sleep(60)

def hung(group):
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("name", "dry"), [(name, "--dry-run") for name in ("digits", "short", "missing", "slow", "hung")] + [("short", "")]
)
def test_custom_part_is_tried_before_the_run(name, dry, tmp_path, monkeypatch, model_folder, problem_file, capsys):
    """A part that fails ends the command before Ray starts; `digits` passes."""
    module = types.ModuleType("tried_parts")
    exec(OWN_PARTS, module.__dict__)
    monkeypatch.setitem(sys.modules, "tried_parts", module)
    monkeypatch.setattr("openrlhf_math.grpo.reward_parts.TRY_SECONDS", 0.2)
    command = ["grpo", "--model", str(model_folder), "--problems", str(problem_file), "--output", str(tmp_path / "run")]
    weights = f"correct=1,tried_parts.{name}=0.1"
    status = main([*command, "--max-tokens", "8", "--math.rewards", weights, *dry.split()])
    if name == "digits":
        assert status == 0
    else:
        error = capsys.readouterr().err.strip().splitlines()
        assert status == 2 and f"tried_parts.{name}:" in error[-1]
        assert not (tmp_path / "run" / "config.json").exists()


def test_penalty_is_applied_once():
    args = settings("--math.rewards", "correct=1,overlong=0.5", "--reward.overlong_buffer_len", 5)
    assert args.math.reward_parts.overlong_buffer == 5 and args.reward.overlong_buffer_len is None
    assert settings().math.reward_parts is None
    assert settings("--reward.overlong_buffer_len", 5).reward.overlong_buffer_len == 5


# In the rollout actor


def executor(weights: str, **more):
    from openrlhf_math.grpo.executor import AgentExecutor

    made = AgentExecutor()
    made.parts = settings(
        "--math.rewards", weights, *(word for pair in more.items() for word in pair)
    ).math.reward_parts
    return made


def graded(outcome: str, tokens: int) -> dict:
    return {
        "text": "words", "action_ranges": [(2, 2 + tokens)], "truncated": False, "reward": 0.2, "scores": 0.2,
        "grade": {"outcome": outcome, "answer": "1", "reason": ""},
        "extra_logs": {"format_rate": 1.0, "reward_error_rate": 0.0},
    }  # fmt: skip


def compose(made, rollouts: list[dict]) -> list[dict]:
    return asyncio.run(made._composed(rollouts, "prompt", "1", 100))


def test_reward_is_the_sum_of_parts():
    made = compose(executor("correct=1,format=0.2,length=-0.5"), [graded("correct", 9), graded("wrong", 4),
                                                                 graded("correct", 3)])  # fmt: skip
    assert [one["reward"] for one in made] == [pytest.approx(value) for value in (0.7, 0.2, 1.2)]
    assert [one["scores"] for one in made] == [one["reward"] for one in made]
    assert [one["extra_logs"]["reward/length"] for one in made] == [1, 0, 0]
    plain = [graded("correct", 9)]
    from openrlhf_math.grpo.executor import AgentExecutor

    assert compose(AgentExecutor(), plain) == [graded("correct", 9)], "without parts nothing changes"


@pytest.mark.parametrize("name", ["nan", "short"])
def test_failed_part_is_counted_and_the_others_apply(own, name):
    made = executor(f"correct=1,own_parts.{name}=2")
    group = compose(made, [graded("correct", 9), graded("wrong", 4)])
    assert [one["reward"] for one in group] == [1, 0]
    assert all(one["extra_logs"]["reward_error_rate"] == 1 and "reward_error" in one for one in group)
    assert [one["extra_logs"][f"reward/own_parts.{name}"] for one in group] == [0, 0]
    assert len(made.ungraded) == 1 and "ValueError" in made.ungraded[0]["reason"]


# In the trainer


def naive_gdpo(parts: list[list[list[float]]], weights: list[float]) -> list[list[float]]:
    """GDPO by hand, from [parts][groups][completions]: normalise each part in its group, add, divide by the spread."""
    totals = []
    for number in range(len(parts[0])):
        rows = []
        for part in parts:
            rewards = part[number]
            spread = statistics.stdev(rewards)
            rows.append([(one - statistics.mean(rewards)) / spread if spread else 0.0 for one in rewards])
        totals.append([sum(weight * row[at] for weight, row in zip(weights, rows, strict=True)) for at in range(4)])
    every = [one for row in totals for one in row]
    mean, spread = statistics.mean(every), statistics.stdev(every)
    return [[(one - mean) / spread for one in row] for row in totals]


def test_each_part_is_normalised_separately():
    from openrlhf_math.grpo.update.experience import MathExperienceMaker

    correct = [[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    length = [[1.0, 0.0, 0.0, 0.0], [0.2, 0.0, 1.0, 0.7], [0.0, 0.0, 0.0, 0.0]]
    args = settings(*EACH, "--rollout.n_samples_per_prompt", 4, "--rollout.batch_size", 3)
    flat = [torch.tensor(part).flatten() for part in (correct, length)]
    order = [[7, 2, 11], [0, 1, 3, 4, 5], [6, 8, 9, 10]]  # micro-batches in another order
    experiences = [
        SimpleNamespace(index=index, info={"reward/correct": flat[0][index], "reward/length": flat[1][index]})
        for index in order
    ]
    maker = SimpleNamespace(args=args)
    from openrlhf_math.grpo.advantages import find_estimator

    total = (flat[0] - 0.5 * flat[1]).reshape(3, 4)
    found = MathExperienceMaker._advantages(maker, find_estimator("grpo"), total, experiences)
    assert torch.allclose(found, torch.tensor(naive_gdpo([correct, length], [1, -0.5])), atol=1e-6)
    assert (found[2] == 0).all(), "a group that teaches nothing is left out exactly"
    together = settings(*PARTS, "--rollout.n_samples_per_prompt", 4, "--rollout.batch_size", 3)
    found = MathExperienceMaker._advantages(SimpleNamespace(args=together), find_estimator("grpo"), total, experiences)
    assert torch.equal(found, find_estimator("grpo")(total))


def rolled(correct: list[float], length: list[float]) -> list[dict]:
    return [
        response("first", one - 0.5 * other, extra_logs={"reward/correct": one, "reward/length": other})
        for one, other in zip(correct, length, strict=True)
    ]


@pytest.mark.parametrize(
    ("correct", "length", "flags", "stays"),
    [
        ((1, 1, 1, 1), (0, 0, 0, 1), EACH, True),
        ((1, 1, 1, 1), (0.5, 0.5, 0.5, 0.5), EACH, False),
        ((1, 0.5, 1, 1), (1, 0, 1, 1), PARTS, False),  # the sum is 0.5 for all
        ((1, 0.5, 1, 1), (1, 0, 1, 1), EACH, True),  # 1 - 0.5 times a standardised value
    ],
)
def test_filtering_uses_the_same_advantages(correct, length, flags, stays, monkeypatch):
    args = settings(
        "--algo.dynamic_filtering_enable", "--rollout.batch_size", 1, "--rollout.n_samples_per_prompt", 4, *flags
    )
    other = [one | {"prompt": "second"} for one in rolled([1, 0, 0, 0], [0, 0, 0, 0])]
    answers = {"first": rolled(correct, length), "second": other}
    samples, *_ = generator(args, answers, monkeypatch).generate_samples()
    assert {prompt for sample in samples for prompt in sample.prompts} == {"first" if stays else "second"}


def test_truncated_wrong_gives_truncated_completions_no_reward():
    from openrlhf_math.grpo.problems.completion_limit import as_wrong

    made = as_wrong(
        response("p", 1.2, truncated=True, extra_logs={"accuracy": 1.0, "reward/format": 1.0, "other": 1.0})
    )
    assert made["reward"] == 0 and made["extra_logs"] == {"accuracy": 0.0, "reward/format": 0.0, "other": 1.0}
