"""An answer that only a program printed is none; what the model says before, between and behind its code is read."""

import time

import pytest

from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.rewards.extract import extract
from openrlhf_math.rewards.tool_output import output_blocks, without_tool_output

RUN = "```python\nprint('\\boxed{42}')\n```\n```output\n\\boxed{42}\n```\n"
TOOL = (
    '<tool_call>\n{"name": "python", "arguments": {"code": "print(r\'\\\\boxed{42}\')"}}\n</tool_call><|im_end|>\n'
    "<|im_start|>user\n<tool_response>\n\\boxed{42}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (RUN, None),
        (RUN + "So it is \\boxed{42}.", "42"),
        ("I guess \\boxed{7}.\n" + RUN, "7"),
        (RUN + "No, \\boxed{8}\n" + RUN, "8"),
        (RUN + "The answer is 42.", "42"),
        ("```python\nx\n```\n```output\nThe answer is 42.\n```\n", None),
        ("```python\nx\n```\n```output\n#### 42\n<answer>42</answer>\n", None),  # never closed
        ("```python\nx\n``` \n\n```output\n\\boxed{1}\n```\n\\boxed{2}", "2"),
        ("```output\n\\boxed{1}\n```\n", None),  # the model plays the tool itself
        (TOOL, None),
        (TOOL + "It is \\boxed{42}.", "42"),
        ("\\boxed{7}\n" + TOOL + TOOL, "7"),
        ("<tool_response>\n\\boxed{1}", None),
        # Nothing was run: as ever.
        ("```python\nprint('\\boxed{42}')\n```\n", "42"),
        ("```\n\\boxed{3}\n```\n", "3"),
        ("```text\n```output\n```\n\\boxed{3}", "3"),
        ("a ```output\\boxed{3}", "3"),
        ("```outputs\n\\boxed{3}\n```", "3"),
    ],
)
def test_extracted_answer(response, answer):
    assert extract(response).answer == answer


def test_only_executed_output_is_removed():
    shown = "```python\nprint(1)\n```\n"
    kept = shown + "is code.\n"
    assert without_tool_output(kept + RUN + "b\n") == kept + "\nb\n"
    assert without_tool_output("a\n" + TOOL + "b") == "a\n\n<|im_end|>\n<|im_start|>assistant\nb"


def test_printed_answer_is_not_correct():
    pool = GradingPool(RewardConfig(workers=1))
    try:
        printed, said = (pool.grade_now(text, "42", "6 * 7?") for text in (RUN, RUN + "\\boxed{42}"))
    finally:
        pool.close()
    assert printed.outcome != "correct" and not printed.well_formed and printed.answer is None
    assert said.outcome == "correct" and said.well_formed


def test_thinking_tags_in_code_do_not_end_thinking():
    thinks = "<think>\n```python\nprint('</think> \\boxed{1}')\n```\n```output\nx\n```\n"
    assert extract(thinks, "think").answer is None
    assert extract(thinks + "</think>\\boxed{5}", "think").answer == "5"


@pytest.mark.parametrize(
    "bit", ["```output\n", "```python\n```\n```output\n```\n", "<tool_response>", "<tool_call>", " ", "```"]
)
def test_long_responses_take_linear_time(bit):
    text, begun = bit * ((1 << 20) // len(bit)) + "```output<tool_response>", time.process_time()
    without_tool_output(text)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("```output\n2\n```\nx", []),
        ("```python\n1\n```\n```output\n2", ["```output\n2"]),
        ("```python\n1\n```\ntext\n```output\n2\n```\n", []),
        ("```python\n1\n```\n \n```output\n2\n```", ["```output\n2\n```"]),
        ("```py\n1\n```\n```output\na\n```\n```output\nb\n```\nz", ["```output\na\n```\n", "```output\nb\n```\n"]),
        ("```text\n1\n```\n```output\n2\n```\n", []),
        ("```python\n```output\nx\n```\n", []),
        ("```python\n1\n```\n```output\na\u2028```\n```\nz", ["```output\na\u2028```\n```\n"]),
    ],
)
def test_output_blocks_after_code_are_found(text, blocks):
    assert [text[start:stop] for start, stop in output_blocks(text)] == blocks
