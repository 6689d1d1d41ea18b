"""Chats into tokens: huge ones are refused unread, and the attempts at a problem share the work."""

import asyncio
import threading

import pytest

from openrlhf_math.rerank.prompts import CHARACTERS_A_TOKEN, Prompts
from openrlhf_math.rerank.roles import RequestError


def chat(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


class Tokenizer:
    def __init__(self) -> None:
        self.read: list[tuple[str, str]] = []
        self.threads = set()

    def __call__(self, messages, prefix, variables):
        self.read.append((messages[0]["content"], prefix))
        self.threads.add(threading.current_thread())
        if messages[0]["content"] == "bad":
            raise RequestError("bad")
        return [len(messages[0]["content"]), len(prefix)]


def test_attempts_at_a_problem_are_tokenized_once_and_not_in_the_event_loop():
    tokenizer = Tokenizer()

    async def run():
        prompts = Prompts(tokenizer, 100)
        together = await asyncio.gather(*(prompts.ids(chat("12345")) for _ in range(32)))
        return [*together, await prompts.ids(chat("12345")), await prompts.ids(chat("12345"), "so")]

    assert asyncio.run(run()) == [[5, 0]] * 33 + [[5, 2]]
    assert tokenizer.read == [("12345", ""), ("12345", "so")]
    assert threading.main_thread() not in tokenizer.threads


def test_chat_that_is_far_too_long_is_not_read():
    tokenizer = Tokenizer()
    prompts = Prompts(tokenizer, 10)
    asyncio.run(prompts.ids(chat("1" * CHARACTERS_A_TOKEN * 10)))
    with pytest.raises(RequestError):
        asyncio.run(Prompts(tokenizer, 10).ids(chat("1" * (CHARACTERS_A_TOKEN * 10 + 1))))
    assert len(tokenizer.read) == 1


def test_cancelled_request_and_failures_do_not_affect_others():
    tokenizer = Tokenizer()

    async def run():
        prompts = Prompts(tokenizer, 100)
        first, second = (asyncio.ensure_future(prompts.ids(chat("1"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [1, 0]
        for _ in range(2):
            with pytest.raises(RequestError):
                await prompts.ids(chat("bad"))

    asyncio.run(run())
    assert [text for text, _ in tokenizer.read] == ["1", "bad", "bad"]
