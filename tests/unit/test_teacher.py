"""`--math.teacher`: the product's training steps against a naive formula, and which teachers and flags are refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from naive_loss import VOCABULARY, bigram_table, group_normalise, log_probs, loss, random_groups
from simulated_ranks import Ranks
from tokenizers import Tokenizer, models
from torch.testing import assert_close
from trained_batch import Transformer, rolled_out, settings, train
from transformers import PreTrainedTokenizerFast, Qwen2Config

from openrlhf_math.cli import main
from openrlhf_math.grpo.driver import devices_wanted, with_reference
from openrlhf_math.grpo.faults.resume import is_free
from openrlhf_math.grpo.plan import plan
from openrlhf_math.grpo.rollout.teacher import check_same_vocabulary
from openrlhf_math.grpo.settings import as_json, old_log_probs_needed
from openrlhf_math.grpo.update.experience import MathExperienceMaker, RemoteExperienceMaker
from openrlhf_math.grpo.update.loss import TaughtLoss

GROUPS, SIZE = 6, 4
BATCH = ("--rollout.batch_size", GROUPS, "--rollout.n_samples_per_prompt", SIZE)
PACKED = ("--math.shared_prefix", "on", "--train.max_tokens_per_gpu", 25)
PADDED = ("--math.shared_prefix", "off", "--train.micro_batch_size", 2)
SEVERAL = ("--train.batch_size", GROUPS * SIZE // 2)
TEACHER = ("--math.teacher", "some/teacher-7B")
WEIGHTS = {"teacher": 0.7, "rewarded": 0.4}
WEIGHED = (*TEACHER, "--math.teacher_coef", 0.7, "--math.reward_coef", 0.4)
ALONE = (*TEACHER, "--math.reward_coef", 0)
MODES = {"poster": "seq-mean-token-mean", "dapo": "token-mean", "cispo": "token-mean", "sapo": "seq-mean-token-mean"}


@pytest.fixture(params=[1, 2], ids="{}-ranks".format)
def ranks(request, monkeypatch):
    return Ranks(request.param, monkeypatch)


def batch(tool: bool = False, cut_off: float = 0.0):
    """Uneven groups, one with equal rewards. tool: whether some tokens are a tool's."""
    completions = random_groups(GROUPS, SIZE, 3, cut_off)
    generator = torch.Generator().manual_seed(5)
    for one in completions if tool else ():
        own = torch.rand(len(one.tokens), generator=generator) < 0.6
        own[0] = own[-1] = True
        one.own, one.reference, one.old = own.tolist(), one.reference[own], one.old[own]
    for one in completions[:SIZE]:
        one.reward = 0.2
    group_normalise(completions, SIZE)
    return completions


def own_tokens(log_probs_of):
    return lambda one: tuple(values[torch.tensor(one.own or [True] * len(one.tokens))] for values in log_probs_of(one))


def naive(completions, mode, **formula):
    table = bigram_table().requires_grad_()
    value = loss(own_tokens(lambda one: log_probs(table, one)), completions, mode, **formula)
    value.backward()
    return value.item(), table.grad


def compared(done, completions, mode, **formula):
    values = []
    for found, shares in zip(done.gradients, done.steps, strict=True):
        members = [one for share in shares for one in share if one in completions]
        value, expected = naive(members, mode, on_policy=len(done.steps) == 1, **formula)
        _, without = naive(members, mode, on_policy=len(done.steps) == 1, **formula | {"teacher": None})
        assert (expected - without).norm() > 0.1 * expected.norm(), "else this shows nothing"
        assert_close(found["table"], expected, atol=1e-6, rtol=1e-5)
        values.append(value)
    assert done.statuses[0]["policy_loss"] == pytest.approx(sum(values) / len(values), abs=1e-5)


@pytest.mark.parametrize("rows", [PACKED, PACKED + SEVERAL, PADDED], ids=["packed", "packed-two-steps", "padded"])
@pytest.mark.parametrize("recipe", MODES)
def test_token_advantages_are_log_ratios(monkeypatch, recipe, rows):
    completions, ranks = batch(tool=True), Ranks(2, monkeypatch)
    more = ("--no-algo.dynamic_filtering_enable",) if recipe == "dapo" else ()
    args = settings(*BATCH, *rows, *WEIGHED, *more, "--actor.num_gpus_per_node", ranks.count, "--math.recipe",
                    recipe)  # fmt: skip
    papers = {"cispo": {"kind": "cispo", "clip": (1.0, 4.0)}, "sapo": {"kind": "sapo"}, "dapo": {"clip": (0.2, 0.28)}}
    formula = WEIGHTS | papers.get(recipe, {})
    compared(train(completions, args, ranks, monkeypatch), completions, MODES[recipe], **formula)


def test_masked_completions_are_in_no_denominator(ranks, monkeypatch):
    completions = batch(cut_off=0.35)
    args = settings(*BATCH, *PACKED, *WEIGHED, "--actor.num_gpus_per_node", ranks.count, "--math.truncated", "mask")
    kept = [one for one in completions if not one.truncated]
    assert 5 < len(kept) < GROUPS * SIZE - 5
    compared(train(completions, args, ranks, monkeypatch), kept, "seq-mean-token-mean", **WEIGHTS)


@pytest.mark.parametrize("size", [SIZE, 1])
def test_teacher_only_run_needs_no_reward_or_group(ranks, monkeypatch, size):
    completions = batch()
    flags = ("--rollout.batch_size", GROUPS * SIZE // size, "--rollout.n_samples_per_prompt", size)
    args = settings(*flags, *PACKED, *ALONE, "--actor.num_gpus_per_node", ranks.count)
    done = train(completions, args, ranks, monkeypatch)
    compared(done, completions, "seq-mean-token-mean", teacher=1.0, rewarded=0.0)
    for one in completions:
        one.reward = 0.2
    again = train(completions, args, ranks, monkeypatch)
    assert_close(again.gradients[0]["table"], done.gradients[0]["table"], atol=1e-7, rtol=1e-6)


def test_reverse_kl_of_a_step_is_the_mean_over_its_tokens(ranks, monkeypatch):
    completions = batch(tool=True)
    for steps in ((), SEVERAL):
        args = settings(*BATCH, *PACKED, *WEIGHED, *steps, "--actor.num_gpus_per_node", ranks.count)
        done = train(completions, args, ranks, monkeypatch)
        gaps = []
        for one in completions:
            now = one.old if steps else own_tokens(lambda one: log_probs(bigram_table(), one))(one)[0]
            gaps += (now - one.reference).tolist()
        for status in done.statuses:
            assert status["teacher/reverse_kl"] == pytest.approx(sum(gaps) / len(gaps), abs=1e-5)


def test_in_expectation_the_gradient_is_that_of_the_reverse_kl():
    """All tokens of a vocabulary, each weighed with its probability: nothing is left to sampling."""
    logits = bigram_table()[0].requires_grad_()
    other = bigram_table(1)[0].log_softmax(0)

    def weighed(log_probs, old_log_probs, advantages, action_mask):
        loss = -(old_log_probs.exp() * advantages * log_probs).sum()
        return loss, torch.tensor(0.0), torch.tensor(0.0), None, None

    taught = TaughtLoss(weighed, coef=1.0)
    log_p = logits.log_softmax(0)
    taught.log_probs = other[:, None]
    rest = torch.zeros(VOCABULARY, 1), torch.ones(VOCABULARY, 1)
    taught(log_p[:, None], log_p[:, None].detach(), *rest)[0].backward()
    found, logits.grad = logits.grad.clone(), None
    p = logits.softmax(0)
    (p * (p.log() - other)).sum().backward()
    assert_close(found, logits.grad, atol=1e-6, rtol=1e-5)


def test_student_learns_from_a_teacher_with_a_shared_prefix(ranks, monkeypatch):
    completions, other = batch(tool=True), Transformer(seed=1)
    for one in completions:
        one.reference = own_tokens(other.log_probs_of)(one)[0].detach()
    args = settings(*BATCH, *PACKED, *WEIGHED, "--actor.num_gpus_per_node", ranks.count)
    done = train(completions, args, ranks, monkeypatch, Transformer)
    plain = Transformer()
    loss(own_tokens(plain.log_probs_of), completions, "seq-mean-token-mean", **WEIGHTS).backward()
    for name, parameter in plain.named_parameters():
        assert_close(done.gradients[0][name], parameter.grad, atol=1e-5, rtol=1e-4, msg=lambda text, at=name: at + text)


def test_experience_maker_queries_the_teacher_without_kl(monkeypatch):
    """Its log-probabilities go to the batch that they are of; no other model runs with one step a batch."""
    args = settings(*BATCH, *PACKED, *TEACHER)
    completions, group = batch(), object()
    maker = RemoteExperienceMaker.__new__(MathExperienceMaker)
    maker.__init__("policy", None, None, group, SimpleNamespace(value=0.0), SimpleNamespace(args=args), None)
    asked = []

    def dispatch(self, which, sync, sequences, action_mask, attention_mask):
        asked.append(which)
        return [mask * 100.0 + len(sequence) for sequence, mask in zip(sequences, action_mask, strict=True)]

    monkeypatch.setattr(RemoteExperienceMaker, "_dispatch_forward", dispatch)
    monkeypatch.setattr("openrlhf.trainer.ppo_utils.experience_maker.ray.get", lambda refs: [refs])
    monkeypatch.setattr("openrlhf.trainer.ppo_utils.experience_maker.ray.put", lambda value: value)
    monkeypatch.setattr("openrlhf_math.grpo.update.experience.ray.put", lambda value: value)
    monkeypatch.setattr(maker, "_flatten_results", lambda refs, _: refs if len(refs) > 1 else refs[0])
    made = maker.make_experience(rolled_out(completions, args))
    assert asked == [group]
    for each in made:
        assert_close(each.base_action_log_probs, each.action_mask * 100.0 + 1)
        assert not each.kl.any() and not each.info["kl"].any()


# Flags


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--math.teacher_coef", "2"), "--math.teacher_coef"),
        (("--math.reward_coef", "0"), "--math.reward_coef"),
        ((*TEACHER, "--math.teacher_coef", "0"), "--math.teacher_coef"),
        ((*TEACHER, "--math.teacher_coef", "nan"), "--math.teacher_coef"),
        ((*TEACHER, "--math.reward_coef", "-1"), "--math.reward_coef"),
        ((*TEACHER, "--algo.kl.init_coef", "0.1"), "--algo.kl.init_coef 0.1"),
        ((*TEACHER, "--math.recipe", "grpo"), "--algo.kl.init_coef 0.04"),
        ((*TEACHER, "--math.recipe", "gspo"), "gspo"),
        ((*TEACHER, "--math.recipe", "dapo"), "--no-algo.dynamic_filtering_enable"),
        ((*TEACHER, "--train.async_enable"), "--train.async_enable"),
        ((*TEACHER, "--algo.advantage.estimator", "gae"), "gae"),
        ((*TEACHER, "--rollout.n_samples_per_prompt", "1"), "--rollout.n_samples_per_prompt 1"),
        (("--math.teacher", "./nowhere"), "--math.teacher ./nowhere"),
    ],
)
def test_flags_incompatible_with_a_teacher_are_refused(flags, named, capsys):
    words = ["--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data"]
    assert main(["grpo", *words, *flags, "--dry-run"]) == 2
    error = capsys.readouterr().err.strip()
    assert named in error and len(error.splitlines()) == 1


def test_recipe_with_a_kl_works_without_it():
    args = settings(*TEACHER, "--math.recipe", "grpo", "--algo.kl.init_coef", 0)
    assert args.math.teacher.coef == args.math.teacher.reward_coef == 1 and not old_log_probs_needed(args)


def test_plan_replaces_the_reference_model_by_the_teacher():
    shape = ("--no-train.colocate_all", "--actor.num_gpus_per_node", 2)
    args, plain = settings(*TEACHER, *shape), settings(*shape)
    (row,) = (row for row in plan(args) if row.name == "teacher")
    assert (row.count, row.memory) == (2, 2 * 7e9)
    assert {row.name for row in plan(plain)} == {row.name for row in plan(args)} - {"teacher"}
    assert devices_wanted(args) == devices_wanted(plain) + 2
    (row,) = (row for row in plan(settings(*TEACHER, *shape, "--ds.zero_stage", 3)) if row.name == "teacher")
    assert row.memory == 7e9
    seen = with_reference(args)
    assert seen.algo.kl.init_coef > 0 and args.algo.kl.init_coef == 0 and seen.actor is args.actor


def test_resumed_run_keeps_its_teacher():
    config = json.loads(as_json(settings(*WEIGHED)))
    found = {name: value for name, value in config["math"]["teacher"].items() if not is_free(f"math.teacher.{name}")}
    assert found == {"model": "some/teacher-7B", "coef": 0.7, "reward_coef": 0.4,
                                         "parameters": 7_000_000_000}  # fmt: skip
    assert "some/teacher-7B" in config["objective"]["teacher"]
    assert not any(is_free(f"math.teacher{part}") for part in ("", ".model", ".coef", ".reward_coef"))


# Which teachers


def save(folder: Path, tokens: dict[str, int], eos: str = "</s>", rows: int = 8, positions: int = 4096) -> Path:
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, unk_token="<unk>").save_pretrained(folder)
    Qwen2Config(vocab_size=rows, max_position_embeddings=positions, architectures=["Qwen2ForCausalLM"]).save_pretrained(
        folder
    )
    return folder


TOKENS = {"<unk>": 0, "</s>": 1, "1": 2, "2": 3, "+": 4}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"tokens": TOKENS | {"1": 3, "2": 2}}, "'1' is id 3 to it and id 2"),
        ({"tokens": TOKENS | {"-": 5}}, "'-' is id 5 to it and no token"),
        ({"tokens": TOKENS, "eos": "+"}, "eos_token"),
        ({"tokens": TOKENS, "rows": 7}, "7 tokens"),
        ({"tokens": TOKENS, "positions": 1024}, "1024 positions"),
    ],
)
def test_teacher_with_another_tokenizer_is_refused(tmp_path, other, named, capsys):
    student, teacher = save(tmp_path / "student", TOKENS), save(tmp_path / "teacher", **other)
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(f'{{"problem": "1 + {n}", "answer": "{n + 1}"}}\n' for n in range(16)))
    flags = ["--actor.model_name_or_path", str(student), "--data.prompt_dataset", str(problems), "--math.run_dir",
             str(tmp_path / "run"), "--no-data.apply_chat_template"]  # fmt: skip
    assert main(["grpo", *flags, "--math.teacher", str(teacher), "--dry-run"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"--math.teacher {teacher}" in error and named in error and len(error.splitlines()) == 1
    larger = save(tmp_path / "larger", TOKENS, rows=9)
    check_same_vocabulary(str(student), str(larger), ask_hub=False)
