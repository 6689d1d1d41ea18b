"""Policy losses, aggregations and corrections: the product's training steps against plain loops over completions.

Packed groups of uneven completions, one and several optimizer steps a batch, completions that are masked, 1 and 2
data-parallel processes.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from naive_loss import bigram_table, gradient, group_normalise, log_probs, random_groups
from simulated_ranks import Ranks
from torch.testing import assert_close
from trained_batch import settings, train
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.colocation.weight_source import DeepSpeedSource, NoisySource
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.losses import LossInputs, find_policy_loss
from openrlhf_math.grpo.update.policy_actor import MathActorTrainer

GROUPS, SIZE = 6, 4
BATCH = ("--rollout.batch_size", GROUPS, "--rollout.n_samples_per_prompt", SIZE)
PACKED = ("--math.shared_prefix", "on", "--train.max_tokens_per_gpu", 25)
SEVERAL = ("--train.batch_size", 3 * SIZE)
LENGTH = 40
# Of each recipe: what its paper says, for the naive formula.
PAPERS = {
    "poster": {"mode": "seq-mean-token-mean"},
    "dr_grpo": {"mode": "seq-mean-token-sum-norm", "length": LENGTH},
    "dapo": {"mode": "token-mean", "clip": (0.2, 0.28)},
    "gspo": {"mode": "seq-mean-token-mean", "kind": "gspo", "clip": (3e-4, 4e-4)},
    "cispo": {"mode": "token-mean", "kind": "cispo", "clip": (1.0, 4.0)},
    "sapo": {"mode": "seq-mean-token-mean", "kind": "sapo"},
}


@pytest.fixture(params=[1, 2], ids="{}-ranks".format)
def ranks(request, monkeypatch):
    return Ranks(request.param, monkeypatch)


def batch(std: bool = True, cut_off: float = 0.2, apart: float = 0.0):
    """apart: how far the engine's log-probabilities are from those of the policy before the batch."""
    completions = random_groups(GROUPS, SIZE, seed=3, cut_off=cut_off)
    group_normalise(completions, SIZE)
    generator = torch.Generator().manual_seed(5)
    for start in range(0, len(completions), SIZE):
        group = completions[start : start + SIZE]
        mean = sum(one.reward for one in group) / SIZE
        for one in group:
            one.advantage = one.advantage if std else one.reward - mean
            one.rollout = one.old + apart * torch.randn(len(one.tokens), generator=generator)
    return completions


def compared(done, completions, truncated="mask", **formula):
    """Each optimizer step's gradient, and the batch's loss, against the naive ones."""
    values = []
    for actual, step in zip(done.gradients, done.steps, strict=True):
        members = [one for share in step for one in share if truncated == "keep" or not one.truncated]
        value, expected = gradient(bigram_table(), members, on_policy=len(done.steps) == 1, **formula)
        assert expected.abs().max() > 1e-4
        assert_close(actual["table"], expected, atol=1e-6, rtol=1e-5)
        values.append(value)
    assert done.statuses[0]["policy_loss"] == pytest.approx(sum(values) / len(values), abs=1e-5)


@pytest.mark.parametrize("truncated", ["keep", "mask"])
@pytest.mark.parametrize("steps", [(), SEVERAL], ids=["one-step", "two-steps"])
@pytest.mark.parametrize("recipe", PAPERS)
def test_recipe_matches_the_paper(ranks, monkeypatch, recipe, steps, truncated):
    completions = batch(std=recipe != "dr_grpo")
    length = ("--rollout.max_new_tokens", LENGTH, "--data.max_len", 2 * LENGTH)
    args = settings(*BATCH, *PACKED, *length, *steps, "--actor.num_gpus_per_node", ranks.count, "--math.recipe", recipe,
                    "--math.truncated", truncated)  # fmt: skip
    done = train(completions, args, ranks, monkeypatch)
    assert len(done.gradients) == (2 if steps else 1)
    compared(done, completions, truncated, **PAPERS[recipe])


@pytest.mark.parametrize(("steps", "rates"), [((), [0, 1, 2]), (SEVERAL, [1, 3, 5])], ids=["one-step", "two-steps"])
def test_learning_rate_is_that_of_the_batchs_last_step(ranks, monkeypatch, steps, rates):
    args = settings(*BATCH, *PACKED, *steps, "--actor.num_gpus_per_node", ranks.count, "--math.truncated", "mask")
    done = train(batch(), args, ranks, monkeypatch, batches=3)
    assert [status["actor_lr"] for status in done.all_statuses] == rates


@pytest.mark.parametrize("correction", ["tis", "mis", "seq"])
@pytest.mark.parametrize("steps", [(), SEVERAL], ids=["one-step", "two-steps"])
@pytest.mark.parametrize("recipe", ["poster", "gspo", "cispo", "sapo", "dr_grpo"])
def test_correction_multiplies_every_token_loss(ranks, monkeypatch, recipe, steps, correction):
    completions = batch(std=recipe != "dr_grpo", apart=0.6)
    args = settings(*BATCH, *PACKED, *steps, "--actor.num_gpus_per_node", ranks.count, "--math.recipe", recipe,
                    "--math.rollout_correction", correction, "--math.truncated", "mask", "--rollout.max_new_tokens",
                    LENGTH, "--data.max_len", 80)  # fmt: skip
    if correction == "seq":  # so that some are in and some out
        for one in completions[::2]:
            one.rollout = one.old + 0.03
            if not steps:
                one.rollout = log_probs(bigram_table(), one)[0] + 0.03
    done = train(completions, args, ranks, monkeypatch)
    compared(done, completions, **PAPERS[recipe] | {"correction": correction})


def test_expert_routing_replay_is_refused():
    with pytest.raises(UserError, match="--math.router_replay"):
        settings("--math.router_replay")


@pytest.mark.parametrize("recipe", ["poster", "cispo"])
def test_engine_has_no_effect_without_correction(ranks, monkeypatch, recipe):
    completions = batch(apart=0.6)
    flags = (*BATCH, *PACKED, "--actor.num_gpus_per_node", ranks.count, "--math.recipe", recipe)
    done = train(completions, settings(*flags, "--math.truncated", "mask"), ranks, monkeypatch)
    compared(done, completions, **PAPERS[recipe])


def test_engine_mismatch_is_measured(ranks, monkeypatch):
    """Over the tokens that are trained: those of completions with an advantage that were not cut off."""
    completions = batch(apart=0.6)
    flags = (*BATCH, *PACKED, *SEVERAL, "--actor.num_gpus_per_node", ranks.count, "--math.truncated", "mask")
    done = train(completions, settings(*flags, "--math.rollout_correction", "mis", "--actor.entropy_coef", 0.01), ranks,
                 monkeypatch)  # fmt: skip
    weights = [
        math.exp(float(old) - float(engine))
        for one in completions
        if not one.truncated
        for old, engine in zip(one.old, one.rollout, strict=True)
    ]
    logs, count = [math.log(weight) for weight in weights], len(weights)
    expected = {
        "logprob_gap": sum(map(abs, logs)) / count,
        "rollout_corr/kl": -sum(logs) / count,
        "rollout_corr/k3_kl": sum(w - 1 - log for w, log in zip(weights, logs, strict=True)) / count,
        "rollout_corr/ess": sum(weights) ** 2 / (count * sum(w * w for w in weights)),
        "rollout_corr/ratio_max": max(weights),
        "rollout_corr/corrected_rate": sum(not 0.5 <= w <= 5 for w in weights) / count,
    }
    for status in done.statuses:
        assert {name: status[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_deliberate_engine_noise_is_reproducible():
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                         num_attention_heads=2, num_key_value_heads=1))  # fmt: skip
    exact = {name: weight.clone() for name, weight in DeepSpeedSource(model, 2, 10**9)}
    first, again, other = (dict(NoisySource(model, 2, 10**9, 1, noise=0.2, seed=seed)) for seed in (3, 3, 4))
    assert first.keys() == exact.keys()
    for name, weight in exact.items():
        assert torch.equal(first[name], again[name]) and first[name].dtype == weight.dtype
        factors = (first[name] / weight)[weight != 0]
        if len(factors) > 1000:
            assert factors.mean() == pytest.approx(1, abs=0.03) and factors.std() == pytest.approx(0.2, rel=0.1)
            assert not torch.equal(first[name], other[name])
    assert all(torch.equal(weight, exact[name]) for name, weight in DeepSpeedSource(model, 2, 10**9))


@pytest.mark.parametrize(("apart", "corrects"), [(0.0, False), (0.6, True)])
def test_auto_corrects_the_batch_after_a_mismatch(monkeypatch, apart, corrects):
    """On policy it is silent: the gradient is the uncorrected one, and the loss of a batch the poster's 0."""
    ranks = Ranks(1, monkeypatch)
    completions = batch(cut_off=0.0, apart=apart)
    for one in completions:
        now = log_probs(bigram_table(), one)[0].detach()
        one.rollout = now + (one.rollout - one.old)
    args = settings(*BATCH, *PACKED, "--math.rollout_correction", "auto")
    first = train(completions, args, ranks, monkeypatch, batches=2)
    assert [status["rollout_corr/active"] for status in first.all_statuses] == [0.0, float(corrects)]
    assert abs(first.all_statuses[0]["policy_loss"]) < 1e-6
    for number, correction in enumerate(["off", "tis" if corrects else "off"]):
        _, expected = gradient(bigram_table(), completions, "seq-mean-token-mean", correction=correction)
        assert_close(first.gradients[number]["table"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("ess", "level"), [(0.9, "token"), (0.995, "off"), (math.nan, "token")])
def test_resumed_run_makes_the_same_decision(ess, level):
    trainer = object.__new__(MathActorTrainer)
    trainer.args, trainer.watches_ess = settings("--math.rollout_correction", "auto"), True
    trainer.policy_loss = SimpleNamespace(is_correction_level=None)
    trainer.correct_below(ess)
    assert trainer.policy_loss.is_correction_level == level


@pytest.mark.parametrize(
    ("off_policy", "ess", "level"), [(True, 1.0, "token"), (False, 1.0, "off"), (False, 0.9, "token")]
)
def test_auto_corrects_stale_rollouts(off_policy, ess, level):
    trainer = object.__new__(MathActorTrainer)
    trainer.args, trainer.watches_ess = settings("--math.rollout_correction", "auto"), True
    trainer.policy_loss = SimpleNamespace(is_correction_level=None)
    trainer.correct_below(ess)
    for late in (True, off_policy):  # the batch before does not matter
        trainer.begin_batch(late)
    assert trainer.policy_loss.is_correction_level == level


def test_auto_always_corrects_batches_of_several_steps(monkeypatch):
    completions = batch(apart=0.05)
    args = settings(*BATCH, *PACKED, *SEVERAL, "--math.rollout_correction", "auto", "--math.truncated", "mask")
    done = train(completions, args, Ranks(1, monkeypatch), monkeypatch)
    compared(done, completions, mode="seq-mean-token-mean", correction="tis")


OWN = """
def with_a_baseline_of_the_group(inputs):
    losses = -inputs.ratio() * inputs.advantages
    sizes = [(inputs.group_ids == number).sum() for number in inputs.group_ids]
    return losses / sizes[0].new_tensor([int(size) for size in sizes])[:, None] + 0.1 * inputs.log_probs

def one_number(inputs):
    return inputs.log_probs.mean()

def without_a_gradient(inputs):
    return inputs.log_probs.detach()

def no_number(inputs):
    return inputs.log_probs / 0

def wrong(inputs):
    raise KeyError("advantage")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_losses."
    sys.modules.pop("own_losses", None)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_loss_by_dotted_path_sees_groups_and_completions_without_advantage(ranks, monkeypatch, own, mode):
    """It has a gradient where the advantage is 0, so nothing is left out of the computation."""
    completions = batch(cut_off=0.0)
    for one in completions[:SIZE]:
        one.reward = 0.2
    group_normalise(completions, SIZE)
    args = settings(*BATCH, "--math.shared_prefix", "on", "--train.max_tokens_per_gpu", 200, "--actor.loss_agg_mode",
                    mode, "--actor.policy_loss_type", f"{own}with_a_baseline_of_the_group",
                    "--actor.num_gpus_per_node", ranks.count)  # fmt: skip
    done = train(completions, args, ranks, monkeypatch)
    table = bigram_table().requires_grad_()
    found = [log_probs(table, one)[0] for one in completions]
    terms = [
        -(now - now.detach()).exp() * one.advantage / SIZE + 0.1 * now
        for one, now in zip(completions, found, strict=True)
    ]
    if mode == "token-mean":
        value = sum(term.sum() for term in terms) / sum(map(len, terms))
    else:
        value = sum(term.mean() for term in terms) / len(terms)
    value.backward()
    assert_close(done.gradients[0]["table"], table.grad, atol=1e-6, rtol=1e-5)


def test_example_halves_rewards_below_the_group_mean(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    completions = batch(cut_off=0.0)
    flags = ("--actor.policy_loss_type", "own_loss.gentle_with_wrong")
    done = train(completions, settings(*BATCH, *PACKED, *flags), Ranks(1, monkeypatch), monkeypatch)
    for one in completions:
        one.advantage *= 1.0 if one.advantage > 0 else 0.5
    _, expected = gradient(bigram_table(), completions, "seq-mean-token-mean")
    assert_close(done.gradients[0]["table"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["one_number", "without_a_gradient", "no_number", "wrong", "absent"])
def test_unusable_loss_is_refused_before_start(own, name, capsys):
    from openrlhf_math.cli import main

    words = ["--actor.model_name_or_path", "some/model", "--data.prompt_dataset", "some/data", "--dry-run"]
    assert main(["grpo", *words, "--actor.policy_loss_type", own + name]) == 2
    assert f"--actor.policy_loss_type {own}{name}" in capsys.readouterr().err


def test_ratio_of_tokens_far_apart_is_finite():
    one = torch.tensor([[1.0]])
    inputs = LossInputs(torch.tensor([[0.0]]), torch.tensor([[-500.0]]), one, one, one.bool(), torch.tensor([0]),
                        0.2, 0.2, (1.0, 1.05), torch.tensor(1.0), torch.tensor(1.0))  # fmt: skip
    for name in ("cispo", "sapo"):
        losses = find_policy_loss(name)(inputs), find_policy_loss(name)(replace(inputs, advantages=-inputs.advantages))
        assert all(loss.isfinite().all() for loss in losses)
