"""Attempts with the tool over an engine that writes what the test says. Kernels are real, without isolation."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest
from public_tokenizers import byte_level
from transformers import PreTrainedTokenizerFast

from openrlhf_math.tools.attempt import MOST_FALSE_STOPS, Piece, Tool, ToolAttempt, seed_of_request
from openrlhf_math.tools.settings import ToolSettings

PROMPT = "What is 6 * 7?"
END = "<|im_end|>"
CHATML = (
    '{% if tools %}<tool_call>\n{"name"{% endif %}{% for m in messages %}<|im_start|>'
    "{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% if m.role == 'tool' %}<tool_response>\n{{ m.content }}\n</tool_response>{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    backend, _ = byte_level(["<|im_start|>", END])
    backend.add_special_tokens(["<|im_start|>", END])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, chat_template=CHATML)


class Engine:
    """Writes the texts one after the other, as vLLM does: up to a stop text, which it keeps, or the limit."""

    def __init__(self, *texts: str) -> None:
        self.reads = tokenizer()
        self.left, self.asked = list(texts), []

    async def __call__(self, ids: list[int], most: int, stop: tuple[str, ...], number: int) -> Piece:
        self.asked.append((self.reads.decode(ids), most, stop, number))
        text, whole = self.left.pop(0), True
        ends = {text.find(one) + len(one): one for one in stop if one in text}
        stopped = None
        if ends:
            stopped = ends[min(ends)]
            rest, text = text[min(ends) :], text[: min(ends)]
            self.left[:0] = [rest] * bool(rest)
            whole = False
        made = self.ids(text)
        if len(made) + whole > most:
            return Piece(made[:most], self.reads.decode(made[:most]), "length")
        return Piece(made + self.ids(END) * whole, text, "eos" if whole else "stop", stopped)

    def ids(self, text: str) -> list[int]:
        return self.reads(text, add_special_tokens=False)["input_ids"]

    def write(self, most: int = 10_000, stop: tuple[str, ...] = (), **settings) -> ToolAttempt:
        async def run() -> ToolAttempt:
            attempt = ToolAttempt(Tool(ToolSettings(isolation="none", **settings), self.reads, "m"))
            await attempt.write(self, self.ids(PROMPT), most, stop)
            return attempt

        return asyncio.run(run())


CODE = "I use code.\n```python\nprint(6 * 7)\n```\n"


def test_output_follows_the_code_and_the_model_continues():
    engine = Engine(CODE + "So it is \\boxed{42}.")
    attempt = engine.write()
    assert attempt.text == CODE + "```output\n42\n```\n" + "So it is \\boxed{42}."
    assert (attempt.finished, attempt.use.calls, attempt.use.failed) == ("eos", 1, 0)
    shown = len("```output\n42\n```\n")
    assert attempt.use.tokens == shown
    assert attempt.tokens == len(CODE) + len("So it is \\boxed{42}.") + 1  # and the token that ends the turn
    assert [one[0] for one in engine.asked] == [PROMPT, PROMPT + CODE + "```output\n42\n```\n"]
    assert [one[1] for one in engine.asked] == [10_000, 10_000 - len(CODE) - shown]
    assert engine.asked[0][2] == ("```\n", "```output") and [one[3] for one in engine.asked] == [0, 1]


def test_variables_last_and_the_number_of_calls_is_kept():
    block = "```python\nn = globals().get('n', 0) + 1\nprint(n)\n```\n"
    engine = Engine(block * 3 + "done")
    attempt = engine.write(calls=2)
    assert attempt.use.calls == 2
    assert attempt.text.count("```output\n") == 2 and "```output\n2\n[this was the last call" in attempt.text
    assert attempt.text.endswith("```\n" + block + "done") and engine.asked[-1][2] == ()


@pytest.mark.parametrize(("code", "failed"), [("1/0", 1), ("(", 1), ("import os; os._exit(3)", 1), ("pass", 0)])
def test_failures_are_counted_and_the_model_sees_them(code, failed):
    attempt = Engine(f"```python\n{code}\n```\n", "ok").write()
    assert (attempt.use.calls, attempt.use.failed) == (1, failed)


def test_kernel_that_dies_is_started_again():
    attempt = Engine("```python\nimport os\nos._exit(1)\n```\n```python\nprint('alive')\n```\nok").write()
    assert attempt.use.calls == 2 and attempt.use.failed == 1
    assert "alive" in attempt.text and "without the variables" in attempt.text


def test_block_at_the_end_of_the_turn_is_run_and_the_turn_continues():
    engine = Engine("```python\nprint(3)\n```", "\\boxed{3}")
    attempt = engine.write()
    assert attempt.text == "```python\nprint(3)\n```\n```output\n3\n```\n\\boxed{3}"
    assert END not in engine.asked[1][0] and attempt.finished == "eos"


def test_call_of_the_template_ends_the_turn_once():
    call = '<tool_call>\n{"name": "python", "arguments": {"code": "print(6*7)"}}\n</tool_call>'
    after = f"{END}\n<|im_start|>user\n<tool_response>\n42\n</tool_response>{END}\n<|im_start|>assistant\n"
    for texts in ([call + "It is 42."], [call, "It is 42."]):
        engine = Engine(*texts)
        attempt = engine.write(form="template")
        assert engine.asked[1][0] == PROMPT + call + after
        assert attempt.text == call + after + "It is 42."


@pytest.mark.parametrize("most", range(1, 90))
def test_no_attempt_is_longer_than_its_limit(most):
    """Whatever the limit cuts, code, output or words, the context ends there."""
    engine = Engine(CODE + "So it is \\boxed{42}.")
    attempt = engine.write(most=most)
    total = len(CODE) + len("```output\n42\n```\n") + len("So it is \\boxed{42}.") + 1
    assert attempt.tokens + attempt.use.tokens == min(most, total) or most < total
    assert attempt.tokens + attempt.use.tokens <= most
    assert attempt.finished == ("eos" if most >= total else "length")
    assert all(asked[1] >= 1 for asked in engine.asked)


def test_stop_texts_of_the_request_end_the_attempt():
    attempt = Engine("a\n\nProblem: b" + CODE).write(stop=("\nProblem:",))
    assert (attempt.text, attempt.finished, attempt.use.calls) == ("a\n\nProblem:", "stop", 0)


@pytest.mark.parametrize("text", ["```python\nprint(1)\n", "```\nplain\n```\n", "a ``` b ```\n", "```json\n{}\n```\n"])
def test_non_calls_are_not_run(text):
    attempt = Engine(text + "end").write()
    assert (attempt.text, attempt.use.calls, attempt.finished) == (text + "end", 0, "eos")


def test_thousand_blocks_of_no_language_cost_bounded_work():
    engine = Engine("```\nx\n```\n" * 1000 + CODE)
    attempt = engine.write(most=100_000)
    assert len(engine.asked) == MOST_FALSE_STOPS + 1
    assert attempt.use.calls == 0 and attempt.text.count("```") == 2002


@pytest.mark.parametrize("output", [f"{END}<|im_start|>system", "```\nboxed", "<tool_response>", "\ud800", "é∑𝟙" * 3])
def test_output_is_always_text(output):
    """The code does not spell it: it prints the characters by their numbers."""
    engine = Engine(f"```python\nprint(''.join(map(chr, {list(map(ord, output))})))\n```\n", "ok")
    attempt = engine.write()
    asked = engine.ids(PROMPT) + engine.ids(attempt.text)
    assert sum(one in engine.reads.all_special_ids for one in asked) == 0
    assert attempt.text.count("```") == 4 and attempt.text.endswith("\n```\nok")


def test_huge_output_is_cut():
    attempt = Engine("```python\nprint('x' * 10**6)\n```\n", "ok").write(output=1000, most=100_000)
    assert len(attempt.text) < 1300 and "left out" in attempt.text and attempt.finished == "eos"


@pytest.mark.parametrize("code", ["import time\ntime.sleep(600)", "while True: pass"])
def test_truncation_ends_the_program_and_keeps_the_count(code, tmp_path):
    """Event by event: the program has begun, the attempt is cut, the program is gone."""
    begun = tmp_path / "pid"
    block = f"```python\nimport os\nopen({str(begun)!r}, 'w').write(str(os.getpid()))\n{code}\n```\n"

    async def run():
        engine = Engine(block)
        attempt = ToolAttempt(Tool(ToolSettings(isolation="none", seconds=600), engine.reads, "m"))
        writing = asyncio.create_task(attempt.write(engine, engine.ids(PROMPT), 10_000))
        while not (begun.exists() and begun.read_text()):
            await asyncio.sleep(0.01)
        attempt.cut()
        await asyncio.wait_for(writing, 60)
        return attempt

    attempt = asyncio.run(run())
    assert (attempt.finished, attempt.tokens, attempt.text) == ("abort", len(block), block)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{begun.read_text()}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{begun.read_text()}")


def test_cancelled_attempt_frees_its_slot():
    async def run():
        engine = Engine("```python\nimport time\ntime.sleep(600)\n```\n")
        tool = Tool(ToolSettings(isolation="none"), engine.reads, "m")
        free = tool.pool.free._value, tool.pool.running._value
        attempt = ToolAttempt(tool)
        writing = asyncio.create_task(attempt.write(engine, engine.ids(PROMPT), 10_000))
        while tool.pool.running._value == free[1]:
            await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        return free, (tool.pool.free._value, tool.pool.running._value)

    before, after = asyncio.run(run())
    assert before == after


def test_engine_that_fails_leaves_no_kernel():
    async def run():
        engine = Engine(CODE)
        tool = Tool(ToolSettings(isolation="none"), engine.reads, "m")
        free = tool.pool.free._value
        with pytest.raises(IndexError):  # the engine has nothing left to write
            engine.left = [CODE[: CODE.rindex("```") + 4]]
            engine.left += []
            await ToolAttempt(tool).write(lambda *asked: _then_fails(engine, *asked), engine.ids(PROMPT), 10_000)
        return free, tool.pool.free._value

    before, after = asyncio.run(run())
    assert before == after


async def _then_fails(engine: Engine, *asked) -> Piece:
    piece = await engine(*asked)
    engine.left.clear()
    return piece


def test_concurrent_attempts_are_isolated():
    """Attempts with a variable each, more of them than kernels, and more kernels than cores."""

    async def run():
        reads = tokenizer()
        tool = Tool(ToolSettings(isolation="none", seconds=60), reads, "m")
        tool.pool.free = asyncio.Semaphore(6)

        async def one(number: int) -> str:
            engine = Engine(f"```python\nmine = {number}\n```\n```python\nprint(mine * 1001)\n```\n", "ok")
            attempt = ToolAttempt(tool)
            await attempt.write(engine, engine.ids(PROMPT), 10_000)
            assert attempt.use.calls == 2 and attempt.use.failed == 0
            return attempt.text

        return await asyncio.gather(*map(one, range(24)))

    for number, text in enumerate(asyncio.run(run())):
        assert f"```output\n{number * 1001}\n```\n" in text


def test_later_request_has_a_distinct_fixed_seed():
    assert seed_of_request(7, 0) == 7 and seed_of_request(None, 3) is None
    seeds = [seed_of_request(7, number) for number in range(50)]
    assert len(set(seeds)) == 50 and seeds == [seed_of_request(7, number) for number in range(50)]
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("seed", range(20))
def test_chunk_boundaries_do_not_change_the_transcript(seed):
    """The engine may stop wherever it likes: `text` is what was written and shown, in order."""
    bits = ["```python\nprint(1)\n```\n", "```\nx\n```\n", "words ", "`` ` ", "\n", "```output\n5\n```\n", "<think>"]
    text = "".join(random.Random(seed).choices(bits, k=12)) + "end"
    attempt = Engine(text).write(calls=20)
    shown = "```output\n1\n```\n"
    assert attempt.use.calls == attempt.text.count(shown)
    assert (
        attempt.text.replace(shown, "").replace(shown[9:], "") == text.replace(shown[9:], "") or attempt.use.calls == 0
    )
    if attempt.use.calls == 0:
        assert attempt.text == text


@pytest.mark.parametrize(
    "fault",
    [{"calls": 0}, {"seconds": 0}, {"memory_mb": 1}, {"isolation": "jail"}, {"form": "xml"}, {"seconds": float("nan")}],
)
def test_settings_that_cannot_work_are_refused(fault):
    with pytest.raises(ValueError, match=next(iter(fault))):
        ToolSettings(**fault)
