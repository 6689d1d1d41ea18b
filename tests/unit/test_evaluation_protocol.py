"""How a run samples: benchmark, model, protocol and flags, each before the former."""

import json
from dataclasses import replace

import numpy as np
import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.estimates import spread_over_samples
from openrlhf_math.evaluation.problem_sets import ProblemSet, recommended, sampled

# generation_config.json as these models ship it.
R1_DISTILL = {"_from_model_config": True, "bos_token_id": 1, "do_sample": True, "temperature": 0.6, "top_p": 0.95}
QWEN3 = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [1, 2]}
QWEN25_MATH = {"bos_token_id": 1, "do_sample": False, "eos_token_id": 1, "max_new_tokens": 2048}
QWEN25 = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20}


@pytest.fixture
def model(tmp_path):
    def write(config):
        if config is not None:
            (tmp_path / "generation_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        return str(tmp_path)

    return write


AIME = Sampling(samples=16, temperature=0.6, top_p=0.95)


@pytest.mark.parametrize(
    ("defaults", "config", "protocol", "flags", "expected"),
    [
        (Sampling(), None, "model", {}, Sampling()),
        (AIME, None, "model", {}, AIME),
        (AIME, R1_DISTILL, "model", {}, AIME),
        (Sampling(), QWEN3, "model", {}, Sampling(1, None, 0.6, 0.95, 20)),
        (AIME, QWEN25, "model", {}, Sampling(16, None, 0.7, 0.8, 20, 0.0, 1.05)),
        (AIME, QWEN25_MATH, "model", {}, Sampling(16, 2048, 0.6, 0.95)),
        (AIME, QWEN25, "poster", {}, Sampling(16, 5048, 0.6, 0.95)),
        (AIME, QWEN3, "model", {"temperature": 0.0}, Sampling(1, None, 0.0, 0.95, 20)),
        (AIME, None, "model", {"samples": 64, "max_tokens": 100}, replace(AIME, samples=64, max_tokens=100)),
        (Sampling(), None, "model", {"samples": 4, "temperature": 1.0}, Sampling(4, None, 1.0)),
        (AIME, QWEN3, "model", {"top_k": 0, "min_p": 0.05}, Sampling(16, None, 0.6, 0.95, 0, 0.05)),
    ],
)
def test_flags_override_protocol_which_overrides_benchmark(model, defaults, config, protocol, flags, expected):
    recommends = recommended(protocol, model(config))
    assert sampled(ProblemSet("x", [], defaults), recommends, flags).sampling == expected


@pytest.mark.parametrize(
    "config",
    ["{", {"do_sample": True, "temperature": "hot"}, {"do_sample": True, "top_k": [1]}, {"max_new_tokens": {}}],
)
def test_broken_generation_config_is_refused_by_its_name(model, config):
    with pytest.raises(UserError, match="generation_config.json"):
        recommended("model", model(config))


@pytest.mark.parametrize(
    "flags", [{"samples": 4}, {"top_k": -1}, {"min_p": 2.0}, {"repetition_penalty": 0.0}, {"max_tokens": 0}]
)
def test_invalid_values_are_refused_by_flag(flags):
    (flag,) = flags
    with pytest.raises(UserError, match=f"--{flag.replace('_', '-')} "):
        sampled(ProblemSet("x", [], Sampling()), {}, flags)


def test_spread_over_samples_matches_single_runs():
    # Runs of 4 problems: 3, 2, 1 and 2 of 4 right. By hand: mean 0.5, squares 0.0625, 0, 0.0625, 0 over 3.
    correct = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    deviation, error = spread_over_samples(correct)
    assert deviation == pytest.approx((0.125 / 3) ** 0.5) and error == pytest.approx(deviation / 2)
