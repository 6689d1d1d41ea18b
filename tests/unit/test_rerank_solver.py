"""Solving a problem over a sampler and a scorer in memory."""

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from openrlhf_math.rerank.aggregate import product
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.choose import best_of_n, majority, weighted
from openrlhf_math.rerank.early_stop import cannot_lose, confident, never
from openrlhf_math.rerank.reranker import Reranker, Solved, row
from openrlhf_math.rerank.roles import Completion, CutOff, Lost, RequestError, Sampling
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rerank.strategies import independent, refined
from openrlhf_math.rewards import GradingPool, RewardConfig


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1))
    yield pool
    pool.close()


class Sampler:
    """Attempt i writes the i-th answer. Some take `seconds`, some twice or three times as many, `hanging` never end."""

    def __init__(self, answers: list[str], seconds: float = 0.0, hanging: Sequence[int] = ()) -> None:
        self.answers, self.seconds, self.hanging = answers, seconds, hanging
        self.asked, self.under_way, self.most, self.cancelled = [], 0, 0, 0

    async def complete(self, messages, sampling: Sampling) -> Completion:
        number = len(self.asked)
        self.asked.append((messages, sampling))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(3600 if number in self.hanging else self.seconds * (1 + number % 3))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        return Completion(self.answers[number], 10, "eos")


class Scorer:
    def __init__(self, scores: dict) -> None:
        self.scores = scores

    async def score(self, problem: str, responses) -> list:
        return [self.scores.get(response) for response in responses]


def box(*answers: str) -> list[str]:
    return [f"so it is \\boxed{{{answer}}}" for answer in answers]


METHOD = Method(one_solver("Think.", Sampling(seed=7)), stop=never)


def solve(pool, sampler, scorer=None, method: Method = METHOD, **limits):
    budget = Budget(Limits(**{"attempts": len(sampler.answers)} | limits))
    return asyncio.run(Solver(sampler, scorer, pool).solve("What is it?", method, budget))


def test_equal_answers_vote_together(pool):
    solution = solve(pool, Sampler(box("2", "1/2", "0.5", r"\frac{1}{2}", "2")))
    assert solution.answer == "1/2"
    assert solution.decision.votes == (2, 3)
    assert solution.answer_clusters == (0, 1, 1, 1, 0)
    assert solution.text == box("1/2")[0]


def test_scores_weigh_the_votes(pool):
    answers = box("2", "2", "3")
    scorer = Scorer({answers[0]: [0.9, 0.1], answers[2]: [0.9, 0.8]})
    method = replace(METHOD, rule=weighted, aggregation=product)
    solution = solve(pool, Sampler(answers), scorer, method)
    assert solution.answer == "3"
    assert solution.scores == pytest.approx((0.09, 0.09, 0.72))
    assert solve(pool, Sampler(answers), scorer, replace(method, rule=majority)).answer == "2"


def test_every_attempt_has_problem_instruction_and_a_distinct_seed(pool):
    sampler = Sampler(box("1", "1", "1"))
    solve(pool, sampler)
    seeds = [sampling.seed for _, sampling in sampler.asked]
    assert len(set(seeds)) == 3
    again, other = Sampler(box("1", "1", "1")), Sampler(box("1", "1", "1"))
    solve(pool, again)
    solve(pool, other, method=replace(METHOD, turns=one_solver("Think.", Sampling(seed=8))))
    assert [sampling.seed for _, sampling in again.asked] == seeds
    assert not set(seeds) & {sampling.seed for _, sampling in other.asked}
    assert sampler.asked[0][0] == [{"role": "user", "content": "What is it?\nThink."}]


def test_concurrent_attempts_are_limited(pool):
    sampler = Sampler(box(*"11111111"), seconds=0.01)
    solve(pool, sampler, method=replace(METHOD, max_concurrency=3))
    assert sampler.most == 3 and len(sampler.asked) == 8


def test_decided_vote_ends_and_cancels_running_attempts(pool):
    sampler = Sampler(box(*"111111111111"), hanging=range(6, 12))
    solution = solve(pool, sampler, method=replace(METHOD, stop=cannot_lose, max_concurrency=4))
    assert solution.decision.ended == "early"
    assert sampler.cancelled > 0 and sampler.under_way == 0
    begun = len(sampler.asked)
    assert begun < 12
    assert solution.decision.tokens_saved == (12 - begun) * 10, "what was begun is not saved"


class SlowAfter(Sampler):
    """The first `quick` completions take no time, the others write 4 tokens and hang."""

    def __init__(self, answers: list[str], quick: int) -> None:
        super().__init__(answers)
        self.quick = quick

    async def complete(self, messages, sampling: Sampling) -> Completion:
        if len(self.asked) < self.quick:
            return await super().complete(messages, sampling)
        self.asked.append((messages, sampling))
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise CutOff(4) from None


def test_tokens_of_cancelled_attempts_count(pool):
    sampler = SlowAfter(box(*"1" * 12), quick=6)
    solution = solve(pool, sampler, method=replace(METHOD, stop=cannot_lose, max_concurrency=12))
    decision = solution.decision
    assert decision.ended == "early" and decision.attempts == 6 and decision.not_counted == 6
    assert decision.tokens == 6 * 10 + 6 * 4
    assert decision.tokens_saved == 6 * 10 - 6 * 4


def test_set_is_charged_for_cancelled_attempts(pool):
    sampler = SlowAfter(box(*"1" * 12), quick=6)
    reranker = Reranker(Solver(sampler, None, pool))
    method = replace(METHOD, stop=cannot_lose, max_concurrency=12)

    async def run():
        each, total = Limits(attempts=12), Limits(tokens=80)
        return [one async for one in reranker.solve_all(["a", "b"], method, each, total, max_concurrency=1)]

    first, second = sorted(asyncio.run(run()), key=lambda solved: solved.number)
    assert first.solution.decision.tokens == 84
    assert second.solution.decision.ended == "tokens" and second.solution.decision.attempts == 0


@pytest.mark.parametrize("stop, begun", [(cannot_lose, 6), (confident(0.9), 3), (never, 12)])
def test_attempts_start_in_waves_that_could_decide_the_vote(pool, stop, begun):
    sampler = Sampler(box(*"1" * 12), seconds=0.01)
    solution = solve(pool, sampler, method=replace(METHOD, stop=stop))
    assert len(sampler.asked) == begun == len(solution.attempts) and sampler.cancelled == 0


def test_split_vote_starts_more_attempts(pool):
    sampler = Sampler(box(*"121212121212"), seconds=0.01)
    solution = solve(pool, sampler, method=replace(METHOD, stop=cannot_lose))
    assert len(sampler.asked) == 11 and solution.answer == "1"  # 6 : 5, and a tie goes to the first


def test_deadline_returns_the_best_answer(pool):
    sampler = Sampler(box("5") * 100, seconds=0.05)
    started = time.monotonic()
    solution = solve(pool, sampler, method=replace(METHOD, max_concurrency=2), seconds=0.4)
    assert time.monotonic() - started < 20
    assert solution.decision.ended == "seconds" and solution.answer == "5"
    assert 0 < len(solution.attempts) < 100 and sampler.under_way == 0


def test_no_attempt_starts_beyond_the_token_budget(pool):
    sampler = Sampler(box("5") * 100)
    solution = solve(pool, sampler, method=replace(METHOD, max_concurrency=1), tokens=35)
    assert solution.decision.ended == "tokens" and len(sampler.asked) == 4


@pytest.mark.parametrize("text", ["", "no box at all", "\\boxed{}", "\\boxed{", "ки + <extra_0>"])
def test_attempts_without_an_answer_give_none(pool, text):
    solution = solve(pool, Sampler([text] * 3))
    assert solution.answer is None and solution.text == "" and len(solution.attempts) == 3


@pytest.mark.parametrize("scores", [float("nan"), [0.5, float("nan")], None, [], [float("inf")]])
def test_attempt_without_a_score_is_never_preferred(pool, scores):
    answers = box("2", "3")
    method = replace(METHOD, rule=best_of_n)
    solution = solve(pool, Sampler(answers), Scorer({answers[0]: scores, answers[1]: [0.01]}), method)
    assert solution.answer == "3" and solution.decision.unscored == 1


@pytest.mark.parametrize("problem", ["", " \n\t"])
def test_empty_problem_is_refused(pool, problem):
    sampler = Sampler(box("1"))
    with pytest.raises(RequestError, match="empty"):
        asyncio.run(Solver(sampler, None, pool).solve(problem, METHOD, Budget(Limits(attempts=1))))
    assert not sampler.asked


def test_sampler_refusal_is_reported_and_cancels_the_others(pool):
    class Refuses(Sampler):
        async def complete(self, messages, sampling):
            if len(self.asked) == 2:
                raise RequestError("no room")
            return await super().complete(messages, sampling)

    sampler = Refuses(box("1") * 8, seconds=5)
    with pytest.raises(RequestError, match="no room"):
        solve(pool, sampler)
    assert sampler.cancelled == 2 and sampler.under_way == 0


def test_refusal_of_every_attempt_is_retrieved(pool):
    """An unretrieved exception is logged by asyncio, with its traceback, once an attempt."""

    class Refuses(Sampler):
        async def complete(self, messages, sampling):
            raise RequestError("no room")

    async def run() -> list[dict]:
        logged: list[dict] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: logged.append(context))
        with pytest.raises(RequestError, match="no room"):
            await Solver(Refuses([]), None, pool).solve("What?", METHOD, Budget(Limits(attempts=8)))
        gc.collect()
        return logged

    assert asyncio.run(run()) == []


@pytest.mark.parametrize("broken", ["sampler", "scorer", "rule", "strategy"])
def test_stream_ends_with_what_solving_raises(pool, broken):
    """A sampler, scorer, rule or strategy that fails with anything but a RequestError."""

    def fails(*_):
        raise ZeroDivisionError(broken)

    async def fails_later(*_):
        fails()

    sampler, scorer, method = Sampler(box("1", "2")), Scorer({}), METHOD
    if broken == "sampler":
        sampler.complete = fails_later
    elif broken == "scorer":
        scorer.score = fails_later
    else:
        method = replace(METHOD, **{broken: fails})
    reranker = Reranker(Solver(sampler, scorer, pool))

    async def news() -> list:
        return [one async for one in reranker.stream("What?", method, Limits(attempts=2))]

    with pytest.raises(ZeroDivisionError, match=broken):
        asyncio.run(asyncio.wait_for(news(), 30))


def test_cancelling_a_problem_cancels_its_attempts(pool):
    async def run(sampler) -> None:
        budget = Budget(Limits(attempts=4))
        solving = asyncio.create_task(Solver(sampler, None, pool).solve("What?", METHOD, budget))
        await asyncio.sleep(0.05)
        solving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await solving

    sampler = Sampler(box("1") * 4, seconds=5)
    asyncio.run(run(sampler))
    assert sampler.cancelled == 4 and sampler.under_way == 0


class Slow:
    """Every attempt takes as long, and has an answer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def complete(self, messages, sampling):
        await asyncio.sleep(self.seconds)
        return Completion("\\boxed{1}", 10, "eos")


def test_small_total_budget_serves_the_first_problems(pool):
    """An equal share is a third of an attempt: it would answer none."""
    reranker = Reranker(Solver(Slow(0.15), None, pool))
    problems = [f"What is {number}?" for number in range(40)]
    each, total = Limits(attempts=1, seconds=100), Limits(seconds=1)

    async def solved() -> list:
        return [one async for one in reranker.solve_all(problems, METHOD, each, total, max_concurrency=2)]

    started = time.monotonic()
    answered = sorted(one.number for one in asyncio.run(solved()) if one.solution.answer == "1")
    assert time.monotonic() - started < 10
    assert answered == list(range(len(answered))) and 2 <= len(answered) < 40


def test_stopping_gives_every_problem_its_best_answer(pool):
    class Half(Slow):
        """The second attempt at a problem never ends."""

        asked: set[str] = set()

        async def complete(self, messages, sampling):
            problem = messages[-1]["content"]
            if problem in self.asked:
                await asyncio.sleep(3600)
            self.asked.add(problem)
            return await super().complete(messages, sampling)

    reranker = Reranker(Solver(Half(0), None, pool))
    counted = []

    async def solved() -> list:
        method = replace(METHOD, max_concurrency=1)
        problems = ["a?", "b?", "c?"]
        done = []
        async for one in reranker.solve_all(
            problems, method, Limits(attempts=9), max_concurrency=2, counted=counted.append
        ):
            done.append(one)
        return done

    async def run() -> list:
        solving = asyncio.create_task(solved())
        while len(counted) < 2:
            await asyncio.sleep(0.01)
        await reranker.stop()
        return await asyncio.wait_for(solving, 30)

    done = sorted(asyncio.run(run()), key=lambda one: one.number)
    assert [one.solution.answer for one in done] == ["1", "1", None]
    assert {one.solution.decision.ended for one in done} == {"interrupted"}


class Unsteady(Sampler):
    """What an attempt writes depends on its seed, how long it takes on chance. The seed of each call is kept."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__([])
        self.chance = chance

    async def complete(self, messages, sampling: Sampling) -> Completion:
        self.asked.append(sampling.seed)
        text = messages[-1]["content"]
        try:
            await asyncio.sleep(self.chance.choice((0, 0, 0.001, 0.004)))
        except asyncio.CancelledError:
            raise CutOff(self.chance.randrange(9)) from None
        draw = random.Random(f"{sampling.seed} {text}")
        if draw.random() < 0.1:
            raise Lost("no reply")
        answer = draw.choice("1112234")
        return Completion(f"\\boxed{{{answer}}}", draw.randrange(10, 90), "eos")


class ByText:
    async def score(self, problem: str, responses) -> list:
        return [[random.Random(text).random()] for text in responses]


def fields_of(solution) -> dict:
    """All of a row that two runs must share: what a cancelled attempt had written depends on the moment."""
    line = row(0, "What is it?", None, Solved(0, solution))
    return {name: value for name, value in line.items() if name not in ("seconds", "tokens_used", "tokens_saved")}


@pytest.mark.parametrize("waves", [None, 3])
@pytest.mark.parametrize("stop", [cannot_lose, confident(0.9), never])
@pytest.mark.parametrize("strategy, rule", [(independent, majority), (refined(independent, 3), weighted)])
def test_runs_of_one_seed_are_equal_whatever_ends_first(pool, strategy, rule, stop, waves):
    method = replace(METHOD, strategy=strategy, rule=rule, stop=stop, max_concurrency=waves)
    for seed in range(4):
        asks = replace(method, turns=one_solver("Think.", Sampling(seed=seed)))
        runs, begun = [], []
        for chance in range(4):
            sampler = Unsteady(random.Random(chance))
            budget = Budget(Limits(attempts=24))
            solution = asyncio.run(Solver(sampler, ByText(), pool).solve("What is it?", asks, budget))
            runs.append(fields_of(solution))
            begun.append(set(sampler.asked))
        assert runs[1:] == runs[:1] * 3
        assert begun[1:] == begun[:1] * 3


def test_attempts_without_a_seed_count_as_they_end(pool):
    done = []

    class LastFirst(Sampler):
        async def complete(self, messages, sampling):
            number = len(self.asked)
            self.asked.append(sampling)
            while len(done) < 2 - number:
                await asyncio.sleep(0.001)
            return Completion(self.answers[number], 10, "eos")

    method = replace(METHOD, turns=one_solver("Think.", Sampling()))
    solver = Solver(LastFirst(box(*"312")), None, pool)
    solution = asyncio.run(solver.solve("What?", method, Budget(Limits(attempts=3)), done.append))
    assert [attempt.answer for attempt in solution.attempts] == ["2", "1", "3"]


def test_deadline_counts_attempts_that_wait_for_an_earlier_one(pool):
    class FirstHangs(Sampler):
        async def complete(self, messages, sampling):
            first = not self.asked
            completion = await super().complete(messages, sampling)
            if first:
                await asyncio.sleep(3600)
            return completion

    solution = solve(pool, FirstHangs(box(*"1223")), seconds=0.3)
    assert solution.decision.ended == "seconds" and solution.answer == "2"
    assert solution.decision.votes == (2, 1) and solution.decision.not_counted == 1


def test_deadline_counts_nothing_that_a_strategy_of_the_user_might_drop(pool):
    class FirstHangs(Sampler):
        async def complete(self, messages, sampling):
            first = not self.asked
            completion = await super().complete(messages, sampling)
            if first:
                await asyncio.sleep(3600)
            return completion

    async def without_twos(task):
        async for attempt in independent(task):
            if attempt.answer != "2":
                yield attempt

    method = replace(METHOD, strategy=without_twos)
    solution = solve(pool, FirstHangs(box(*"1223")), method=method, seconds=0.3)
    assert solution.decision.ended == "seconds" and solution.answer is None


def test_tokens_of_attempts_that_are_not_needed_are_not_saved(pool):
    class LaterFirst(Sampler):
        async def complete(self, messages, sampling):
            number = len(self.asked)
            self.asked.append(sampling)
            await asyncio.sleep(0 if number >= 6 else 0.05 + 0.01 * number)
            return Completion(self.answers[number], 10, "eos")

    method = replace(METHOD, stop=cannot_lose, max_concurrency=8)
    decision = solve(pool, LaterFirst(box(*"1" * 12)), method=method).decision
    assert decision.ended == "early" and decision.attempts == 6
    begun = decision.attempts + decision.not_counted
    assert begun > 8 and decision.tokens + decision.tokens_saved <= 12 * 10
