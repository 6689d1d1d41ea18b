"""A tool's tokens within completions: the product's training steps against a naive formula that leaves them out.

The reference walks over one sequence at a time, reads the whole of it, and sums over the model's tokens alone.
"""

from types import SimpleNamespace

import pytest
import torch
from naive_loss import bigram_table, group_normalise, log_probs, loss, random_groups
from simulated_ranks import Ranks
from torch.testing import assert_close
from trained_batch import Transformer, rolled_out, settings, train

from openrlhf_math.grpo.update.experience import MathExperienceMaker
from openrlhf_math.grpo.update.micro_batches import balance_groups, packed_tokens

GROUPS, SIZE = 6, 4
BATCH = ("--rollout.batch_size", GROUPS, "--rollout.n_samples_per_prompt", SIZE)
PACKED = ("--math.shared_prefix", "on", "--train.max_tokens_per_gpu", 25)
PADDED = ("--math.shared_prefix", "off", "--train.micro_batch_size", 2)
KL = ("--algo.kl.use_loss", "--algo.kl.estimator", "k3", "--algo.kl.init_coef", 0.3)
ALL = (*KL, "--actor.entropy_coef", 0.2)
COEFFICIENTS = {"kl_coefficient": 0.3, "entropy_coefficient": 0.2}
MODES = ("token-mean", "seq-mean-token-mean")


def batch(cut_off: float = 0.0):
    """Groups whose completions have one or two replies of a tool in them, in any place but the first and the last."""
    completions = random_groups(GROUPS, SIZE, 3, cut_off)
    generator = torch.Generator().manual_seed(5)
    for one in completions:
        own = torch.rand(len(one.tokens), generator=generator) < 0.6
        own[0] = own[-1] = True
        one.own = own.tolist()
        shift = 0.2 * torch.randn(len(one.tokens), generator=generator)
        one.rollout = (one.old + shift)[own]
        one.reference, one.old = one.reference[own], one.old[own]
    for one in completions[:SIZE]:  # a group that teaches nothing
        one.reward = 0.2
    group_normalise(completions, SIZE)
    replies = sum(not flag for one in completions for flag in one.own)
    assert replies > 20, "else this shows nothing"
    return completions


def of_the_model(log_probs_of):
    """Of a naive policy, what it gives for the model's tokens."""
    return lambda one: tuple(values[torch.tensor(one.own)] for values in log_probs_of(one))


def naive_gradient(completions, mode, **terms):
    table = bigram_table().requires_grad_()
    value = loss(of_the_model(lambda one: log_probs(table, one)), completions, mode, **terms)
    value.backward()
    return value.item(), table.grad


@pytest.fixture(params=[1, 2], ids="{}-ranks".format)
def ranks(request, monkeypatch):
    return Ranks(request.param, monkeypatch)


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", [(), ALL], ids=["policy", "all"])
@pytest.mark.parametrize("truncated", ["keep", "mask"])
def test_tool_tokens_are_in_no_loss_term_or_denominator(ranks, monkeypatch, rows, mode, terms, truncated):
    completions = batch(cut_off=0.3)
    args = settings(*BATCH, *rows, *terms, "--actor.num_gpus_per_node", ranks.count, "--actor.loss_agg_mode", mode,
                    "--math.truncated", truncated)  # fmt: skip
    done = train(completions, args, ranks, monkeypatch)
    members = [one for one in completions if truncated == "keep" or not one.truncated]
    _, expected = naive_gradient(members, mode, **(COEFFICIENTS if terms else {}))
    assert_close(done.gradients[0]["table"], expected, atol=1e-6, rtol=1e-5)
    for one in members:
        one.own, every = [True] * len(one.tokens), bigram_table()
        one.reference, one.old = log_probs(every, one)[0].detach(), log_probs(every, one)[0].detach()
    _, with_them = naive_gradient(members, mode, **(COEFFICIENTS if terms else {}))
    assert (expected - with_them).norm() > 0.1 * expected.norm()


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
def test_loss_of_one_step_a_batch_is_0(monkeypatch, rows):
    completions = batch()
    ranks = Ranks(2, monkeypatch)
    done = train(completions, settings(*BATCH, *rows, "--actor.num_gpus_per_node", 2), ranks, monkeypatch)
    value, expected = naive_gradient(completions, "seq-mean-token-mean")
    assert value == pytest.approx(0, abs=1e-6)
    assert done.statuses[0]["policy_loss"] == pytest.approx(0, abs=1e-6)
    assert expected.abs().max() > 1e-3 and done.gradients[0]["table"].abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["ppo", "gspo", "cispo", "sapo"])
@pytest.mark.parametrize("correction", ["off", "tis", "mis", "seq"])
def test_losses_and_corrections_use_only_model_tokens(monkeypatch, kind, correction):
    """Two optimizer steps a batch: ratios are not 1. A completion's mean weight is that of the model's tokens."""
    completions, ranks = batch(), Ranks(2, monkeypatch)
    args = settings(
        *BATCH, *PACKED, "--actor.num_gpus_per_node", 2, "--train.batch_size", GROUPS * SIZE // 2,
        "--actor.policy_loss_type", kind, "--math.rollout_correction", correction,
    )  # fmt: skip
    done = train(completions, args, ranks, monkeypatch)
    assert len(done.gradients) == 2
    for found, shares in zip(done.gradients, done.steps, strict=True):
        members = [one for share in shares for one in share]
        _, expected = naive_gradient(members, "seq-mean-token-mean", on_policy=False, kind=kind, correction=correction)
        assert_close(found["table"], expected, atol=1e-6, rtol=1e-5)


def test_constant_length_divides_the_sum_over_model_tokens(monkeypatch):
    completions, ranks = batch(), Ranks(2, monkeypatch)
    args = settings(*BATCH, *PACKED, "--actor.num_gpus_per_node", 2, "--actor.loss_agg_mode", "seq-mean-token-sum-norm",
                    "--math.loss_length", 7)  # fmt: skip
    done = train(completions, args, ranks, monkeypatch)
    _, expected = naive_gradient(completions, "seq-mean-token-sum-norm", length=7)
    assert_close(done.gradients[0]["table"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", [(), ALL], ids=["policy", "all"])
def test_packed_groups_attend_to_tool_output(ranks, monkeypatch, mode, terms):
    completions = batch()
    args = settings(*BATCH, *PACKED, *terms, "--actor.num_gpus_per_node", ranks.count, "--actor.loss_agg_mode", mode)
    done = train(completions, args, ranks, monkeypatch, Transformer)
    naive = Transformer()
    loss(of_the_model(naive.log_probs_of), completions, mode, **(COEFFICIENTS if terms else {})).backward()
    for name, parameter in naive.named_parameters():
        assert_close(
            done.gradients[0][name], parameter.grad, atol=2e-6, rtol=1e-4, msg=lambda text, name=name: name + text
        )


def test_kl_penalty_counts_only_model_tokens():
    """The advantage of a token: the completion's, less the penalties of the model's tokens from it on."""
    completions, coefficient = batch(), 0.5
    args = settings(*BATCH, "--algo.kl.init_coef", coefficient)
    items = rolled_out(completions, args)
    for item, one in zip(items, completions, strict=True):
        item.kl[item.action_mask == 1] = one.old - one.reference
    maker = object.__new__(MathExperienceMaker)
    maker.args, maker.strategy = args, SimpleNamespace(args=args)
    maker.kl_ctl = SimpleNamespace(value=coefficient)
    for item, one in zip(maker.compute_advantages_and_returns(items), completions, strict=True):
        left, expected = one.advantage, []
        for penalty in reversed((coefficient * (one.old - one.reference)).tolist()):
            left -= penalty
            expected.append(left)
        assert_close(item.advantages[item.action_mask == 1], torch.tensor(expected[::-1]), atol=1e-5, rtol=1e-5)


def test_token_budgets_count_tool_tokens():
    """They go through the model as all others."""
    completions = batch()
    args = settings(*BATCH, *PACKED, "--actor.num_gpus_per_node", 2)
    items = rolled_out(completions, args)
    group = list(range(SIZE, 2 * SIZE))
    first = completions[SIZE]
    whole = len(first.prompt) + sum(len(completions[number].tokens) for number in group)
    assert all(completions[number].prompt == first.prompt for number in group)
    assert packed_tokens([SimpleNamespace(**_flat(item)) for item in items], group) == whole
    maker = object.__new__(MathExperienceMaker)
    maker.args, maker.strategy, maker.kl_ctl = args, SimpleNamespace(args=args), SimpleNamespace(value=0.0)
    shares = balance_groups(maker.compute_advantages_and_returns(items), args, seed=0)
    assert [len(share.sequences) for share in shares] == [GROUPS * SIZE // 2] * 2


def _flat(item) -> dict:
    return {name: getattr(item, name)[0] for name in ("sequences", "action_mask", "total_length")}
