"""The engine check: what a gap between trainer and engine looks like in its figures, and which gaps stop a run."""

import math

import numpy
import pytest
import torch

from openrlhf_math.grpo.update import engine_gap
from openrlhf_math.grpo.update.engine_gap import GapTally, check, summary

BOUND = 0.1


def batch(noise, completions=32, prompt=50, length=1000, seed=0):
    """Trainer's and engine's log-probabilities and the mask, [completions, prompt + length].

    noise: (generator, shape) -> gaps. Completions have from a tenth of `length` to all of it.
    """
    random = numpy.random.default_rng(seed)
    shape = completions, prompt + length
    trainer = -random.exponential(1.0, shape)
    gap = noise(random, shape) * random.choice([-1, 1], shape)
    ends = prompt + random.integers(length // 10, length, completions)
    ends[: completions // 2] = prompt + length
    columns = numpy.arange(shape[1])
    mask = (columns >= prompt) & (columns < ends[:, None])
    engine = numpy.where(mask, trainer + gap, 1e6)
    return torch.tensor(trainer), torch.tensor(engine), torch.tensor(mask, dtype=torch.float32)


def dense(random, shape):
    """As measured of dense models in bfloat16: 0.02 on average, 0.07 at the 99th percentile."""
    return random.exponential(0.02, shape)


def mixture(random, shape):
    """As measured of mixtures in bfloat16: every thirtieth token goes to another expert."""
    flips = random.random(shape) < 1 / 30
    return random.exponential(0.03, shape) + flips * random.exponential(0.25, shape)


def figures(*batches) -> dict[str, float]:
    tally = GapTally()
    for each in batches:
        tally.add(*each)
    return tally.take(lambda counts: counts)


def stops(metrics: dict[str, float], bound: float = BOUND) -> str:
    """The sentence a run ends with; empty if it continues."""
    try:
        check({"step": 3, **metrics}, bound)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("noise", [dense, mixture])
def test_figures_match_the_definitions(noise):
    trainer, engine, mask = (each.numpy() for each in batch(noise))
    gaps = numpy.abs(trainer - engine)[mask > 0]
    found = figures(batch(noise))
    assert found["logprob_gap"] == pytest.approx(gaps.mean(), rel=1e-4)
    assert found["logprob_gap_p99"] == pytest.approx(numpy.quantile(gaps, 0.99), rel=0.16)

    positions = (numpy.arange(mask.shape[1]) + 1 + numpy.zeros_like(mask))[mask > 0]  # a column is of the next token
    bounds = [0] + [round(16 * 2 ** (number / 2)) for number in range(20)]
    means = {}
    for begin, end in zip(bounds, bounds[1:], strict=False):
        within = gaps[(positions >= begin) & (positions < end)]
        if len(within) >= 500:
            means[begin] = within.mean()
    worst = max(means, key=means.get)
    assert found["logprob_gap_worst"] == pytest.approx(means[worst], rel=1e-4)
    assert found["logprob_gap_worst_from"] == worst


def test_micro_batches_and_ranks_match_one_batch():
    trainer, engine, mask = batch(mixture)
    whole = figures((trainer, engine, mask))
    micro = [(trainer[rows], engine[rows], mask[rows]) for rows in torch.arange(len(mask)).split(5)]
    tallies = [GapTally(), GapTally()]
    for number, each in enumerate(micro):
        tallies[number % 2].add(*each)
    others = tallies[1].counts
    assert tallies[0].take(lambda counts: counts + others) == pytest.approx(whole)


def test_read_step_is_cleared():
    tally = GapTally()
    tally.add(*batch(lambda random, shape: numpy.full(shape, 3.0)))
    tally.take(lambda counts: counts)
    tally.add(*batch(dense))
    assert tally.take(lambda counts: counts) == pytest.approx(figures(batch(dense)))


@pytest.mark.parametrize("noise", [dense, mixture])
@pytest.mark.parametrize("seed", range(5))
def test_rounding_does_not_stop_a_run(noise, seed):
    assert not stops(figures(batch(noise, seed=seed)))
    assert not stops(figures(batch(noise, completions=4, length=40, seed=seed)))


@pytest.mark.parametrize("noise", [dense, mixture])
def test_ignored_sliding_window_stops_the_run(noise):
    window = 500

    def ignored(random, shape):
        return noise(random, shape) * 0.7 + 0.15 * (numpy.arange(shape[1]) + 1 > window)

    found = figures(batch(ignored))
    assert found["logprob_gap"] < BOUND
    assert found["logprob_gap_worst_from"] > window
    assert "--math.max_logprob_gap" in stops(found)
    assert not stops(found | {"logprob_gap_worst": found["logprob_gap"]}), "nothing else finds it"


def test_few_large_deviations_stop_the_run():
    def spoiled(random, shape):
        return dense(random, shape) + 2 * (random.random(shape) < 0.02)

    found = figures(batch(spoiled))
    assert found["logprob_gap"] < BOUND
    assert found["logprob_gap_worst"] < BOUND
    assert found["logprob_gap_p99"] > 1
    assert stops(found)


def test_stale_weights_stop_the_run_with_causes():
    found = figures(batch(lambda random, shape: random.exponential(0.2, shape)))
    sentence = stops(found)
    assert all(word in sentence for word in ("weights", "window", "rotary", "dtype"))
    assert not stops(found, bound=1.0)


def test_few_tokens_give_only_the_mean():
    found = figures(batch(mixture, completions=4, length=40))
    assert found["logprob_gap_worst"] == found["logprob_gap"]
    assert found["logprob_gap_worst_from"] == 0


def test_no_tokens_give_no_figures_and_nan_is_kept():
    trainer, engine, mask = batch(dense, completions=2, length=20)
    assert figures((trainer, engine, mask * 0)) == {}
    trainer[0, 55] = math.nan
    found = figures((trainer, engine, mask))
    assert math.isnan(found["logprob_gap"])
    assert math.isnan(found["logprob_gap_p99"])
    assert not stops(found), "what has become NaN is another check's"


def test_gaps_beyond_all_bins_are_counted():
    ones = torch.ones(1, 600)
    found = figures((ones * 0, ones * 1e9, ones))
    assert found["logprob_gap_p99"] > 50
    assert figures((ones, ones, ones))["logprob_gap_p99"] == pytest.approx(engine_gap.SMALLEST)
    assert summary(engine_gap.empty()) == {}
