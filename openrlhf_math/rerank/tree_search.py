"""Search over steps: beams are extended one step at a time, and a process reward model says which are worth it.

Beam search: Snell et al., https://arxiv.org/abs/2408.03314, section 5.2; diverse verifier tree search: Beeching et al.,
"Scaling test-time compute with open models", https://huggingface.co/spaces/HuggingFaceH4/blogpost-scaling-test-time-compute
"""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from openrlhf_math.concurrency import end, gather
from openrlhf_math.rerank.aggregate import Aggregation, Scores, aggregate, last
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.roles import RequestError, Scorer
from openrlhf_math.rerank.steps import BLANK_LINE
from openrlhf_math.rerank.task import Strategy, Task, Turn, hands_over
from openrlhf_math.rewards.extract import extract

# Where the budget sets no number of attempts.
BEAMS = 16


@dataclass(frozen=True, slots=True)
class Steps:
    """How beams are extended. Raises ValueError for values that cannot work.

    width        M: continuations that are tried of each beam that is kept
    depth        most steps of a beam; the last is written to the end of the completion
    step_tokens  most tokens of one step
    separator    what ends a step
    aggregation  what makes one score of the step scores of a beam
    """

    width: int = 4
    depth: int = 40
    step_tokens: int = 512
    separator: str = BLANK_LINE
    aggregation: Aggregation = last

    def __post_init__(self) -> None:
        for name in ("width", "depth", "step_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not self.separator:
            raise ValueError("the separator is empty, it must be what ends a step")


def beam_search(steps: Steps = Steps()) -> Strategy:
    """N beams, N the attempts that the budget allows. At each step the N/M with the highest scores are kept, and M
    continuations of each are the next N.

    A beam that ends is an attempt, whatever its score; the others are fewer by it. Unfinished beams with the same text
    are one. When the budget is spent, the beams are returned as they are.

    The strategy needs a scorer. It raises RequestError if the sampler refuses the problem; a beam that is refused
    later, having filled the context, ends there.
    """
    return hands_over(lambda task: _search(task, steps, lambda beams: [beams]))


def diverse_tree_search(steps: Steps = Steps()) -> Strategy:
    """N/M independent trees, each a beam search with M beams: of M continuations the one with the
    highest score is continued.

    Beams of one search soon descend from the same first steps; here N/M first steps survive, so a step that the scorer
    likes too well costs one tree. See `beam_search` for the rest.
    """

    def trees(beams: Sequence[int]) -> list[Sequence[int]]:
        return [beams[begin : begin + steps.width] for begin in range(0, len(beams), steps.width)]

    return hands_over(lambda task: _search(task, steps, trees))


@dataclass(frozen=True, slots=True)
class _Beam:
    """text: of the assistant's turn so far, with its prefix. tokens: of what was written. finished: as of a completion;
    a beam that never ends is cut off. refused: why it ended."""

    turn: Turn
    text: str
    tokens: int = 0
    scores: Scores = None
    ended: bool = False
    finished: str = "length"
    refused: RequestError | None = None


Ended = asyncio.Queue[list[int] | None]  # numbers in `Budget.waiting`, of each depth; None: there are no more


async def _search(
    task: Task, steps: Steps, split: Callable[[Sequence[int]], list[Sequence[int]]]
) -> AsyncGenerator[Attempt, None]:
    """split: the numbers of the beams into those of each tree."""
    scorer = task.scorer
    if scorer is None:
        raise ValueError("a search over steps needs a scorer")
    beams: list[int] = []
    while (task.budget.limits.attempts is not None or len(beams) < BEAMS) and task.budget.begin():
        beams.append(len(beams))
    if not beams:
        return
    free, numbers = asyncio.Semaphore(task.max_concurrency), itertools.count()
    parts = split(beams)
    # With a seed each tree hands in by itself, and they are read in turn, depth by depth: see `strategies.independent`.
    in_order = task.turn(0).sampling.seed is not None
    ended: list[Ended] = [asyncio.Queue() for _ in parts] if in_order else [asyncio.Queue()] * len(parts)

    async def grow() -> list[RequestError | None]:
        try:
            trees = [_Tree(task, scorer, steps, *branch, free, numbers) for branch in zip(parts, ended, strict=True)]
            return await gather(tree.grow() for tree in trees)
        finally:
            for queue in ended:
                queue.put_nowait(None)

    growing = asyncio.create_task(grow())
    try:
        alive = list(ended)
        while alive:
            for queue in tuple(alive):
                handed = await queue.get()
                if handed is None:
                    alive.remove(queue)
                    continue
                for number in handed:
                    yield task.budget.waiting.pop(number)
        grown = await growing
        refused = [error for error in grown if error is not None]
        if len(refused) == len(grown):
            raise refused[0]
    finally:
        await end([growing])


class _Tree:
    """Beams that compete with each other."""

    def __init__(
        self,
        task: Task,
        scorer: Scorer,
        steps: Steps,
        numbers: Sequence[int],
        ended: Ended,
        free: asyncio.Semaphore,
        handed: Iterator[int],
    ) -> None:
        """numbers: of its beams. handed: the numbers that attempts get as they are handed in."""
        self._task, self._scorer, self._steps, self._numbers = task, scorer, steps, numbers
        self._ended, self._free, self._handed = ended, free, handed

    async def grow(self) -> RequestError | None:
        """Until all beams have ended. Returns why the sampler refuses even their first step, if it does."""
        refused = await self._grow()
        self._ended.put_nowait(None)
        return refused

    async def _grow(self) -> RequestError | None:
        turns = [self._task.turn(number) for number in self._numbers]
        beams = [_Beam(turn, turn.sampling.prefix) for turn in turns]
        room = len(beams)
        for depth in range(self._steps.depth):
            if self._task.budget.exhausted():
                break
            extended = await gather(self._extend(beam, depth, place) for place, beam in enumerate(beams))
            if depth == 0 and all(beam.refused for beam in extended):
                return extended[0].refused
            beams = await self._scored(_distinct(extended))
            values, _ = aggregate([beam.scores for beam in beams], self._steps.aggregation)
            ranked = sorted(range(len(beams)), key=lambda place: -values[place])
            alive = [beams[place] for place in ranked if not beams[place].ended]
            room -= self._hand_in([beam for beam in beams if beam.ended])
            if not alive:
                return None
            kept = alive[: -(-room // self._steps.width)]
            beams = [kept[place % len(kept)] for place in range(room)]
        self._hand_in(_distinct(beams))
        return None

    async def _extend(self, beam: _Beam, depth: int, place: int) -> _Beam:
        """The beam with one more step; with all of its rest where it may have no further one."""
        steps, sampling = self._steps, beam.turn.sampling
        rest, is_last = sampling.max_tokens - beam.tokens, depth + 1 == steps.depth
        asked = replace(
            sampling,
            prefix=beam.text,
            stop=sampling.stop if is_last else (*sampling.stop, steps.separator),
            max_tokens=rest if is_last else min(rest, steps.step_tokens),
            seed=_seed(sampling.seed, depth, place),
        )
        try:
            async with self._free:
                step = await self._task.sampler.complete(beam.turn.messages, asked)
        except RequestError as error:
            return replace(beam, ended=True, refused=error)
        text, tokens = _until(beam.text, step.text, sampling.stop), beam.tokens + step.tokens
        if sampling.stop and text.endswith(sampling.stop):  # also with the separator at its end
            return replace(beam, text=text, tokens=tokens, ended=True, finished="stop")
        goes_on = step.finished == "length" or step.finished == "stop" and text.endswith(steps.separator)
        if goes_on and not is_last and tokens < sampling.max_tokens:
            return replace(beam, text=text, tokens=tokens)
        finished = "length" if goes_on else step.finished
        return replace(beam, text=text, tokens=tokens, ended=True, finished=finished)

    async def _scored(self, beams: list[_Beam]) -> list[_Beam]:
        scores = await self._scorer.score(self._task.problem, [beam.text for beam in beams])
        return [replace(beam, scores=one) for beam, one in zip(beams, scores, strict=True)]

    def _hand_in(self, beams: list[_Beam]) -> int:
        waiting, numbers = self._task.budget.waiting, list(itertools.islice(self._handed, len(beams)))
        for number, beam in zip(numbers, beams, strict=True):
            answer = extract(beam.text, self._task.style).answer
            waiting[number] = Attempt(answer, beam.scores, beam.tokens, beam.text, beam.turn.by, beam.finished)
        self._ended.put_nowait(numbers)
        return len(beams)


def _distinct(beams: Sequence[_Beam]) -> list[_Beam]:
    """Beams to continue, each once; every beam that has ended is a separate vote."""
    first: dict[str, int] = {}
    for place, beam in enumerate(beams):
        if not beam.ended:
            first.setdefault(beam.text, place)
    return [beam for place, beam in enumerate(beams) if beam.ended or first[beam.text] == place]


def _until(before: str, step: str, stop: Sequence[str]) -> str:
    """A beam and its next step, as far as the first stop text that begins before the step: an engine looks for them in
    what it writes, and a step may begin within one."""
    text = before + step
    found = ((text.find(one, max(len(before) - len(one) + 1, 0)), one) for one in stop)
    ends = [place + len(one) for place, one in found if 0 <= place < len(before)]
    return text[: min(ends)] if ends else text


def _seed(seed: int | None, depth: int, place: int) -> int | None:
    """One for every step, or the copies of a beam would all go the same way."""
    return None if seed is None else random.Random(f"{seed}/{depth}/{place}").getrandbits(31)
