"""When more attempts cannot change the vote, or are unlikely to.

A stopping rule is a function from the clusters' totals (votes, or sums of scores), in the order in which the clusters
appeared, and the number of attempts still to come, to whether to stop. They suit rules that sum over clusters; a
best-of-n is open to the last attempt.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache

from openrlhf_math.errors import BadValue

Stop = Callable[[Sequence[float], float], bool]

# Further attempts that are looked at for the next wave.
MOST_LOOKED_AT = 1024


def never(totals: Sequence[float], remaining: float) -> bool:
    """Use up the budget."""
    return False


def cannot_lose(totals: Sequence[float], remaining: float) -> bool:
    """Whether the leading cluster wins whatever the remaining attempts say.

    An attempt adds 1 at most, a vote or a score that is a probability. A tie goes to the cluster that came first, as in
    `choose`, so an equal total is enough against those that came, or would come, later.
    """
    if not totals:
        return False
    leader = max(range(len(totals)), key=totals.__getitem__)
    earlier, later = totals[:leader], (*totals[leader + 1 :], 0.0)
    return all(total + remaining < totals[leader] for total in earlier) and all(
        total + remaining <= totals[leader] for total in later
    )


def wave(stop: Stop, totals: Sequence[float], remaining: float, bounded: bool = True) -> float:
    """Attempts that should be under way: the fewest that would end the vote if all of them agreed with its leader.

    More would be cancelled where they agree. Of a vote that is split, at least an eighth of those that remain: it would
    otherwise make its last attempts one after the other. Infinite where no number of attempts ends it early.

    bounded: whether an attempt adds at most 1 to a total, see `anytime.VoteState.bounded`.
    """
    most = math.ceil(min(remaining, MOST_LOOKED_AT))

    def ends(attempts: int) -> bool:
        leader = max(range(len(totals)), key=totals.__getitem__, default=0)
        then = list(totals) or [0.0]
        then[leader] += attempts
        return stop(then, remaining - attempts if bounded else math.inf)

    if not ends(most):
        return math.inf
    fewest = 1 + bisect_left(range(1, most + 1), True, key=ends)
    return max(fewest, math.ceil(most / 8)) if len(totals) > 1 else fewest


def confident(confidence: float) -> Stop:
    """Stop when the leader stays the leader of all attempts with this probability (`lead_probability`), or cannot lose.

    That it is right is another question: all attempts may agree on a wrong answer.
    Raises BadValue unless 0.5 < confidence < 1: nothing is ever surer than 1, and a mere lead is not enough.
    """
    if not 0.5 < confidence < 1:
        raise BadValue("confidence", confidence, "more than 0.5 and less than 1")

    def stop(totals: Sequence[float], remaining: float) -> bool:
        if not totals:
            return False
        first, second = sorted((0.0, *totals), reverse=True)[:2]
        # Sums of scores are votes in part: rounded so that the lead is never made larger.
        return math.floor(first) >= votes_needed(math.ceil(second), confidence) or cannot_lose(totals, remaining)

    return stop


@lru_cache(maxsize=1 << 14)
def lead_probability(first: int, second: int) -> float:
    """Posterior probability that the leading answer is more frequent than the second, given their votes.

    P(p > 1/2) for p ~ Beta(v1 + 1, v2 + 1), the posterior of a uniform prior over the share p of the leader among the
    two: the stopping rule of Adaptive-Consistency, Aggarwal et al., https://arxiv.org/abs/2305.11860, section 3. For
    whole numbers of votes it is a binomial tail, P(Bin(v1 + v2 + 1, 1/2) <= v1).
    """
    draws = first + second + 1
    ways = more = 1  # in which more than `first` of the draws succeed: as many as at most `second` do
    for successes in range(1, second + 1):
        ways = ways * (draws - successes + 1) // successes
        more += ways
    return (2**draws - more) / 2**draws


@lru_cache(maxsize=1 << 14)
def votes_needed(second: int, confidence: float) -> int:
    """The fewest votes with which a leader is ahead of `second` votes with this probability, see `lead_probability`."""
    most = second + 1
    while lead_probability(most, second) < confidence:
        most *= 2
    return bisect_left(range(most), True, lo=second, key=lambda first: lead_probability(first, second) >= confidence)


def attempts_needed(clusters: Sequence[int | None], stop: Stop) -> int:
    """After how many of the recorded attempts a vote that plans all of them would have stopped."""
    totals: dict[int, int] = {}
    for made, name in enumerate(clusters, start=1):
        if name is not None:
            totals[name] = totals.get(name, 0) + 1
        if stop(tuple(totals.values()), len(clusters) - made):
            return made
    return len(clusters)
