"""A teacher behind a server: its log-probabilities, faults on the way, and servers that are refused before a run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scoring_server import ScoringServer
from torch.testing import assert_close
from trained_batch import settings
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.driver import devices_wanted
from openrlhf_math.grpo.faults.resume import is_free
from openrlhf_math.grpo.plan import plan
from openrlhf_math.grpo.rollout.teacher import Teacher, needs_reference
from openrlhf_math.grpo.rollout.teacher_endpoint import log_probs_of, served
from openrlhf_math.grpo.settings import as_json


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(["Tom has 4 pens. Tom sells 1. How many pens?"] * 3)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1)  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture
def server(model, tokenizer):
    with ScoringServer(model, tokenizer) as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("openrlhf_math.endpoint.client.backoff", lambda number: 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def batches(vocabulary: int):
    """Two batches of uneven sequences, padded on the right; a tool's tokens and a whole completion are not actions."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for lengths in ((9, 5, 12), (7, 3)):
        sequences = torch.randint(3, vocabulary, (len(lengths), max(lengths)), generator=generator)
        shown = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        actions = (shown[:, 1:] & (torch.arange(max(lengths) - 1) >= 2)).long()
        actions[0, 4] = 0
        found.append(SimpleNamespace(sequences=sequences * shown, attention_mask=shown.long(), action_mask=actions))
    found[1].action_mask[1] = 0
    return found


def naive(model, batch):
    expected = torch.zeros(batch.action_mask.shape)
    for row in range(len(batch.sequences)):
        ids = batch.sequences[row, : int(batch.attention_mask[row].sum())].tolist()
        for place in range(1, len(ids)):
            if batch.action_mask[row, place - 1]:
                with torch.no_grad():
                    logits = model(torch.tensor([ids[:place]])).logits[0, -1]
                expected[row, place - 1] = logits[ids[place]] - logits.exp().sum().log()
    return expected


def test_action_log_probabilities_match_the_model(server, model, tokenizer):
    found = log_probs_of(Teacher("teacher", server.url), batches(len(tokenizer)))
    for one, batch in zip(found, batches(len(tokenizer)), strict=True):
        assert_close(one, naive(model, batch), atol=1e-5, rtol=1e-5)
    assert len(server.requests) == 4, "a completion without an action is not asked for"
    assert all(body["model"] == "teacher" and body["key"] is None for body in server.requests)


def lost(reply):
    return {"choices": [{"prompt_logprobs": reply["choices"][0]["prompt_logprobs"][:-1]}]}


def other_tokens(reply):
    rows = reply["choices"][0]["prompt_logprobs"]
    return {"choices": [{"prompt_logprobs": [None, *({"0": {"logprob": -1.0}} for _ in rows[1:])]}]}


def of_value(value):
    def changed(reply):
        rows = reply["choices"][0]["prompt_logprobs"]
        return {"choices": [{"prompt_logprobs": [None, *({t: {"logprob": value} for t in row} for row in rows[1:])]}]}

    return changed


FAULTS = {
    "busy": 503, "too many": 429, "no JSON object": lambda reply: [], "no figures": lambda reply: {"choices": [{}]},
    "one is missing": lost, "other tokens": other_tokens, "infinite": of_value(-9999.0), "no number": of_value(None),
    "NaN": of_value(float("nan")), "positive": of_value(0.5),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_unusable_reply_is_requested_again(server, model, tokenizer, fault):
    server.faults += [fault, fault]
    found = log_probs_of(Teacher("teacher", server.url), batches(len(tokenizer)))
    assert_close(found[0], naive(model, batches(len(tokenizer))[0]), atol=1e-5, rtol=1e-5)
    assert len(server.requests) == 6


@pytest.mark.parametrize("fault", [503, FAULTS["other tokens"], 400, 404, 307])
def test_silent_server_ends_the_run_with_one_sentence(server, tokenizer, fault):
    server.faults += [fault] * 100
    with pytest.raises(RuntimeError) as raised:
        log_probs_of(Teacher("teacher", server.url, tries=2), batches(len(tokenizer)))
    message = str(raised.value)
    assert message.startswith(f"--math.teacher {server.url}") and len(message.splitlines()) == 1
    assert "--base-url" not in message and "--max-tokens" not in message


def test_key_is_sent_but_never_shown(server, tokenizer, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "secret-of-the-teacher")
    args = settings("--math.teacher", server.url, "--math.teacher_key_env", "TEACHER_KEY")
    assert "secret" not in as_json(args)
    log_probs_of(replace(args.math.teacher, model="teacher"), batches(len(tokenizer)))
    assert {body["key"] for body in server.requests} == {"Bearer secret-of-the-teacher"}


# Before a run


def test_only_model_of_a_server_is_the_teacher(server, tokenizer):
    assert served(Teacher("", server.url), tokenizer, 256).model == "teacher"
    server.context = None
    assert served(Teacher("teacher", server.url), tokenizer, 10**6).model == "teacher"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"names": ("a", "b")}, "a, b"),
        ({"names": ()}, "--math.teacher_model"),
        ({"names": ("other",)}, "other"),
        ({"context": 256}, "--max-model-len 257"),
        ({"faults": [lambda reply: {"choices": [{"text": ""}]}] * 100}, "vllm serve"),
        ({"faults": [401] * 100}, "OPENAI_API_KEY"),
    ],
)
def test_unsuitable_server_is_one_sentence(server, tokenizer, change, named):
    for name, value in change.items():
        setattr(server, name, value)
    teacher = Teacher("teacher" if change.get("names") == ("other",) else "", server.url)
    with pytest.raises(UserError) as raised:
        served(teacher, tokenizer, 256)
    message = str(raised.value)
    assert f"--math.teacher {server.url}" in message and named in message and len(message.splitlines()) == 1


@pytest.mark.parametrize("swap", [(5, 6), (30, 60)])
def test_server_with_another_vocabulary_is_refused(server, tokenizer, swap):
    class Swapped:
        def decode(self, ids):
            return tokenizer.decode([{swap[0]: swap[1], swap[1]: swap[0]}.get(token, token) for token in ids])

    server.tokenizer = Swapped()
    with pytest.raises(UserError, match=f"token {swap[0]} is"):
        served(Teacher("", server.url), tokenizer, 256)


def test_server_with_fewer_tokens_is_refused(server, tokenizer):
    last = max(tokenizer.get_vocab().values())

    class Shorter:
        def decode(self, ids):
            return tokenizer.decode([token for token in ids if token < last - 4])

    server.tokenizer = Shorter()
    with pytest.raises(UserError, match="vocabulary"):
        served(Teacher("", server.url), tokenizer, 256)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--rollout.temperature", "0.7"), "--rollout.temperature 0.7"),
        (("--math.teacher_concurrency", "0"), "--math.teacher_concurrency 0"),
        (("--math.teacher_timeout", "0"), "--math.teacher_timeout 0"),
        (("--math.teacher_tries", "0"), "--math.teacher_tries 0"),
        (("--math.teacher_key_env", "NOT_SET_ANYWHERE"), "--math.teacher_key_env NOT_SET_ANYWHERE"),
        (("--math.teacher", "ftp://x/v1"), "--math.teacher ftp://x/v1"),
        (("--math.teacher", "some/model-7B", "--math.teacher_model", "a"), "--math.teacher_model a"),
    ],
)
def test_invalid_server_flags(flags, named, capsys):
    words = ["--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data"]
    url = () if "--math.teacher" in flags else ("--math.teacher", "http://127.0.0.1:9/v1")
    assert main(["grpo", *words, *url, *flags, "--dry-run"]) == 2
    error = capsys.readouterr().err.strip()
    assert named in error and len(error.splitlines()) == 1


def test_teacher_server_loads_no_extra_model():
    plain, args = (
        settings("--no-train.colocate_all"),
        settings(
            "--no-train.colocate_all", "--math.teacher", "http://127.0.0.1:9/v1", "--math.teacher_model", "teacher"
        ),
    )
    assert not needs_reference(args) and devices_wanted(args) == devices_wanted(plain)
    assert [row.name for row in plan(args)] == [row.name for row in plan(plain)]
    assert "teacher at http://127.0.0.1:9/v1" in json.loads(as_json(args))["objective"]["teacher"]
    assert is_free("math.teacher.url") and is_free("math.teacher.tries") and not is_free("math.teacher.model")
