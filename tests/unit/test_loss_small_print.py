"""Every term of the loss and its denominators: the product's training steps against a naive formula.

Several uneven micro-batches, 1 to 3 data-parallel processes, packed groups and padded batches.
"""

import pytest
from naive_loss import bigram_table, gradient, group_normalise, log_probs, loss, random_groups
from simulated_ranks import Ranks
from torch.testing import assert_close
from trained_batch import Transformer, settings, train

GROUPS, SIZE = 6, 4
SAMPLES = GROUPS * SIZE
BATCH = ("--rollout.batch_size", GROUPS, "--rollout.n_samples_per_prompt", SIZE)
PACKED = ("--math.shared_prefix", "on", "--train.max_tokens_per_gpu", 25)
PADDED = ("--math.shared_prefix", "off", "--train.micro_batch_size", 2)
KL = ("--algo.kl.use_loss", "--algo.kl.estimator", "k3", "--algo.kl.init_coef", 0.3)
ENTROPY = ("--actor.entropy_coef", 0.2)
MODES = ("token-mean", "seq-mean-token-mean")


@pytest.fixture(params=[1, 2, 3], ids="{}-ranks".format)
def ranks(request, monkeypatch):
    return Ranks(request.param, monkeypatch)


def batch(cut_off: float = 0.0, seed: int = 3):
    completions = random_groups(GROUPS, SIZE, seed, cut_off)
    for one in completions[:SIZE]:  # a group that teaches nothing
        one.reward = 0.2
    group_normalise(completions, SIZE)
    return completions


def run(completions, ranks, monkeypatch, *flags):
    args = settings(*BATCH, "--actor.num_gpus_per_node", ranks.count, *flags)
    return train(completions, args, ranks, monkeypatch)


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", [(), KL, ENTROPY, KL + ENTROPY], ids=["policy", "kl", "entropy", "all"])
def test_each_term_is_averaged_by_the_loss_agg_mode(ranks, monkeypatch, rows, mode, terms):
    completions = batch()
    done = run(completions, ranks, monkeypatch, *rows, *terms, "--actor.loss_agg_mode", mode)
    value, expected = gradient(
        bigram_table(), completions, mode,
        kl_coefficient=0.3 if "--algo.kl.use_loss" in terms else 0.0,
        entropy_coefficient=0.2 if "--actor.entropy_coef" in terms else 0.0,
    )  # fmt: skip
    assert expected.abs().max() > 1e-3
    assert_close(done.gradients[0]["table"], expected, atol=1e-6, rtol=1e-5)
    assert len(done.gradients) == 1 and len(done.actors[0].rows) > 1, "several micro-batches, one step"


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", [(), KL + ENTROPY], ids=["policy", "all"])
def test_masked_completions_are_left_out_of_every_term_and_denominator(ranks, monkeypatch, rows, mode, terms):
    completions = batch(cut_off=0.35)
    kept = [one for one in completions if not one.truncated]
    assert 5 < len(kept) < SAMPLES - 5
    done = run(
        completions, ranks, monkeypatch, *rows, *terms, "--actor.loss_agg_mode", mode, "--math.truncated", "mask"
    )
    coefficients = {"kl_coefficient": 0.3, "entropy_coefficient": 0.2} if terms else {}
    _, expected = gradient(bigram_table(), kept, mode, **coefficients)
    _, with_them = gradient(bigram_table(), completions, mode, **coefficients)
    assert (expected - with_them).norm() > 0.1 * expected.norm()
    assert_close(done.gradients[0]["table"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", [(), KL + ENTROPY], ids=["policy", "all"])
@pytest.mark.parametrize("truncated", ["keep", "mask"])
def test_packed_groups_of_a_transformer(ranks, monkeypatch, mode, terms, truncated):
    """Prompts once a micro-batch; what teaches nothing is skipped where only the policy loss teaches."""
    completions = batch(cut_off=0.35)
    args = settings(*BATCH, "--actor.num_gpus_per_node", ranks.count, *PACKED, *terms, "--actor.loss_agg_mode", mode,
                    "--math.truncated", truncated)  # fmt: skip
    done = train(completions, args, ranks, monkeypatch, Transformer)
    members = [one for one in completions if truncated == "keep" or not one.truncated]
    naive = Transformer()
    coefficients = {"kl_coefficient": 0.3, "entropy_coefficient": 0.2} if terms else {}
    loss(naive.log_probs_of, members, mode, **coefficients).backward()
    expected = {name: parameter.grad for name, parameter in naive.named_parameters()}
    scale = max(gradient.abs().max() for gradient in expected.values())
    for name, found in done.gradients[0].items():
        assert_close(found, expected[name], atol=1e-5 * scale.item(), rtol=1e-4, msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_recorded_completions_are_graded_as_usual(ranks, monkeypatch, mode):
    completions = batch(cut_off=0.35)
    done = run(completions, ranks, monkeypatch, *PACKED, "--actor.loss_agg_mode", mode, "--math.truncated", "keep")
    assert_close(done.gradients[0]["table"], gradient(bigram_table(), completions, mode)[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
def test_fully_truncated_batch_has_zero_loss_and_gradient(ranks, monkeypatch, rows):
    completions = batch()
    for one in completions:
        one.truncated = True
    done = run(completions, ranks, monkeypatch, *rows, *KL, *ENTROPY, "--math.truncated", "mask")
    assert not done.gradients[0]["table"].any()
    status = done.statuses[0]
    assert [status[name] for name in ("policy_loss", "kl", "entropy_loss", "ppo_kl")] == [0.0] * 4


@pytest.mark.parametrize("mode", MODES)
def test_gspo_averages_every_term_by_completion(ranks, monkeypatch, mode):
    completions = batch()
    flags = ("--actor.policy_loss_type", "gspo", "--actor.loss_agg_mode", mode, *KL, *ENTROPY)
    done = run(completions, ranks, monkeypatch, *PACKED, *flags)
    coefficients = {"kl_coefficient": 0.3, "entropy_coefficient": 0.2, "kind": "gspo"}
    _, expected = gradient(bigram_table(), completions, "seq-mean-token-mean", **coefficients)
    assert_close(done.gradients[0]["table"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("truncated", ["keep", "mask"])
def test_each_optimizer_step_is_normalised_by_its_completions(ranks, monkeypatch, mode, truncated):
    """Off the policy that generated: the ratio is to the log-probabilities from before, and clipped."""
    completions = batch(cut_off=0.2)
    flags = ("--train.batch_size", 3 * SIZE, "--actor.loss_agg_mode", mode, "--math.truncated", truncated, *KL)
    done = run(completions, ranks, monkeypatch, *PACKED, *flags)
    assert len(done.gradients) == len(done.steps) == 2
    for actual, step in zip(done.gradients, done.steps, strict=True):
        members = [one for share in step for one in share if truncated == "keep" or not one.truncated]
        _, expected = gradient(bigram_table(), members, mode, on_policy=False, kl_coefficient=0.3)
        assert_close(actual["table"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("mode", MODES)
def test_metrics_are_of_the_whole_batch(ranks, monkeypatch, rows, mode):
    completions = batch(cut_off=0.2)
    flags = ("--actor.loss_agg_mode", mode, "--math.truncated", "mask", *KL, *ENTROPY)
    done = run(completions, ranks, monkeypatch, *rows, *flags)
    kept = [one for one in completions if not one.truncated]
    policy, _ = gradient(bigram_table(), kept, mode)
    tokens = sum(len(one.tokens) for one in kept)
    found = [(one, *log_probs(bigram_table(), one)) for one in kept]
    back = [one.reference - now for one, now, _ in found]
    expected = {
        "policy_loss": policy,
        "kl": sum((each.exp() - 1 - each).sum() for each in back).item() / tokens,
        "entropy_loss": sum(entropy.sum() for *_, entropy in found).item() / tokens,
        "logprob_gap": sum((now - one.old).abs().sum() for one, now, _ in found).item() / tokens,
    }
    for status in done.statuses:  # the same on every rank
        for name, value in expected.items():
            assert status[name] == pytest.approx(value, abs=1e-5), name


def test_logged_entropy_is_the_mean_over_computed_tokens(ranks, monkeypatch):
    """Groups that teach nothing are not computed, and do not count as entropy 0."""
    completions = batch()
    done = run(completions, ranks, monkeypatch, *PACKED, "--actor.entropy_coef", 0)
    taught = [log_probs(bigram_table(), one)[1] for one in completions if one.advantage]
    expected = sum(each.sum() for each in taught).item() / sum(map(len, taught))
    assert done.statuses[0]["entropy_loss"] == pytest.approx(expected, rel=0.05), "a process without work adds an item"
    assert sum(sum(actor.rows) for actor in done.actors) <= len(taught) + ranks.count


def test_skipped_completions_are_not_computed_in_packed_rows(ranks, monkeypatch):
    completions = batch(cut_off=0.35)
    done = run(completions, ranks, monkeypatch, *PACKED, *KL, "--math.truncated", "mask")
    left = sum(not one.truncated for one in completions)
    assert left <= sum(sum(actor.rows) for actor in done.actors) < SAMPLES
