"""The official OpenAI client against the endpoints: what it sends is taken, what it gets is of OpenAI's form."""

import asyncio

import httpx
import openai
import pytest

from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.early_stop import never
from openrlhf_math.rerank.reranker import Reranker
from openrlhf_math.rerank.roles import Completion, Sampling
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.serving.app import build_app
from openrlhf_math.serving.plan import Service
from openrlhf_math.serving.protocol import protocol_model


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1))
    yield pool
    pool.close()


class Sampler:
    def __init__(self, text: str, finished: str) -> None:
        self.text, self.finished, self.asked, self.messages = text, finished, [], []

    async def complete(self, messages, sampling):
        self.asked.append(sampling)
        self.messages.append(messages)
        return Completion(self.text, 10, self.finished)


def ask(pool, sampler=None, **fields):
    sampler = sampler or Sampler("so \\boxed{7}", "eos")
    method = Method(one_solver("Box it.", Sampling()), stop=never)
    service = Service(name="tiny", method=method, limits=Limits(attempts=2, seconds=60), scored=False)
    app = build_app(Reranker(Solver(sampler, None, pool)), service, lambda turn: 1)

    async def run():
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app))
        where = {"base_url": "http://test/v1", "api_key": "x", "http_client": http, "max_retries": 0}
        async with openai.AsyncOpenAI(**where) as client:
            if fields.pop("models", False):
                return (await client.models.list()).data[0]
            asked = {"model": "tiny", "messages": [{"role": "user", "content": "1+1?"}], **fields}
            reply = await client.chat.completions.create(**asked)
            return [chunk async for chunk in reply] if asked.get("stream") else reply

    return asyncio.run(run())


NOTHING = {
    "as given": {},
    "nulls": {"stop": None, "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0, "n": None, "seed": None},
    "defaults": {"response_format": {"type": "text"}, "tool_choice": "none", "logit_bias": {}, "top_logprobs": None},
    "auto": {"tool_choice": "auto", "tools": [], "parallel_tool_calls": False, "modalities": ["text"]},
    "of vLLM": {"extra_body": {"top_k": -1, "min_p": 0, "repetition_penalty": 1, "chat_template_kwargs": {}}},
    "who asks": {"stop": [], "user": "me", "metadata": {"a": "b"}, "service_tier": "flex", "store": True},
    "caches": {"prompt_cache_key": "k", "safety_identifier": "i", "extra_body": {"session_id": "s"}},
    "limits": {"max_completion_tokens": 5, "temperature": 0, "top_p": 1, "stream": False, "n": 1},
    "what lm_eval sends": {"max_tokens": 9, "temperature": 0, "stop": ["Q:", "</s>", "<|im_end|>"], "seed": 1234},
    "images": {"extra_body": {"mm_processor_kwargs": {"a": 1}, "media_io_kwargs": {}, "length_penalty": 2}},
}


@pytest.mark.parametrize("fields", NOTHING.values(), ids=NOTHING.keys())
def test_fields_without_effect_are_accepted(pool, fields):
    assert ask(pool, **fields).choices[0].message.content == "so \\boxed{7}"


def test_every_vllm_server_default_is_accepted(pool):
    """Some clients send every field they know."""
    model = protocol_model()
    fields = {name: value.get_default(call_default_factory=True) for name, value in model.model_fields.items()}
    del fields["messages"], fields["model"], fields["request_id"]
    assert fields["ignore_eos"] is False and len(fields) > 60  # there is something to take
    assert ask(pool, extra_body=fields).choices[0].message.content == "so \\boxed{7}"


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
REFUSED = [
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, "response_format"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL]}, "tools"),
    ({"tools": [TOOL], "tool_choice": "none"}, "tools"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"verbosity": "low"}, "verbosity"),
    ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stop": [""]}, "stop.0"),
    ({"stop": ["a"] * 33}, "stop.32"),
    ({"stop": ["a" * 65537]}, "stop"),
    ({"stop": "a" * 10**6}, "stop"),
    ({"stop": 7}, "stop"),
    ({"n": 0}, "n"),
    ({"n": 300}, "n"),
    ({"seed": -(2**63) - 1}, "seed"),
    ({"temperature": -0.1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0, "max_tokens": 5}, "max_tokens"),
    ({"logit_bias": {"word": 1}}, None),
    *(
        ({"extra_body": {name: value}}, name)
        for name, value in {
            "temprature": 1, "top_k": -2, "min_p": 1.5, "repetition_penalty": 0, "echo": True, "priority": 3,
            "use_beam_search": True, "prompt_logprobs": 0, "structured_outputs": {"choice": ["a"]}, "documents": [{}],
            "chat_template": "{{ 1 }}", "continue_final_message": True, "add_generation_prompt": False,
            "add_special_tokens": True, "truncate_prompt_tokens": 5, "return_token_ids": True, "cache_salt": "s",
            "include_reasoning": False, "thinking_token_budget": 0, "min_tokens": -1, "chat_template_kwargs": [1],
            "bad_words": ["w"] * 1025, "logit_bias": {"1": "x"}, "kv_transfer_params": {"a": 1},
            "return_prompt_text": True, "vllm_xargs": {"a": 1}, "logprob_token_ids": [1],
            "repetition_detection": {"max_pattern_size": 3, "min_count": 3},
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=str)
def test_unsupported_fields_are_refused_by_name(pool, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(pool, **fields)
    assert caught.value.param and (param is None or caught.value.param.split(".")[0] == param.split(".")[0])


def test_sampling_follows_the_request(pool):
    sampler = Sampler("\\boxed{7}", "eos")
    ask(
        pool, sampler, stop="END", presence_penalty=0.5, frequency_penalty=-0.5, reasoning_effort="none",
        max_completion_tokens=9, max_tokens=99, logit_bias={"5": 3},
        extra_body={"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.2, "chat_template_kwargs": {"a": [1]},
                    "min_tokens": 2, "ignore_eos": True, "stop_token_ids": [4], "bad_words": ["x"]},
    )  # fmt: skip
    one = sampler.asked[0]
    assert (one.stop, one.top_k, one.min_p, one.repetition_penalty) == (("END",), 3, 0.1, 1.2)
    assert (one.presence_penalty, one.frequency_penalty, one.max_tokens) == (0.5, -0.5, 9)
    assert one.more == {"min_tokens": 2, "ignore_eos": True, "stop_token_ids": [4], "bad_words": ["x"],
                        "logit_bias": {5: 3}}  # fmt: skip
    assert one.template_variables == {"a": [1], "reasoning_effort": "none", "enable_thinking": False}


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_each_seed_draws_different_attempts(pool, seed):
    asked = []
    for one in (seed, seed, seed // 2 + 5):
        sampler = Sampler("\\boxed{7}", "eos")
        ask(pool, sampler, seed=one)
        asked.append({sampling.seed for sampling in sampler.asked})
    assert asked[0] == asked[1] and len(asked[0] | asked[2]) == 4
    assert all(0 <= seed < 2**31 for seed in asked[0] | asked[2])  # engines take no others


def test_client_can_send_back_a_reply(pool):
    sampler = Sampler("\\boxed{7}", "eos")
    reply = ask(pool, sampler).choices[0].message
    assert (reply.refusal, reply.tool_calls) == (None, None)
    turns = [{"role": "user", "content": "1+1?"}, reply.model_dump(), {"role": "user", "content": "and 2+2?"}]
    assert ask(pool, sampler, messages=turns).choices[0].message.content == "\\boxed{7}"
    assert sampler.messages[-1][1] == {"role": "assistant", "content": "\\boxed{7}"}
    turns[1]["reasoning_content"] = "hm"
    ask(pool, sampler, messages=turns)
    assert sampler.messages[-1][1]["reasoning_content"] == sampler.messages[-1][1]["reasoning"] == "hm"


@pytest.mark.parametrize(
    "extra", [{"tool_calls": [{"id": "1", **TOOL}]}, {"audio": {"id": "a"}}, {"content": None}], ids=str
)
def test_turns_with_other_than_text_are_refused(pool, extra):
    turns = [{"role": "assistant", "content": "2", **extra}, {"role": "user", "content": "and 2+2?"}]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(pool, messages=turns)
    assert caught.value.param.startswith("messages.0")


@pytest.mark.parametrize("continuous", [False, True])
def test_stream_reports_usage(pool, continuous):
    chunks = ask(pool, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": continuous})
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 20
    between = [chunk.usage and chunk.usage.completion_tokens for chunk in chunks[1:-1]]
    assert between == ([10, 20, 20, 20] if continuous else [None] * 4)


def test_id_is_that_of_the_request(pool):
    assert ask(pool, extra_body={"request_id": "mine"}).id == "chatcmpl-mine"


@pytest.mark.parametrize(("keep", "text"), [(True, "\\boxed{7} END"), (False, "\\boxed{7} ")])
def test_stop_text_is_kept_on_request(pool, keep, text):
    sampler = Sampler("\\boxed{7} END", "stop")
    reply = ask(pool, sampler, stop="END", extra_body={"include_stop_str_in_output": keep})
    assert reply.choices[0].message.content == text


@pytest.mark.parametrize(
    ("finished", "reason", "text"),
    [("eos", "stop", "\\boxed{7} END"), ("length", "length", "\\boxed{7} END"), ("stop", "stop", "\\boxed{7} ")],
)
def test_finish_reason_is_reported(pool, finished, reason, text):
    (choice,) = ask(pool, Sampler("\\boxed{7} END", finished), stop=["END"]).choices
    assert (choice.finish_reason, choice.message.content) == (reason, text)


def test_model_has_all_fields(pool):
    card = ask(pool, models=True)
    assert card.id == "tiny" and card.created > 0 and card.object == "model" and card.owned_by
