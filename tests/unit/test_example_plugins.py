"""The examples of plug-ins are found by the names they say, and do what they say. tests/integration runs them."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_scorers
import torch

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.advantages import find_estimator, grpo
from openrlhf_math.grpo.curriculum import Known, drawn_order, find_curriculum
from openrlhf_math.grpo.curriculum_settings import CurriculumSettings
from openrlhf_math.rerank.scorers import find_scorer

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.usefixtures("examples")


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.mark.parametrize(
    ("rewards", "share_wrong"),
    [([1.0, 0.0, 0.0, 0.0], 0.75), ([1.0, 1.0, 1.0, 0.0], 0.25), ([1.0, 1.0, 1.0, 1.0], 0.0), ([0.0] * 4, 1.0)],
)
def test_custom_estimator_weights_groups_by_errors(rewards, share_wrong):
    rewards = torch.tensor([rewards])
    assert torch.allclose(find_estimator("own_estimator.hard_first")(rewards), share_wrong * grpo(rewards))


def test_custom_curriculum_draws_medium_problems_first_without_repeats():
    rates = np.array([0.0, 0.5, 0.55, 1.0])
    weights = find_curriculum("own_curriculum.around_half")
    fresh = weights(Known(0, np.full(4, np.nan), rates, np.zeros(4, int)), CurriculumSettings(explore=0.01))
    assert fresh.argmax() == 1 and fresh[2] > 10 * fresh[0] == 10 * fresh[3] > 0
    seen = weights(Known(1, np.full(4, np.nan), rates, np.array([0, 1, 1, 0])), CurriculumSettings(explore=0.01))
    assert set(drawn_order(seen, np.random.default_rng(0))[:2]) == {0, 3}


def test_custom_scorer_asks_after_every_step_and_reads_the_reply():
    tokenizer = tiny_scorers.build_tokenizer("verifier")
    kind = find_scorer("own_scorer.StepVerifier")
    encoded = kind(tokenizer, SimpleNamespace(architectures=["Qwen2ForCausalLM"])).encode("9-3+1?", ["9-3=6.", "7"])
    ends = [0, *(position + 1 for position in encoded.read)]
    first, second = (tokenizer.decode(encoded.ids[begin:end]) for begin, end in pairwise(ends))
    assert first.endswith("<|im_start|>assistant\n9-3=6.\nIs this step right?\n")
    assert second == "Yes\n\n7\nIs this step right?\n"
    assert ends[-1] == len(encoded.ids)


def test_custom_scorer_refuses_an_unsuitable_model():
    with pytest.raises(ValueError, match="it is a Qwen2ForProcessRewardModel, it must be a causal"):
        find_scorer("own_scorer.StepVerifier")(
            tiny_scorers.build_tokenizer("verifier"), SimpleNamespace(architectures=["Qwen2ForProcessRewardModel"])
        )


@pytest.mark.parametrize(
    "find, name", [(find_estimator, "own_estimator.nothing"), (find_curriculum, "own.x"), (find_scorer, "own_scorer.X")]
)
def test_unresolvable_name_is_refused(find, name):
    with pytest.raises(UserError, match=f"{name}: cannot be imported"):
        find(name)
