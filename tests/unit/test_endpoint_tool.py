"""The tool for a model behind an endpoint: what the server is asked, and what becomes of its replies."""

import asyncio
import json

import pytest
from chat_server import ChatServer

from openrlhf_math.cli import main
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.endpoint_sampler import EndpointToolSampler, first_call
from openrlhf_math.rerank.roles import Completion, CutOff, Lost, RequestError, Sampling
from openrlhf_math.rerank.task import Metered
from openrlhf_math.tools.settings import ToolSettings

CODE = "Let me compute.\n```python\nprint(6 * 7)\n```\n"


class Scripted:
    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []

    async def complete(self, messages, sampling) -> Completion:
        self.asked.append((list(messages), sampling))
        return Completion(self.texts.pop(0), 10, "eos")

    check = close = prompt_tokens = None


def completed(sampler: Scripted, most: int = 1000, **settings) -> Completion:
    async def run():
        tool = EndpointToolSampler(sampler, ToolSettings(isolation="none", **settings))
        return await tool.complete([{"role": "user", "content": "6 * 7?"}], Sampling(max_tokens=most, seed=4))

    return asyncio.run(run())


def test_output_is_the_users_next_message():
    sampler = Scripted(CODE + "```output\n41\n```\nIt is 41.", "It is \\boxed{42}.")
    made = completed(sampler)
    assert made.text == CODE + "```output\n42\n```\nIt is \\boxed{42}."
    assert (made.tokens, made.finished, made.tool.calls, made.tool.failed) == (20, "eos", 1, 0)
    (first, one), (second, two) = sampler.asked
    assert second == [
        *first,
        {"role": "assistant", "content": CODE.strip()},
        {"role": "user", "content": "```output\n42\n```"},
    ]
    assert (one.max_tokens, two.max_tokens) == (1000, 990) and one.seed != two.seed
    assert one.stop == two.stop == ("```output",)


def test_variables_persist_and_the_last_reply_is_unchanged():
    sampler = Scripted("```python\nx = 5\n```\n", "```python\nprint(x)\n```", "```python\nprint(x + 1)\n```\nend")
    made = completed(sampler, calls=2)
    assert made.tool.calls == 2 and "```output\n5\n[this was the last call" in made.text
    assert made.text.endswith("```python\nprint(x + 1)\n```\nend") and sampler.asked[2][1].stop == ()


def test_token_limit_ends_the_attempt():
    made = completed(Scripted(*[CODE] * 9), most=25)
    assert (made.finished, made.tool.calls, made.tokens) == ("length", 3, 30)


@pytest.mark.parametrize(
    ("text", "code", "written"),
    [
        (CODE + "more", "print(6 * 7)\n", CODE),
        (CODE + CODE, "print(6 * 7)\n", CODE),
        ("<think>\n```python\n1\n```\n</think>\nhm", None, "<think>\n```python\n1\n```\n</think>\nhm"),
        ("<think>a</think>\n" + CODE + "b", "print(6 * 7)\n", "<think>a</think>\n" + CODE),
        ("```python\nnever closed", None, "```python\nnever closed"),
        ("```\nplain\n```\n" + CODE, "print(6 * 7)\n", "```\nplain\n```\n" + CODE),
    ],
)
def test_first_block_is_the_call(text, code, written):
    call, before = first_call(text)
    assert (call and call.code, before) == (code, written)


def test_cancelled_program_reports_tokens(tmp_path):
    begun = tmp_path / "begun"
    code = f"```python\nopen({str(begun)!r}, 'w')\nimport time\ntime.sleep(600)\n```\n"

    async def run():
        tool = EndpointToolSampler(Scripted(code), ToolSettings(isolation="none"))
        task = asyncio.create_task(tool.complete([], Sampling()))
        while not begun.exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(CutOff) as cut:
            await task
        return cut.value.tokens

    assert asyncio.run(run()) == 10


class Fails(Scripted):
    """What it has no text for raises, or waits."""

    def __init__(self, *texts: str, error: Exception | None = None) -> None:
        super().__init__(*texts)
        self.error = error

    async def complete(self, messages, sampling) -> Completion:
        if self.texts:
            return await super().complete(messages, sampling)
        self.asked.append((list(messages), sampling))
        if self.error:
            raise self.error
        await asyncio.sleep(600)
        raise AssertionError


def test_full_context_ends_an_attempt_and_refuses_a_problem():
    made = completed(Fails(CODE, CODE, error=RequestError("no room")))
    assert (made.finished, made.tokens, made.tool.calls) == ("length", 20, 2) and made.text.count("```output\n42") == 2
    with pytest.raises(RequestError):
        completed(Fails(error=RequestError("no room")))


@pytest.mark.parametrize("texts", [(), (CODE,), (CODE, CODE)])
@pytest.mark.parametrize("error", [Lost("no reply"), None], ids=["lost", "cancelled"])
def test_tokens_before_a_failure_are_spent(texts, error):
    budget = Budget(Limits())
    sampler = Fails(*texts, error=error)

    async def run():
        tool = EndpointToolSampler(sampler, ToolSettings(isolation="none"))
        task = asyncio.create_task(Metered(tool, budget).complete([], Sampling()))
        while len(sampler.asked) <= len(texts):
            await asyncio.sleep(0.01)
        if error is None:
            task.cancel()
        with pytest.raises(Lost if error else asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert (budget.tokens, budget.uncounted) == (10 * len(texts), int(error is None))


def test_solve_uses_an_endpoint_with_the_tool(tmp_path, monkeypatch):
    def answer(body, headers):
        return 200, "So \\boxed{42}." if len(body["messages"]) > 1 else CODE

    output = tmp_path / "solved.jsonl"
    with ChatServer(answer) as server:
        flags = ["--attempts", "2", "--no-early-stop", "--tool", "python", "--tool-isolation", "none"]
        command = ["solve", "--model", "m", "--base-url", server.url, *flags, "--output", str(output), "What is 6 * 7?"]
        assert main(command) == 0
    (row,) = map(json.loads, output.read_text().splitlines())
    assert row["answer"] == "42" and row["tool_calls"] == [1, 1] and "```output\n42\n```" in row["responses"][0]
