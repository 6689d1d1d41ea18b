"""Rollouts with a tool, over an engine that writes what a test says: which tokens are whose, budgets, seeds, the grade.

Kernels are real, without isolation, so it runs anywhere.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from vllm import SamplingParams

from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.executor import AgentExecutor
from openrlhf_math.grpo.rollout.tool_turns import RolloutTool, ToolTurns
from openrlhf_math.rewards import RewardConfig
from openrlhf_math.seeds import derived_seed
from openrlhf_math.tools.attempt import MOST_FALSE_STOPS
from openrlhf_math.tools.isolation import find_isolation

PROMPT = "What is 12 * 13?\n"
CALL = "Let me see.\n```python\nprint(12 * 13)\n```\n"
TOKENIZER = build_tokenizer([PROMPT, CALL, "The answer is \\boxed{156}."] * 10)
END = TOKENIZER.eos_token
# As Qwen's and Hermes' templates write tools, calls and replies, without their many words.
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\nCall as <tool_call>\n{...}\n</tool_call><|im_end|>\n{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'tool' %}<|im_start|>user\n<tool_response>\n"
    "{{ message['content'] }}\n</tool_response><|im_end|>\n{% else %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tool_template(monkeypatch):
    monkeypatch.setattr(TOKENIZER, "chat_template", TOOL_TEMPLATE)


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


class Engine:
    """Writes the next of `turns` for each request, up to its limit. Keeps what it was asked.

    A turn stops at the first stop string, as vLLM's: the token that completes it is the last.
    """

    def __init__(self, *turns: str) -> None:
        self.turns, self.asked = list(turns), []

    async def generate(self, prompt_ids, params):
        self.asked.append(SimpleNamespace(ids=list(prompt_ids), params=params.clone()))
        written, reason, stopped = [], "stop", None
        for token in ids(self.turns.pop(0)):
            written.append(token)
            stopped = next((one for one in params.stop or () if one in TOKENIZER.decode(written)), None)
            if stopped:
                break
            if len(written) == params.max_tokens and token != TOKENIZER.eos_token_id:
                reason = "length"
                break
        log_probs = [-0.01 * (len(self.asked) * 100 + place) for place in range(len(written))]
        one = SimpleNamespace(
            token_ids=written, finish_reason=reason, stop_reason=stopped, logprobs=SimpleNamespace(logprobs=log_probs)
        )
        return SimpleNamespace(outputs=[one])


def settings(**changed) -> RolloutTool:
    return RolloutTool(**{"calls": 4, "seconds": 20.0, "kernels": 2, "isolation": "none"} | changed)


def rollouts(engine, max_tokens: int = 400, samples: int = 1, seed: int | None = None, answer: str = "156", **changed):
    async def run():
        executor = AgentExecutor()
        executor.open(RewardConfig())
        executor.tool = ToolTurns(settings(**changed), TOKENIZER, "model")
        params = SamplingParams(max_tokens=max_tokens, seed=seed, skip_special_tokens=False)
        try:
            return await executor.execute_group(PROMPT, answer, params, 1000, TOKENIZER, engine, samples)
        finally:
            executor.pool.close()

    return asyncio.run(run())


def by_owner(rollout) -> list[tuple[str, str]]:
    """The text of a rollout behind its prompt, in pieces: ("model" or "tool", text)."""
    tokens, actions = rollout["observation_tokens"], set()
    for start, stop in rollout["action_ranges"]:
        actions.update(range(start, stop))
    pieces: list[tuple[str, list[int]]] = []
    for place in range(len(ids(PROMPT)), len(tokens)):
        owner = "model" if place in actions else "tool"
        if not pieces or pieces[-1][0] != owner:
            pieces.append((owner, []))
        pieces[-1][1].append(tokens[place])
    return [(owner, TOKENIZER.decode(part)) for owner, part in pieces]


def test_call_is_answered_and_the_model_continues():
    engine = Engine(CALL, "The answer is \\boxed{156}." + END)
    (rollout,) = rollouts(engine)
    assert by_owner(rollout) == [
        ("model", CALL), ("tool", "```output\n156\n```\n"), ("model", "The answer is \\boxed{156}." + END),
    ]  # fmt: skip
    assert rollout["reward"] == 1.0 and rollout["truncated"] is False
    logs = rollout["extra_logs"]
    assert (logs["tool/calls"], logs["tool/failed_calls"], logs["accuracy"]) == (1.0, 0.0, 1.0)
    assert logs["tool/tokens"] == len(ids("```output\n156\n```\n")) and logs["tool/seconds"] > 0


def test_sampled_tokens_are_never_tokenised_again():
    """Here it samples what no tokenizer would give for the text: a token a byte."""
    pieces = [token for letter in CALL for token in ids(letter)]
    assert pieces != ids(CALL) and TOKENIZER.decode(pieces) == CALL
    engine = Engine(END)

    async def generate(prompt_ids, params):
        if engine.asked:
            return await Engine.generate(engine, prompt_ids, params)
        engine.asked.append(SimpleNamespace(ids=list(prompt_ids), params=params))
        logprobs = SimpleNamespace(logprobs=[-0.5] * len(pieces))
        one = SimpleNamespace(token_ids=pieces, finish_reason="stop", stop_reason="```\n", logprobs=logprobs)
        return SimpleNamespace(outputs=[one])

    (rollout,) = rollouts(SimpleNamespace(generate=generate))
    before = len(ids(PROMPT))
    assert rollout["observation_tokens"][before : before + len(pieces)] == pieces
    assert engine.asked[1].ids[before : before + len(pieces)] == pieces


def test_log_probs_are_at_model_tokens():
    engine = Engine(CALL, "\\boxed{156}" + END)
    (rollout,) = rollouts(engine)
    tokens, log_probs = rollout["observation_tokens"], rollout["rollout_log_probs"]
    (first, call_end), (second, end) = rollout["action_ranges"]
    assert len(tokens) == len(log_probs) == end
    assert log_probs[:first] == [0.0] * first and log_probs[call_end:second] == [0.0] * (second - call_end)
    assert log_probs[first:call_end] == [-0.01 * (100 + place) for place in range(call_end - first)]
    assert log_probs[second:end] == [-0.01 * (200 + place) for place in range(end - second)]


def test_next_request_is_the_sequence_with_the_remaining_limit():
    engine = Engine(CALL, "\\boxed{156}" + END)
    (rollout,) = rollouts(engine, max_tokens=90)
    first, second = engine.asked
    begun = rollout["action_ranges"][1][0]
    assert first.ids == ids(PROMPT) and second.ids == rollout["observation_tokens"][:begun]
    assert (first.params.max_tokens, second.params.max_tokens) == (90, 90 - (begun - len(first.ids)))
    assert first.params.stop == second.params.stop and first.params.n == 1


def test_variables_live_as_long_as_the_completion():
    one = "```python\nx = 7\n```\n", "```python\nprint(x)\n```\n", "ok" + END
    (rollout,) = rollouts(Engine(*one))
    assert by_owner(rollout)[3] == ("tool", "```output\n7\n```\n")
    both = rollouts(Engine(one[0], one[1], END, END), samples=2)
    shown = [piece for rollout in both for piece in by_owner(rollout) if piece[0] == "tool"]
    assert any("NameError" in text for _, text in shown)


def test_no_calls_are_parsed_after_the_last_allowed_one():
    engine = Engine(CALL, CALL, CALL + CALL + END)
    (rollout,) = rollouts(engine, calls=2)
    assert [owner for owner, _ in by_owner(rollout)] == ["model", "tool", "model", "tool", "model"]
    assert rollout["extra_logs"]["tool/calls"] == 2 and not engine.asked[2].params.stop


def test_turn_ended_by_the_model_is_the_last():
    engine = Engine("```python\nprint(1)\n```" + END)
    (rollout,) = rollouts(engine)
    assert len(engine.asked) == 1 and rollout["extra_logs"]["tool/calls"] == 0 and not rollout["truncated"]


def test_block_without_a_language_is_not_a_call():
    engine = Engine("```\n", "1 + 1\n```\n", "done" + END)
    (rollout,) = rollouts(engine)
    assert by_owner(rollout) == [("model", "```\n1 + 1\n```\ndone" + END)]
    assert rollout["extra_logs"]["tool/calls"] == 0


def test_non_call_texts_limit_the_requests():
    engine = Engine(*["```\n"] * MOST_FALSE_STOPS, "```\n```\n" + END)
    (rollout,) = rollouts(engine, max_tokens=900)
    assert len(engine.asked) == MOST_FALSE_STOPS + 1
    assert [owner for owner, _ in by_owner(rollout)] == ["model"]


# --- the limit


def test_truncated_call_is_not_run():
    engine = Engine(CALL)
    (rollout,) = rollouts(engine, max_tokens=len(ids(CALL)) - 2)
    assert rollout["truncated"] is True and rollout["extra_logs"]["tool/calls"] == 0
    assert len(rollout["observation_tokens"]) == len(ids(PROMPT)) + len(ids(CALL)) - 2


def test_call_ending_at_the_limit_is_not_run():
    (rollout,) = rollouts(Engine(CALL), max_tokens=len(ids(CALL)))
    assert rollout["truncated"] is True and rollout["extra_logs"]["tool/calls"] == 0


@pytest.mark.parametrize(("room", "fits"), [(0, False), (1, True)])
def test_output_that_leaves_no_room_is_dropped(room, fits):
    whole = len(ids(CALL)) + len(ids("```output\n156\n```\n"))
    (rollout,) = rollouts(Engine(CALL, "no room" + END), max_tokens=whole + room)
    assert rollout["truncated"] is True and rollout["extra_logs"]["tool/calls"] == 1
    assert len(rollout["observation_tokens"]) - len(ids(PROMPT)) == (whole + 1 if fits else len(ids(CALL)))
    assert rollout["observation_tokens"][-1:] != [], "it always ends with a token of the model"
    assert rollout["action_ranges"][-1][1] == len(rollout["observation_tokens"])


# --- what the tool says


def test_chat_template_without_tools_is_refused():
    with pytest.raises(UserError, match="--math.tool_form block"):
        ToolTurns(settings(form="template"), TOKENIZER, "model")


def test_control_token_in_output_is_text():
    code = f"```python\nprint('{END}' + '<' + '|im_start|' + '>')\n```\n"
    engine = Engine(code.replace(END, "<' + '|im_end|>"), END)
    (rollout,) = rollouts(engine)
    (_, stop), (start, _) = rollout["action_ranges"]
    special = set(TOKENIZER.all_special_ids)
    assert not special.intersection(rollout["observation_tokens"][stop:start])
    assert "im_end" in by_owner(rollout)[1][1] and "im_start" in by_owner(rollout)[1][1]


def test_interpreter_death_becomes_a_message():
    engine = Engine("```python\nimport os\nos._exit(3)\n```\n", CALL, "\\boxed{156}" + END)
    (rollout,) = rollouts(engine)
    assert "exit code 3" in by_owner(rollout)[1][1]
    assert rollout["extra_logs"]["tool/failed_calls"] == 1 and rollout["reward"] == 1.0


def test_endless_code_becomes_a_message():
    engine = Engine("```python\nwhile True: pass\n```\n", END)
    (rollout,) = rollouts(engine, seconds=0.5)
    assert "ended after" in by_owner(rollout)[1][1] and rollout["extra_logs"]["tool/failed_calls"] == 1


def test_call_as_the_chat_template_writes_it(tool_template):
    call = '<tool_call>\n{"name": "python", "arguments": {"code": "print(12*13)"}}\n</tool_call>'
    (rollout,) = rollouts(Engine(call, "\\boxed{156}" + END), form="template")
    reply = "<|im_end|>\n<|im_start|>user\n<tool_response>\n156\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    assert by_owner(rollout) == [("model", call), ("tool", reply), ("model", "\\boxed{156}" + END)]
    (_, stop), (start, _) = rollout["action_ranges"]
    assert rollout["observation_tokens"][stop] == TOKENIZER.eos_token_id, "the template's own tokens are control tokens"


def test_unreadable_call_becomes_a_message(tool_template):
    engine = Engine("<tool_call>\nprint(1)\n</tool_call>", END)
    (rollout,) = rollouts(engine, form="template")
    assert rollout["extra_logs"]["tool/failed_calls"] == 1 and "JSON" in by_owner(rollout)[1][1]


# --- the grade, seeds, groups


def test_tool_output_earns_no_reward():
    """The only box is the tool's, and it is the right answer."""
    engine = Engine("```python\nprint(chr(92) + 'bo' + 'xed{156}')\n```\n", "That is it." + END)
    (rollout,) = rollouts(engine)
    assert "\\boxed{156}" in by_owner(rollout)[1][1]
    assert rollout["extra_logs"]["accuracy"] == 0.0 and rollout["reward"] == 0.0


def test_box_completed_by_the_tool_earns_no_reward():
    engine = Engine("The answer is \\boxed{\n```python\nprint('156}')\n```\n", "." + END)
    (rollout,) = rollouts(engine)
    assert "156}" in by_owner(rollout)[1][1] and rollout["extra_logs"]["accuracy"] == 0.0


def test_seeds_differ_by_completion_and_turn_and_are_the_same_again():
    def asked():
        engine = Engine(CALL, CALL, END, END)
        rollouts(engine, samples=2, seed=5, kernels=1)
        return [one.params.seed for one in engine.asked]

    first, again = asked(), asked()
    base = derived_seed(f"5\0{PROMPT}")
    expected = {derived_seed(f"{base}\0{number}\0{turn}") for number in range(2) for turn in range(2)}
    assert set(first) == set(again) == expected and len(expected) == 4


def test_more_completions_than_kernels_all_complete():
    engine = Engine(*[CALL] * 6, *["\\boxed{156}" + END] * 6)
    group = rollouts(engine, samples=6, kernels=2)
    assert [rollout["extra_logs"]["tool/failed_calls"] for rollout in group] == [0.0] * 6
    assert {rollout["reward"] for rollout in group} == {1.0}


def test_engine_that_dies_ends_the_group_and_its_kernels():
    class Dying(Engine):
        async def generate(self, prompt_ids, params):
            if len(self.asked) == 3:
                raise RuntimeError("the engine is dead")
            return await super().generate(prompt_ids, params)

    async def run():
        executor = AgentExecutor()
        executor.open(RewardConfig())
        executor.tool = tool = ToolTurns(settings(), TOKENIZER, "model")
        params = SamplingParams(max_tokens=400)
        with pytest.raises(RuntimeError):
            await executor.execute_group(PROMPT, "156", params, 1000, TOKENIZER, Dying(*[CALL] * 4), 2)
        executor.pool.close()
        return tool.tool.pool.free._value

    assert asyncio.run(run()) == 2


DYING_ACTOR = """
import sys, threading, time
from openrlhf_math.tools.isolation import find_isolation, new_kernel
from openrlhf_math.tools.kernel import KernelLimits
kernel = new_kernel(KernelLimits(), sys.argv[1])
inner = kernel.run("import os; os.getpid()").output
print(inner if sys.argv[1] == "none" else 0, kernel._process.pid, flush=True)  # else the number has no meaning outside
kernel.run("while True: pass")
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("isolation", ["none", "auto"])
def test_killed_process_ends_its_interpreters(isolation):
    """As a rollout actor whose engine died, or that Ray's memory monitor ended: its code no longer runs."""
    try:
        isolation = find_isolation(isolation)
    except UserError:
        pytest.skip("no isolation here")
    command = [sys.executable, "-c", DYING_ACTOR, isolation]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pids = [int(word) for word in process.stdout.readline().split() if word != "0"]
        assert pids and all(map(running, pids))
        process.kill()
    deadline = time.monotonic() + 60
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))
