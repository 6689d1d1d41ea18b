"""Rules that choose one of several attempts.

A rule is a function from the attempts' clusters (`answer_clusters.group`) and scores (`aggregate.aggregate`) to the
number of the chosen attempt, or None if no attempt has an answer. The answer is that attempt's. A user's own rule is
named by its dotted path, `package.module.function`.

Every tie goes to what came first: of two clusters the one whose first attempt is earlier, of two attempts the earlier.
Attempts without an answer are never chosen. Sums are exact (`math.fsum`), so without a tie the order of the attempts
does not matter to the cluster that wins.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Integral

from openrlhf_math.errors import UserError
from openrlhf_math.registry import Registry
from openrlhf_math.rerank.aggregate import probabilities
from openrlhf_math.rerank.early_stop import lead_probability

# A majority is clear when its lead over a cluster is not an accident with this probability, see `lead_probability`.
CLEAR = 0.9

Clusters = Sequence[int | None]
# A rule may have the attributes that `register_rule` sets.
Rule = Callable[[Clusters, Sequence[float]], int | None]
RULES: Registry[Rule] = Registry()


def register_rule(
    name: str, needs_scores: bool = True, sums: bool = True, needs_confidence: bool = False, asks: bool = False
) -> Callable[[Rule], Rule]:
    """Register a rule under a name.

    needs_scores: whether it reads the scores at all. sums: whether the cluster with the largest total wins, so that a
    lead can be too large to be lost. needs_confidence: whether it is given the attempts' confidence in place of scores,
    see `confidence.weights`. asks: whether a model chooses in the end, see `genselect`; until then, and where it names
    none, the rule does. A user's rule may set attributes of these names; without them it reads scores and does
    not sum.
    """
    return RULES.register(name, needs_scores=needs_scores, sums=sums, needs_confidence=needs_confidence, asks=asks)


def find_rule(name: str) -> Rule:
    """A known rule, or a user's own by dotted path. Raises UserError if there is none.

    A user's own raises UserError where it chooses no attempt that could be chosen.
    """
    rule = RULES.find("--rule", name)
    return rule if name in RULES else _checked(name, rule)


def _checked(name: str, rule: Rule) -> Rule:
    def checked(clusters: Clusters, scores: Sequence[float]) -> int | None:
        number = rule(clusters, scores)
        if number is None:
            return None
        if not isinstance(number, Integral) or not 0 <= number < len(clusters) or clusters[int(number)] is None:
            wanted = f"a number from 0 to {len(clusters) - 1} of an attempt with an answer, or None"
            raise UserError(f"--rule {name}: it returned {number!r:.60}; let it return {wanted}")
        return int(number)

    checked.__name__ = getattr(rule, "__name__", name)
    attributes = ("needs_scores", "sums", "needs_confidence", "asks")
    vars(checked).update({each: getattr(rule, each) for each in attributes if hasattr(rule, each)})
    return checked


def needs_scores(rule: Rule) -> bool:
    return getattr(rule, "needs_scores", True)


def needs_confidence(rule: Rule) -> bool:
    return getattr(rule, "needs_confidence", False)


def asks(rule: Rule) -> bool:
    return getattr(rule, "asks", False)


def sums(rule: Rule) -> bool:
    return getattr(rule, "sums", False)


@register_rule("majority", needs_scores=False)
def majority(clusters: Clusters, scores: Sequence[float] = ()) -> int | None:
    """The first attempt of the cluster with most attempts: argmax_c sum_i [c_i = c].

    Self-consistency, Wang et al., https://arxiv.org/abs/2203.11171; maj@k where k attempts vote.
    """
    votes: dict[int, int] = {}
    for name in clusters:
        if name is not None:
            votes[name] = votes.get(name, 0) + 1
    return clusters.index(max(votes, key=votes.__getitem__)) if votes else None


@register_rule("genselect", needs_scores=False, sums=False, asks=True)
def genselect(clusters: Clusters, scores: Sequence[float] = ()) -> int | None:
    """The majority, until a model has read the candidates, see `genselect`."""
    return majority(clusters, scores)


@register_rule("weighted")
def weighted(clusters: Clusters, scores: Sequence[float]) -> int | None:
    """The first attempt of the cluster with the largest sum of weights: argmax_c sum_i [c_i = c] w_i.

    Math-Shepherd, https://arxiv.org/abs/2312.08935, section 3.4. Weights are the scores if all of them can be
    probabilities. Else they are logits, and weights their softmax over the problem's attempts, which a shift of all
    scores does not change. Where nothing weighs anything, as if no attempt is scored, the majority wins.
    """
    winner = _heaviest(clusters, _weights(scores))
    return None if winner is None else clusters.index(winner)


@register_rule("confident", needs_scores=False, needs_confidence=True)
def most_confident(clusters: Clusters, weights: Sequence[float]) -> int | None:
    """The first attempt of the cluster with the largest sum of confidences: argmax_c sum_i [c_i = c] w_i.

    Confidence-weighted majority voting of DeepConf, https://arxiv.org/abs/2508.15260. weights: 0 or more.
    """
    winner = _heaviest(clusters, weights)
    return None if winner is None else clusters.index(winner)


@register_rule("best_of_n", sums=False)
def best_of_n(clusters: Clusters, scores: Sequence[float]) -> int | None:
    """The attempt with the highest score: argmax_i s_i. Let's Verify Step by Step, https://arxiv.org/abs/2305.20050.

    Among equal scores the cluster with the most votes wins: where no attempt is scored, the majority.
    """
    votes = Counter(clusters)
    answered = [number for number, name in enumerate(clusters) if name is not None]
    return max(answered, key=lambda number: (scores[number], votes[clusters[number]]), default=None)


@register_rule("weighted_best_of_n")
def weighted_best_of_n(clusters: Clusters, scores: Sequence[float]) -> int | None:
    """The best attempt of the cluster with the largest sum of scores: argmax_{i: c_i = c*} s_i, c* as in `weighted`.

    "Best-of-N weighted" of Snell et al., https://arxiv.org/abs/2408.03314, and of Hugging Face's search-and-learn. Its
    answer is that of `weighted`; what differs is the solution that represents it.
    """
    winner = _heaviest(clusters, _weights(scores))
    if winner is None:
        return None
    return best_of_n([name if name == winner else None for name in clusters], scores)


@register_rule("chairman", sums=False)
def chairman(clusters: Clusters, scores: Sequence[float]) -> int | None:
    """How a panel with a verifier is led: a clear majority is followed, else the verifier judges among those in front.

    In front are the cluster with most votes, c*, and those it is not clearly ahead of: F = {c: P(c* leads c) < CLEAR}.
    The attempt with the highest score among them is chosen, argmax_{i: c_i in F} s_i. Votes of 3:0, 5:1 and 6:2 are
    clear, 2:0 and 4:1 are not: a lucky score does not overrule many votes, and a split vote is not left to chance.
    """
    votes = Counter(name for name in clusters if name is not None)
    most = max(votes.values(), default=0)
    front = {name for name, count in votes.items() if count == most or lead_probability(most, count) < CLEAR}
    return best_of_n([name if name in front else None for name in clusters], scores)


def _heaviest(clusters: Clusters, weights: Sequence[float]) -> int | None:
    members: dict[int, list[float]] = {}
    for name, weight in zip(clusters, weights, strict=True):
        if name is not None:
            members.setdefault(name, []).append(weight)
    totals = {name: math.fsum(values) for name, values in members.items()}
    if not any(totals.values()):
        totals = {name: len(values) for name, values in members.items()}
    return max(totals, key=totals.__getitem__) if totals else None


def _weights(scores: Sequence[float]) -> list[float]:
    return list(scores) if probabilities(scores) else softmax(scores)


def softmax(logits: Sequence[float]) -> list[float]:
    """e^l_i / sum_j e^l_j; of at least one finite logit."""
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]
