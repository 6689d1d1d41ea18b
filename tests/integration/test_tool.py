"""The tool in a real engine. A tiny random model calls nothing, so here every digit it writes counts as a call."""

import json
import subprocess
import sys

import pytest

from openrlhf_math.data.tiny_world import write_tiny_world

SCRIPT = """
import asyncio, dataclasses, json, os, sys, time
from openrlhf_math.colocation.layout import enter_environment
enter_environment("cpu", 1_000_000)
from openrlhf_math.rerank.roles import CutOff, Sampling
from openrlhf_math.rerank.sampling_engine import SamplerSettings, SamplingEngine
from openrlhf_math.tools.code_blocks import Call
from openrlhf_math.tools.settings import ToolSettings

CODE = "n = globals().get('n', 0) + 1\\nprint(n * 1001)"

class Reader:
    def add(self, text):
        return Call(CODE, text)

if __name__ == "__main__":
    model, sleeping = sys.argv[1:]
    tool = ToolSettings(calls=3, isolation="none")
    engine = SamplingEngine(SamplerSettings(model, "cpu", max_context=512, max_concurrency=8, tool=tool))
    engine._tool.turns.stops = tuple("0123456789")
    engine._tool.turns.reader = Reader
    requests, generate = [], engine._engine.generate

    async def recorded(prompt, parameters, name):
        asked = {"seed": parameters.seed, "ids": list(prompt["prompt_token_ids"]), "most": parameters.max_tokens}
        async for output in generate(prompt, parameters, name):
            yield output
        requests.append(asked | {"made": list(output.outputs[0].token_ids)})

    engine._engine.generate = recorded
    chat = [{"role": "user", "content": "1+1"}]

    async def main():
        global CODE
        sampling = Sampling(temperature=1.0, max_tokens=300, seed=5)
        done = [await engine.complete(chat, sampling) for _ in range(2)]
        asked = [requests[: len(requests) // 2], requests[len(requests) // 2 :]]
        at_once = await asyncio.gather(*(engine.complete(chat, Sampling(max_tokens=200)) for _ in range(16)))
        CODE = f"open({sleeping!r}, 'w').write(str(__import__('os').getpid()))\\n__import__('time').sleep(600)"
        requests.clear()
        task = asyncio.create_task(engine.complete(chat, sampling, "cut"))
        while not (os.path.exists(sleeping) and open(sleeping).read()):
            await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except CutOff as caught:
            cut = {"tokens": caught.tokens, "made": sum(len(one["made"]) for one in requests)}
        end_by = time.monotonic() + 60
        while os.path.exists(f"/proc/{open(sleeping).read()}") and time.monotonic() < end_by:
            await asyncio.sleep(0.02)
        cut["left"] = os.path.exists(f"/proc/{open(sleeping).read()}") or len(engine._under_way)
        return {"done": [dataclasses.asdict(one) for one in done], "asked": asked, "cut": cut,
                "at_once": [one.tool.calls for one in at_once]}

    print(json.dumps(asyncio.run(main())))
    engine.shutdown()
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    world = tmp_path_factory.mktemp("world")
    write_tiny_world(world, seed=0)
    (world / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(world / "script.py"), str(world / "model"), str(world / "sleeping")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), world / "model"


def test_engine_continues_from_its_tokens_after_tool_output(result):
    """What it wrote is never tokenized again, and no token is missing or there twice."""
    from transformers import AutoTokenizer

    (result, model) = result
    tokenizer = AutoTokenizer.from_pretrained(model)
    done, asked = result["done"][0], result["asked"][0]
    assert len(asked) == 4 and done["tool"]["calls"] == 3 and done["tool"]["failed"] == 0
    shown = []
    for one, following in zip(asked, asked[1:], strict=False):
        ids = one["ids"] + one["made"]
        if one["made"][-1] == tokenizer.eos_token_id:
            ids.pop()
        assert following["ids"][: len(ids)] == ids
        shown.append(following["ids"][len(ids) :])
        assert following["most"] == 300 - (len(following["ids"]) - len(asked[0]["ids"]))
    assert [next(n for n in (1001, 2002, 3003) if str(n) in tokenizer.decode(one)) for one in shown] == [
        1001,
        2002,
        3003,
    ]
    assert done["tokens"] == sum(len(one["made"]) for one in asked)
    assert done["tool"]["tokens"] == sum(map(len, shown))


def test_same_seed_draws_the_same(result):
    """The first request is compared by its tokens: later ones may find their context in the engine's cache."""
    first, second = result[0]["asked"]
    assert first[0] == second[0]
    assert [one["seed"] for one in first] == [one["seed"] for one in second]
    assert len({one["seed"] for one in first}) == len(first)


def test_every_attempt_gets_its_calls_with_few_cores(result):
    assert all(1 <= calls <= 3 for calls in result[0]["at_once"]) and len(result[0]["at_once"]) == 16


def test_cancelled_attempt_reports_tokens_and_leaves_no_program(result):
    cut = result[0]["cut"]
    assert cut["tokens"] == cut["made"] > 0
    assert not cut["left"]
