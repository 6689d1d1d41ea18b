"""A small world for strategies: a path of digits, of which a sampler knows little and a scorer sees every step."""

import asyncio
import random
import re
from dataclasses import dataclass, field

from openrlhf_math.rerank.anytime import VoteState, decide
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.early_stop import never
from openrlhf_math.rerank.roles import Completion, RequestError, Sampling
from openrlhf_math.rerank.task import Task, Turn

PATH = "31213321"
DIGITS = "123"
ATTEMPTS = Limits(attempts=32)


@dataclass
class PathSampler:
    """Writes one digit a step, the right one by chance; after the last it boxes them. A step is one token.

    refuses: whether a prefix is refused. hangs_after: steps after which every request waits for ever.
    """

    refuses: object = lambda prefix: False
    hangs_after: float = float("inf")
    calls: list[Sampling] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    tokens: int = 0

    async def complete(self, messages, sampling):
        self.calls.append(sampling)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(3600 if len(self.calls) > self.hangs_after else 0)
            if self.refuses(sampling.prefix):
                raise RequestError("the context is full")
            completion = self.write(sampling)
            self.tokens += completion.tokens
            return completion
        finally:
            self.under_way -= 1

    def write(self, sampling):
        chance = random.Random(f"{sampling.seed} {sampling.prefix}")
        text = ""
        for tokens in range(1, sampling.max_tokens + 1):
            digits = digits_of(sampling.prefix + text)
            if len(digits) == len(PATH):
                return Completion(text + rf"so \boxed{{{digits}}}", tokens, "eos")
            text += f"step {chance.choice(DIGITS)}\n\n"
            if "\n\n" in sampling.stop:
                return Completion(text, tokens, "stop")
        return Completion(text, sampling.max_tokens, "length")


@dataclass
class PathScorer:
    """0.9 for every right step, 0.2 for a wrong one and all after it. spoilt: scores for texts that begin so."""

    spoilt: dict[str, object] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)

    async def score(self, problem, responses):
        await asyncio.sleep(0)
        self.scored += responses
        return [self.one(text) for text in responses]

    def one(self, text):
        for part, score in self.spoilt.items():
            if text.startswith(part):
                return score
        digits = digits_of(text)
        return [0.9 if PATH.startswith(digits[:end]) else 0.2 for end in range(1, len(digits) + 1)] or None


def digits_of(text):
    return "".join(re.findall(r"step (\d)", text))


def task_of(sampler, scorer, limits=ATTEMPTS, seed=0, max_concurrency=8, max_tokens=100):
    def turn(number):
        return Turn([], Sampling(max_tokens=max_tokens, seed=seed + 1000 * number), f"agent {number}")

    return Task("which path?", turn, sampler, scorer, Budget(limits), max_concurrency)


def decided(strategy, task, rule, stop=never):
    """The decision, and the attempts it was made from."""

    async def run():
        state = VoteState(lambda first, second: False, rule)
        attempts = strategy(task)
        try:
            return await decide(attempts, task.budget, state, stop), state.attempts
        finally:
            await attempts.aclose()

    return asyncio.run(run())
