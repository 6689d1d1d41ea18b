"""How sure a model was of what it wrote: measures of an attempt out of its tokens' log-probabilities.

DeepConf, https://arxiv.org/abs/2508.15260, section 3: the confidence of a token is C = -1/k sum_j log P(j) over its k
most likely candidates j. It is large where one candidate has all the probability, and log k or a little more where k
share it. A group is a window of tokens that slides by one. P is the model's own distribution, before temperature.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vllm.logprobs import FlatLogprobs

# What DeepConf takes.
CANDIDATES = 20
WINDOW = 2048
ROUNDING = 1e-6  # nats: of a running sum; without it, an attempt exactly at the floor could fall below it
LOWEST_GROUPS = 0.1  # share of the groups in `bottom`


@dataclass(frozen=True, slots=True)
class Watch:
    """What is read while a completion is written.

    candidates  most likely tokens at each place, k
    window      tokens of a group, and of the tail
    floor       the completion ends when the mean confidence of its last `window` tokens is lower; None: never
    """

    candidates: int = CANDIDATES
    window: int = WINDOW
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Confidence:
    """Of one completion; a group is of `Watch.window` tokens, or of all where there are fewer. Nats.

    mean, tail         token confidence over all tokens, and over the last group
    lowest, bottom     group confidence: the lowest, and the mean of the lowest tenth of the groups, at least one
    logprob, tail_logprob, lowest_logprob   the same three of log P of the tokens that were drawn
    entropy            mean over tokens of the entropy of P, the candidates beyond k taken for one: a lower bound
    """

    mean: float
    tail: float
    lowest: float
    bottom: float
    logprob: float
    tail_logprob: float
    lowest_logprob: float
    entropy: float


# One completion's figures as an attempt or a recorded row has them: a single number is used for every measure.
Figures = Confidence | Mapping[str, float] | float | None


class Meter:
    """Reads a completion as it is written."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._confidence: list[float] = []
        self._drawn: list[float] = []
        self._entropy: list[float] = []
        self._sum = 0.0  # of the last `window` tokens
        self.sank = False  # whether `window` tokens were below the floor; fewer say nothing

    def extend(self, drawn: np.ndarray, candidates: np.ndarray) -> None:
        """Further tokens; one without finite numbers is left out: it says nothing.

        drawn: their log-probabilities, float [tokens]. candidates: those of the most likely tokens at each place,
        [tokens, any number] in any order, of which `Watch.candidates` are read; NaN where there are fewer.
        """
        candidates = np.where(np.isfinite(candidates), candidates, np.nan)
        candidates = -np.sort(-candidates, axis=1)[:, : self._watch.candidates]  # NaN comes last
        known = np.isfinite(candidates).sum(axis=1)
        says = (known > 0) & np.isfinite(drawn)
        drawn, candidates, known = drawn[says], np.minimum(candidates[says], 0.0), known[says]
        confidence = -np.nansum(candidates, axis=1) / known
        shares = np.exp(candidates)
        rest = np.clip(1 - np.nansum(shares, axis=1), 1e-300, None)
        entropy = -np.nansum(shares * candidates, axis=1) - rest * np.log(rest)
        self._drawn += drawn.tolist()
        self._entropy += entropy.tolist()
        if self._watch.floor is None:
            self._confidence += confidence.tolist()
        else:
            for one in confidence.tolist():
                self._follow(one)

    def _follow(self, confidence: float) -> None:
        window = self._watch.window
        self._confidence.append(confidence)
        self._sum += confidence
        if len(self._confidence) > window:
            self._sum -= self._confidence[-window - 1]
        floor = self._watch.floor
        below = floor is not None and len(self._confidence) >= window and self._sum / window < floor - ROUNDING
        self.sank = self.sank or below

    def confidence(self) -> Confidence | None:
        """None where no token has said anything."""
        if not self._confidence:
            return None
        groups = np.sort(_groups(self._confidence, self._watch.window))
        lowest = groups[: max(1, math.floor(len(groups) * LOWEST_GROUPS))]
        drawn = _groups(self._drawn, self._watch.window)
        figures = (
            np.mean(self._confidence), _groups(self._confidence, self._watch.window)[-1], groups[0], lowest.mean(),
            np.mean(self._drawn), drawn[-1], drawn.min(), np.mean(self._entropy),
        )  # fmt: skip
        return Confidence(*map(float, figures))


def _groups(values: Sequence[float], window: int) -> np.ndarray:
    """Means of all windows, [max(1, tokens - window + 1)]; of all values where there are fewer."""
    window = min(window, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[window:] - sums[:-window]) / window


def _likelihood(one: Mapping[str, float]) -> float | None:
    """The geometric mean of the tail's probabilities: unlike a log-probability it can weigh a vote."""
    value = one.get("tail_logprob")
    return None if value is None else math.exp(min(value, 0.0))


# What weighs an attempt, and says which are the least confident: the higher the surer.
MEASURES: dict[str, Callable[[Mapping[str, float]], float | None]] = {
    "tail": lambda one: one.get("tail"),
    "lowest": lambda one: one.get("lowest"),
    "bottom": lambda one: one.get("bottom"),
    "mean": lambda one: one.get("mean"),
    "likelihood": _likelihood,
}


@dataclass(frozen=True, slots=True)
class ByConfidence:
    """How confidence is measured and used. Raises ValueError for values that cannot work.

    measure     a name of MEASURES: what weighs a vote, and what the least confident attempts are low in
    keep        share of the attempts with an answer that votes, the most confident
    window      tokens of a group, and of the tail
    warm_up     attempts from which is learnt how low the lowest group may be; those after them that fall below are
                ended. 0: none is
    candidates  most likely tokens at each place
    record      whether it is measured also where nothing needs it
    """

    measure: str = "tail"
    keep: float = 1.0
    window: int = WINDOW
    warm_up: int = 0
    candidates: int = CANDIDATES
    record: bool = False

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f"measure is {self.measure!r}, it must be one of {', '.join(MEASURES)}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is {self.keep}, it must be more than 0 and at most 1")
        for name, least in (("window", 1), ("warm_up", 0), ("candidates", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least {least}")

    @property
    def needed(self) -> bool:
        """Whether it is measured whatever the rule reads."""
        return self.keep < 1 or self.warm_up > 0 or self.record

    def watch(self, floor: float | None = None) -> Watch:
        return Watch(self.candidates, self.window, floor)


def measured(figures: Sequence[Figures], measure: str) -> list[float | None]:
    """One number for each attempt, finite and 0 or more; None where there is none."""
    return [_number(one, measure) for one in figures]


def _number(one: Figures, measure: str) -> float | None:
    if isinstance(one, Confidence):
        one = asdict(one)
    if isinstance(one, Mapping):
        one = MEASURES[measure](one)
    return None if one is None or not math.isfinite(one) else max(float(one), 0.0)


def weights(numbers: Sequence[float | None]) -> list[float]:
    """Of votes: an attempt without a number weighs as little as the least confident; 1 each where none has one."""
    lowest = min((number for number in numbers if number is not None), default=1.0)
    return [lowest if number is None else number for number in numbers]


def surest(clusters: Sequence[int | None], numbers: Sequence[float | None], keep: float) -> list[int | None]:
    """The clusters without those of the least confident attempts: ceil(keep * n) of n attempts with an answer stay.

    DeepConf keeps the top 10% or 90%. Attempts without a number go first, of equal ones the later. Where none has one,
    all stay.
    """
    answered = [number for number, name in enumerate(clusters) if name is not None]
    if all(numbers[one] is None for one in answered):
        return list(clusters)
    order = sorted(answered, key=lambda one: (numbers[one] is None, -(numbers[one] or 0.0), one))
    stay = set(order[: math.ceil(round(keep * len(answered), 9))])
    return [name if number in stay else None for number, name in enumerate(clusters)]


class Floor:
    """How low the lowest group of an attempt may be, learnt from the first attempts at a problem.

    The percentile of theirs that `keep` of them reach, interpolated: what DeepConf-low and DeepConf-high learn online.
    """

    def __init__(self, warm_up: int, keep: float) -> None:
        self._warm_up, self._keep = warm_up, keep
        self._lowest: list[float | None] = []

    @property
    def value(self) -> float | None:
        """None until it is known."""
        known = [one for one in self._lowest if one is not None]
        if len(self._lowest) < self._warm_up or not known:
            return None
        return float(np.percentile(known, 100 * (1 - self._keep)))

    def note(self, confidence: Confidence | None) -> None:
        """An attempt is done; only the first ones teach."""
        if len(self._lowest) < self._warm_up:
            self._lowest += measured([confidence], "lowest")

    def room(self) -> float:
        """Attempts that may be under way: before it is known, no more than those that it is learnt from."""
        left = self._warm_up - len(self._lowest)
        return left if left > 0 else math.inf


def logprob_arguments(watch: Watch | None) -> dict[str, object]:
    """Arguments of vLLM's SamplingParams. The log-probabilities are the model's own: before temperature and top-p."""
    return {"logprobs": watch.candidates, "flat_logprobs": True} if watch else {}


def read_logprobs(logprobs: "FlatLogprobs | None", meter: Meter) -> None:
    """logprobs: vLLM's FlatLogprobs, for each token the drawn one and then the most likely ones; None for no tokens.

    The drawn one may be among the most likely ones again, or, where the engine has put tokens together, may not.
    """
    if logprobs is None or not len(logprobs):
        return
    starts, ends = logprobs.start_indices, logprobs.end_indices
    rows = [
        dict(zip(logprobs.token_ids[start:end], logprobs.logprobs[start:end], strict=True))
        for start, end in zip(starts, ends, strict=True)
    ]
    rows = [row for row in rows if row]
    if not rows:
        return
    candidates = np.full((len(rows), max(map(len, rows))), np.nan)
    for place, row in enumerate(rows):
        candidates[place, : len(row)] = list(row.values())
    meter.extend(candidates[:, 0].copy(), candidates)


def read_until_unsure(logprobs: "FlatLogprobs | None", meter: Meter) -> int:
    """`read_logprobs` as far as the token at which the floor is passed. Returns how many tokens were read.

    The engine may have put more tokens together when it is busy: they must not count, or the load would decide.
    """
    for place in range(len(logprobs or ())):
        read_logprobs(logprobs and logprobs[place : place + 1], meter)
        if meter.sank:
            return place + 1
    return len(logprobs or ())


def meter_of(logprobs: Sequence[Sequence[float]], watch: Watch) -> Meter:
    """What was read of a whole completion. logprobs: see `endpoint.reply.Answer`."""
    meter = Meter(watch)
    if logprobs:
        rows = np.full((len(logprobs), max(map(len, logprobs))), np.nan)
        for place, row in enumerate(logprobs):
            rows[place, : len(row)] = row
        meter.extend(rows[:, 0].copy(), rows[:, 1:])
    return meter
