"""`--math.majority_labels`: problems without a gold answer are graded by the majority of their group."""

import asyncio
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from trained_batch import settings

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.executor import AgentExecutor
from openrlhf_math.grpo.inputs import load_problem_sets
from openrlhf_math.grpo.metrics import one_line
from openrlhf_math.grpo.problems.majority import agreement, grades_by_majority
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig


@pytest.fixture(scope="module")
def pool():
    made = GradingPool(RewardConfig(workers=1))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answers", "label", "outcomes"),
    [
        (("2", "0.5", r"\frac{1}{2}", "3"), "0.5", ("format", "correct", "correct", "format")),
        (("3", "2", "2", "3"), "3", ("correct", "format", "format", "correct")),  # as many votes: the first class
        ((None, None, "7"), "7", ("wrong", "wrong", "correct")),
        ((None, None, None), "", ("wrong",) * 3),
    ],
)
def test_majority_is_the_label(answers, label, outcomes, pool):
    texts = ["no answer" if one is None else f"so \\boxed{{{one}}}" for one in answers]
    found, grades = grades_by_majority(texts, "What is it?", pool)
    assert (found, tuple(one.outcome for one in grades)) == (label, outcomes)
    paid = {"correct": 1.0, "format": 0.2, "wrong": 0.0}
    assert [one.reward for one in grades] == [paid[one] for one in outcomes]


class Engine:
    """Writes texts, one a completion, as vLLM's output has them."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    async def generate(self, ids, params):
        outputs = [
            SimpleNamespace(token_ids=[number], finish_reason="length", stop_reason=None,
                            logprobs=SimpleNamespace(logprobs=[-0.5]))
            for number in range(params.n)
        ]  # fmt: skip
        return SimpleNamespace(outputs=outputs)

    def batch_decode(self, rows, **_):
        return [self.texts[row[0]] for row in rows]

    def __call__(self, texts, **_):
        return {"input_ids": [[9, 9] for _ in texts]}


def rolled_out(executor, label: str, texts: list[str]) -> list[dict]:
    from vllm import SamplingParams

    engine = Engine(texts)
    return asyncio.run(
        executor.execute_group("1+1?", label, SamplingParams(max_tokens=5), 50, engine, engine, len(texts))
    )


class Short(AgentExecutor):
    """A user's reward: half for a correct answer, and nothing for one that ends in 7."""

    async def grade(self, text, label, problem):
        if "7" in text:
            raise ValueError("seven")
        grade = await super().grade(text, label, problem)
        return replace(grade, reward=grade.reward / 2)


def test_own_reward_grades_by_the_label_of_the_majority(pool):
    executor = Short()
    executor.pool, executor.majority = pool, True
    group = rolled_out(executor, "", [r"\boxed{3}", r"\boxed{2}", r"\boxed{3}", r"\boxed{7}"])
    assert [one["reward"] for one in group] == [0.5, 0.1, 0.5, 0.0]
    assert [one["extra_logs"]["majority/votes"] for one in group] == [1, 0, 1, 0], "votes are those for the label"
    assert [one["extra_logs"]["reward_error_rate"] for one in group] == [0, 0, 0, 1]
    assert {one["grade"]["by"] for one in group} == {"majority"} and {one["label"] for one in group} == {"3"}


@pytest.mark.parametrize(
    "returned",
    [0.5, None, "correct", Grade("great", 1.0, None, True, 0.0), Grade("correct", math.nan, None, True, 0.0),
     Grade("wrong", -math.inf, None, True, 0.0)],
)  # fmt: skip
def test_own_reward_without_a_usable_grade_is_counted_and_pays_nothing(returned):
    class Broken(AgentExecutor):
        async def grade(self, text, label, problem):
            return returned if "2" in text else Grade("correct", 1.0, "3", True, 0.0)

    group = rolled_out(Broken(), "3", [r"\boxed{3}", r"\boxed{2}"])
    assert [one["reward"] for one in group] == [1.0, 0.0]
    assert [one["grade"]["outcome"] for one in group] == ["correct", "ungraded"]
    assert [one["extra_logs"]["reward_error_rate"] for one in group] == [0, 1] and "reward_error" in group[1]


def test_group_without_gold_is_marked_and_one_with_gold_is_as_before(pool):
    texts = [r"\boxed{3}", r"\boxed{2}", r"\boxed{3}"]
    executor = AgentExecutor()
    executor.pool, executor.majority = pool, True
    group = rolled_out(executor, "", texts)
    assert [one["label"] for one in group] == ["3"] * 3 and [one["reward"] for one in group] == [1, 0.2, 1]
    assert {one["grade"]["by"] for one in group} == {"majority"}
    assert [one["extra_logs"]["majority/votes"] for one in group] == [1, 0, 1]
    labelled = rolled_out(executor, "2", texts)
    assert [one["reward"] for one in labelled] == [0.2, 1, 0.2] and labelled[0]["grade"]["by"] == "gold"
    assert labelled[0]["extra_logs"].keys() == group[0]["extra_logs"].keys(), "OpenRLHF merges them by name"
    executor.majority = False
    plain = rolled_out(executor, "2", texts)
    assert not any(name.startswith("majority") for name in plain[0]["extra_logs"])


def test_agreement_is_not_called_accuracy():
    assert agreement({"majority/rate": 0.5, "majority/votes": 0.3}) == {"majority/votes": 0.6}
    assert agreement({"majority/rate": 0.0, "majority/votes": 0.0}) == agreement({}) == {}
    record = {"step": 10, "timing/step_total": 3.0, "reward": 0.5, "accuracy": 1.0, "completion_length": 500,
              "truncation_rate": 1.0, "zero_advantage_rate": 1.0, "grad_norm": 0.12}  # fmt: skip
    assert " acc 100% " in one_line(record, 1000)
    line = one_line(record | {"majority/rate": 0.1}, 1000)
    assert " maj 100% " in line and len(line) <= 80


def problem_set(tmp_path, rows) -> str:
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def loaded(path: str, *flags):
    return load_problem_sets(settings("--data.prompt_dataset", path, "--rollout.batch_size", 2, *flags))[path]


def test_rows_without_an_answer_stay_in_their_order(tmp_path, capsys):
    rows = [{"problem": "a", "answer": "1"}, {"problem": "b", "answer": None}, {"problem": "c"},
            {"problem": "d", "answer": " "}, {"problem": "e", "answer": "5"}]  # fmt: skip
    path = problem_set(tmp_path, rows)
    found = loaded(path, "--math.majority_labels")
    assert [(one.problem, one.answer.strip()) for one in found] == [
        ("a", "1"), ("b", ""), ("c", ""), ("d", ""), ("e", "5")
    ]  # fmt: skip
    assert "3 of 5 problems" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot be parsed"):
        loaded(path)


def test_set_without_the_column(tmp_path):
    path = problem_set(tmp_path, [{"problem": "a"}, {"problem": "b"}])
    assert [one.answer for one in loaded(path, "--math.majority_labels")] == ["", ""]
    with pytest.raises(UserError, match="answer"):
        loaded(path)


@pytest.mark.parametrize(
    "flags", [("--rollout.n_samples_per_prompt", 2), ("--reward.remote_url", "http://127.0.0.1:1")]
)
def test_attempts_without_a_vote(flags):
    with pytest.raises(UserError, match="--math.majority_labels"):
        settings("--math.majority_labels", *flags)
