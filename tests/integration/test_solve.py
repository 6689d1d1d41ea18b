"""A Reranker with a real sampler and a real scorer: problems solved, actors and engines killed, calls cancelled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from tiny_scorers import build

from openrlhf_math.rerank.agents import AGENTS, panel
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.choose import RULES, chairman, most_confident, weighted
from openrlhf_math.rerank.confidence import ByConfidence
from openrlhf_math.rerank.early_stop import confident, never
from openrlhf_math.rerank.launch import RerankerSettings, started
from openrlhf_math.rerank.reranker import Progress, Solved
from openrlhf_math.rerank.roles import UNSURE, RequestError, Sampling
from openrlhf_math.rerank.sampling_engine import SamplerSettings
from openrlhf_math.rerank.scoring_engine import ScorerSettings
from openrlhf_math.rerank.solver import Method, one_solver
from openrlhf_math.rerank.strategies import independent, refined
from openrlhf_math.rerank.tree_search import Steps, beam_search, diverse_tree_search
from openrlhf_math.rewards import RewardConfig

PRM = "qwen2.5-math-prm"
METHOD = Method(
    one_solver("", Sampling(temperature=1.0, max_tokens=128)), rule=weighted, stop=never, max_concurrency=8,
    style="think",
)  # fmt: skip
# A model that has learned well is rarely unsure, and its attempts rarely differ.
HOT = replace(METHOD, turns=one_solver("", Sampling(temperature=1.5, max_tokens=128)))
EIGHT = Limits(attempts=8)


@pytest.fixture(scope="module")
def rows(demo) -> list[dict]:
    return [json.loads(line) for line in (demo / "world" / "heldout.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def problems(rows) -> list[str]:
    return [row["problem"] for row in rows]


@pytest.fixture(scope="module")
def prm(tmp_path_factory) -> str:
    return str(build(PRM, tmp_path_factory.mktemp("prm")))


@pytest.fixture(scope="module")
def reranker(demo, prm):
    settings = RerankerSettings(
        SamplerSettings(str(demo / "grpo" / "model"), "cpu", max_context=256),
        ScorerSettings(PRM, prm, "cpu", separator="\n", max_context=1024),
        RewardConfig(style="think", workers=1),
    )
    with started(settings) as reranker:
        yield reranker


def solve_all(reranker, problems, method=METHOD, each=EIGHT, **more) -> list[Solved]:
    stream = reranker.solve_all.options(num_returns="streaming").remote(problems, method, each, **more)
    return [ray.get(reference) for reference in stream]


def actors(name: str) -> list[psutil.Process]:
    """The processes of this test's Ray actors of a class, without what they forked."""
    title = f"ray::{name}"
    mine = psutil.Process().children(recursive=True)
    titled = [one for one in mine if one.is_running() and title in " ".join(one.cmdline())]
    return [one for one in titled if title not in " ".join(one.parent().cmdline())]


def test_problem_is_solved_and_every_step_is_scored(reranker, problems):
    solution = ray.get(reranker.solve.remote(problems[0], METHOD, EIGHT))
    assert len(solution.attempts) == 8 and sum(solution.decision.votes) <= 8
    assert solution.answer == solution.attempts[solution.decision.attempt].answer
    for attempt in solution.attempts:
        lines = [
            line for line in attempt.text.split("\n") if line.strip() and line.strip() not in ("<think>", "</think>")
        ]
        assert len(attempt.scores) == len(lines), attempt.text
        assert all(0 <= score <= 1 for score in attempt.scores)
        assert 0 < attempt.tokens <= 128


def test_vote_is_better_than_one_attempt(reranker, rows, problems):
    solved = solve_all(reranker, problems[:100], max_concurrency=16)
    assert sorted(one.number for one in solved) == list(range(100))
    right = single = attempts = 0
    for one in solved:
        gold = str(rows[one.number]["answer"])
        right += one.solution.answer == gold
        single += sum(attempt.answer == gold for attempt in one.solution.attempts)
        attempts += len(one.solution.attempts)
    assert attempts == 800
    assert right / 100 > single / attempts


def test_progress_is_streamed(reranker, problems):
    stream = reranker.stream.options(num_returns="streaming").remote(problems[0], METHOD, EIGHT)
    *news, last = [ray.get(reference) for reference in stream]
    assert [one.attempts for one in news] == list(range(1, 9)) and all(isinstance(one, Progress) for one in news)
    assert isinstance(last, Solved) and last.solution.answer == news[-1].answer


def test_early_stop_saves_attempts(reranker, problems):
    method = Method(METHOD.turns, stop=confident(0.9), max_concurrency=4, style="think")
    solved = solve_all(reranker, problems[:20], method, Limits(attempts=32), max_concurrency=8)
    assert sum(one.solution.decision.attempts for one in solved) < 20 * 32 * 0.7
    assert any(one.solution.decision.tokens_saved > 0 for one in solved)


FLOOR = ByConfidence(keep=0.6, window=8, warm_up=4)


@pytest.mark.parametrize("more", [{}, {"confidence": FLOOR}, {"max_concurrency": 5}], ids=["waves", "floor", "five"])
def test_attempts_of_one_seed_are_equal_whatever_the_engine_does_besides(reranker, problems, more):
    """On CPUs with AMX the logits of a token depend on the other requests, see docs/solve.md."""
    if "amx_bf16" in Path("/proc/cpuinfo").read_text():
        pytest.skip("logits depend on the batch here")
    turns = one_solver("", Sampling(temperature=1.9, max_tokens=128, seed=5))
    method = Method(turns, stop=confident(0.95), style="think", **more)
    runs = []
    for at_once in (1, 12):
        solved = solve_all(reranker, problems[:12], method, Limits(attempts=16), max_concurrency=at_once)
        runs.append({one.number: [(each.text, each.tokens, each.answer, each.finished, each.confidence)
                                  for each in one.solution.attempts] for one in solved})  # fmt: skip
    assert runs[0] == runs[1] and len({len(attempts) for attempts in runs[0].values()}) > 1 - bool(more)


def test_confidence_is_measured_and_unsure_attempts_are_ended(reranker, problems):
    by = ByConfidence(keep=0.01, window=8, warm_up=4)  # only the surest of the first four would pass
    method = replace(HOT, rule=most_confident, confidence=by, max_concurrency=8)  # four are under way by then
    result = [one.solution for one in solve_all(reranker, problems[:8], method, Limits(attempts=16))]
    attempts = [attempt for one in result for attempt in one.attempts]
    assert all(one.confidence.lowest >= 0 >= one.confidence.logprob for one in attempts)
    ended = [one for one in attempts if one.finished == UNSURE]
    assert ended and all(one.answer is None and 8 <= one.tokens < 128 for one in ended)
    assert all(sum(each.tokens for each in one.attempts) <= one.decision.tokens for one in result)  # some were dropped


def test_attempts_below_the_confidence_floor_are_stopped_and_do_not_vote(reranker, problems):
    by = ByConfidence(keep=0.5, window=8, warm_up=4)
    method = replace(HOT, rule=most_confident, confidence=by, max_concurrency=4)
    ended = 0
    for solved in solve_all(reranker, problems[:8], method, Limits(attempts=16, tokens=10**6)):
        solution, attempts = solved.solution, solved.solution.attempts
        lowest = sorted(one.confidence.lowest for one in attempts[:4])
        floor = (lowest[1] + lowest[2]) / 2  # the median, which half of them reach
        assert len(attempts) == 16 and not any(one.finished == UNSURE for one in attempts[:4])
        for one in attempts[4:]:
            if one.tokens < by.window:
                assert one.finished != UNSURE  # it ended before its first group was full
                continue
            assert abs(one.confidence.lowest - floor) < 1e-5 or (one.confidence.lowest < floor) == (
                one.finished == UNSURE
            )
        ended += sum(one.finished == UNSURE for one in attempts)
        assert solution.decision.tokens >= sum(one.tokens for one in attempts)  # some were dropped

        answered = [number for number, one in enumerate(attempts) if one.answer is not None]
        surest = sorted(answered, key=lambda number: -attempts[number].confidence.tail)[: -(-len(answered) // 2)]
        weights = Counter()
        for number in surest:
            weights[solution.answer_clusters[number]] += attempts[number].confidence.tail
        best = max(weights, key=weights.__getitem__)
        assert solution.answer_clusters[solution.decision.attempt] == best
        assert solution.answer == attempts[solution.decision.attempt].answer
    assert ended


def test_answers_beyond_the_context_fall_back_to_a_vote(reranker, problems):
    """256 tokens of context hold no question with two solutions in it."""
    method = replace(HOT, rule=RULES["genselect"])
    result = [one.solution for one in solve_all(reranker, problems[:8], method)]
    asked = [one for one in result if len(one.decision.votes) > 1]
    assert asked and not any(one.decision.by_model for one in result)
    for one in asked:
        votes = Counter(attempt.answer for attempt in one.attempts if attempt.answer is not None)
        assert votes[one.answer] == max(votes.values())


def test_problem_beyond_the_context_does_not_affect_others(reranker, problems):
    solved = sorted(solve_all(reranker, [problems[0], "why? " * 400, "", problems[1]]), key=lambda one: one.number)
    assert [one.error is None for one in solved] == [True, False, False, True]
    assert "context is 256" in solved[1].error and "empty" in solved[2].error
    with pytest.raises(RequestError, match="empty"):
        try:
            ray.get(reranker.solve.remote(" ", METHOD, EIGHT))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None


STEPS = Steps(width=2, depth=12, step_tokens=40, separator="\n")
STRATEGIES = {
    "beam": {"strategy": beam_search(STEPS)},
    "dvts": {"strategy": diverse_tree_search(STEPS)},
    "refined": {"strategy": refined(independent, 2)},
    "panel": {"turns": panel(AGENTS["panel"], "", Sampling(temperature=1.0, max_tokens=128)), "rule": chairman},
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_solves_with_real_engines(reranker, problems, name):
    method = replace(METHOD, **STRATEGIES[name])
    solved = solve_all(reranker, problems[:8], method)
    assert all(one.error is None and one.solution.decision.attempts <= 8 for one in solved)
    attempts = [attempt for one in solved for attempt in one.solution.attempts]
    answered = sum(attempt.answer is not None for attempt in attempts)
    learned = name != "panel"  # whose instructions the model has never seen
    assert answered > (len(attempts) / 2 if learned else 0)
    assert all(attempt.scores is not None for attempt in attempts)
    assert all(one.solution.decision.tokens > 0 for one in solved)
    if name == "panel":
        assert {attempt.by for attempt in attempts} == {agent.name for agent in AGENTS["panel"]}


def test_answer_is_returned_at_the_deadline(reranker, problems):
    begun = time.monotonic()
    method = Method(METHOD.turns, rule=weighted, stop=never, max_concurrency=4, style="think")
    solution = ray.get(reranker.solve.remote(problems[0], method, Limits(attempts=100_000, seconds=3)))
    assert time.monotonic() - begun < 60
    assert solution.decision.ended == "seconds" and solution.answer is not None


def test_cancelled_calls_do_not_affect_the_others(reranker, problems):
    calls = [reranker.solve.remote(problem, METHOD, Limits(attempts=4)) for problem in problems[:100]]
    for call in calls[::5]:
        ray.cancel(call)
    answered = cancelled = 0
    for number, call in enumerate(calls):
        try:
            assert ray.get(call, timeout=120).problem == problems[number]
            answered += 1
        except (ray.exceptions.TaskCancelledError, ray.exceptions.RayTaskError):
            assert number % 5 == 0
            cancelled += 1
    assert answered >= 80 and cancelled >= 1
    assert ray.get(reranker.solve.remote(problems[0], METHOD, EIGHT), timeout=60).decision.attempts == 8


@pytest.mark.parametrize(
    "name", ["ScoringEngine", pytest.param("SamplingEngine", marks=pytest.mark.slow), "SamplingEngine's engine"]
)
def test_batch_completes_after_a_kill(reranker, problems, name):
    calls = [reranker.solve.remote(problem, METHOD, EIGHT) for problem in problems[:60]]
    ray.wait(calls, num_returns=3, timeout=60)
    (actor,) = actors(name.removesuffix("'s engine"))
    victim = actor.children()[0] if name.endswith("engine") else actor
    os.kill(victim.pid, signal.SIGKILL)
    solutions = ray.get(calls, timeout=180)
    assert [solution.problem for solution in solutions] == problems[:60]
    assert {len(solution.attempts) for solution in solutions} == {8}
    unscored = [one.text for solution in solutions for one in solution.attempts if one.scores is None]
    assert unscored == []


def test_command_writes_a_votable_file_and_leaves_no_process(demo, prm, tmp_path):
    output = tmp_path / "solved.jsonl"
    command = [
        sys.executable, "-m", "openrlhf_math", "solve", "--model", str(demo / "grpo" / "model"), "--scorer", PRM,
        "--scorer-model", prm, "--separator", "\\n", "--share-device", "--file", str(demo / "world" / "heldout.jsonl"),
        "--max-problems", "6", "--instruction", "", "--style", "think", "--max-tokens", "128", "--max-context", "256",
        "--output", str(output),
    ]  # fmt: skip
    process, started_by_it = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), set()
    while process.poll() is None:
        started_by_it |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.2)
    shown = process.stdout.read()
    assert process.returncode == 0
    _, left = psutil.wait_procs(started_by_it, timeout=20)
    assert len(started_by_it) > 5 and not left
    assert "6 problems" in shown and "right:" in shown
    assert len(output.read_text().splitlines()) == 6
    vote = [sys.executable, "-m", "openrlhf_math", "vote", str(output), "--style", "think", "--json"]
    report = json.loads(subprocess.run(vote, capture_output=True, text=True, check=True).stdout)
    assert report["problems"] == 6 and "weighted, last" in report["rules"]
