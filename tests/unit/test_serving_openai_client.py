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


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1))
    yield pool
    pool.close()


class Sampler:
    def __init__(self, text: str, finished: str) -> None:
        self.text, self.finished, self.asked = text, finished, []

    async def complete(self, messages, sampling):
        self.asked.append(sampling)
        return Completion(self.text, 10, self.finished)


def ask(pool, sampler=None, **fields):
    sampler = sampler or Sampler("so \\boxed{7}", "eos")
    method = Method(one_solver("Box it.", Sampling()), stop=never)
    service = Service(name="tiny", method=method, limits=Limits(attempts=2, seconds=60), scored=False)
    app = build_app(Reranker(Solver(sampler, None, pool)), service, lambda messages: 1)

    async def run():
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app))
        where = {"base_url": "http://test/v1", "api_key": "x", "http_client": http, "max_retries": 0}
        async with openai.AsyncOpenAI(**where) as client:
            if fields.pop("models", False):
                return (await client.models.list()).data[0]
            return await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "1+1?"}], **fields
            )

    return asyncio.run(run())


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": None, "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0, "n": None, "seed": None},
        {"response_format": {"type": "text"}, "tool_choice": "none", "logit_bias": {}, "top_logprobs": None},
        {"extra_body": {"top_k": -1, "min_p": 0, "repetition_penalty": 1, "chat_template_kwargs": {}}},
        {"stop": [], "user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True},
        {"max_completion_tokens": 5, "temperature": 0, "top_p": 1, "stream": False},
    ],
    ids=str,
)
def test_what_asks_for_nothing_is_taken(pool, fields):
    assert ask(pool, **fields).choices[0].message.content == "so \\boxed{7}"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"extra_body": {"chat_template_kwargs": {"a": 1}}}, "chat_template_kwargs"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"stop": [""]}, "stop.0"),
    ],
    ids=str,
)
def test_what_must_not_be_ignored_is_refused_by_name(pool, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(pool, **fields)
    assert caught.value.param == param


def test_sampling_is_that_of_the_request(pool):
    sampler = Sampler("\\boxed{7}", "eos")
    ask(
        pool, sampler, stop="END", presence_penalty=0.5, frequency_penalty=-0.5,
        extra_body={"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.2},
    )  # fmt: skip
    one = sampler.asked[0]
    assert (one.stop, one.top_k, one.min_p, one.repetition_penalty) == (("END",), 3, 0.1, 1.2)
    assert (one.presence_penalty, one.frequency_penalty) == (0.5, -0.5)


@pytest.mark.parametrize(
    ("finished", "reason", "text"),
    [("eos", "stop", "\\boxed{7} END"), ("length", "length", "\\boxed{7} END"), ("stop", "stop", "\\boxed{7} ")],
)
def test_why_an_attempt_ended_is_told(pool, finished, reason, text):
    (choice,) = ask(pool, Sampler("\\boxed{7} END", finished), stop=["END"]).choices
    assert (choice.finish_reason, choice.message.content) == (reason, text)


def test_a_model_has_all_fields(pool):
    card = ask(pool, models=True)
    assert card.id == "tiny" and card.created > 0 and card.object == "model" and card.owned_by
