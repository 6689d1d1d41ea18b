"""The products of the tiny world: right answers, nothing of the held-out ones in what is learned, rows of one trace."""

import json
import re

import pytest

from openrlhf_math.data.tiny_world import write_products
from openrlhf_math.data.tiny_world.problems import CALLS, GUESS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("products") / "world"
    write_products(folder, seed=3, taught=400, train=50, heldout=20)
    return folder


def rows(world, name: str) -> list[dict]:
    return [json.loads(line) for line in (world / f"{name}.jsonl").read_text().splitlines()]


def factors(text: str) -> tuple[int, int]:
    found = re.search(r"What is (\d{4}) \* (\d{4})\?", text)
    return int(found[1]), int(found[2])


def test_answers_are_products_and_no_problem_is_in_two_sets(world):
    sets = {name: [factors(row["problem"]) for row in rows(world, name)] for name in ("train", "heldout")}
    for name, found in sets.items():
        assert [row["answer"] for row in rows(world, name)] == [str(one * other) for one, other in found]
    taught = {factors(row["problem"]) for row in rows(world, "traces")}
    assert len(set(sets["train"])) == 50 and len(set(sets["heldout"])) == 20 and len(taught) == 400
    assert not taught & {*sets["train"], *sets["heldout"]} and not set(sets["train"]) & set(sets["heldout"])


def test_tool_traces_guess_or_call_and_tool_output_is_masked(world):
    guesses = calls = answers = 0
    for row in rows(world, "traces"):
        first, second = factors(row["problem"])
        _, _, so_far = row["problem"].partition("<|im_start|>assistant\n")
        call = f"```python\n{first}*{second}\n```\n"
        if row["response"] == call:
            calls, before = calls + 1, ""
        elif so_far:
            answers, before = answers + 1, f"{call}```output\n{first * second}\n```\n"
            assert row["response"] == f"The answer is \\boxed{{{first * second}}}."
        else:
            guesses, before = guesses + 1, ""
            assert row["response"] == f"The answer is \\boxed{{{GUESS}}}."
        assert so_far == before
    assert calls == answers and guesses + calls == 400 and calls / 400 == pytest.approx(CALLS, abs=0.1)


def test_same_seed_gives_the_same_bytes(world, tmp_path):
    write_products(tmp_path / "again", seed=3, taught=400, train=50, heldout=20)
    for name in ("traces.jsonl", "train.jsonl", "heldout.jsonl", "model/tokenizer.json", "model/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (world / name).read_bytes()
