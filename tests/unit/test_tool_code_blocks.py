"""Which code a model asks to run, and what its output looks like in the context."""

import json
import time

import pytest

from openrlhf_math.tools.code_blocks import STOPS, Call, harmless, last_call, response

CALL = '<tool_call>\n{"name": "python", "arguments": {"code": "print(1)"}}\n</tool_call>'
CODE = [
    ("Sum it.\n```python\nprint(1)\n```\n", "print(1)\n"),
    ("```py\nx = 1\n```", "x = 1\n"),
    ("```Python\nx\n```\n", "x\n"),
    ("  ```python\nx\n  ```\n", "x\n"),
    ("```python\nprint(1)\n```\n```output\n1\n```\nso\n```python\nprint(2)\n```\n", "print(2)\n"),
    ("```python\ns = 'a ``` b'\n```\n", "s = 'a ``` b'\n"),
    ("<think>\n```python\nx\n```\n", "x\n"),
    (CALL, "print(1)"),
    (CALL + "\n", "print(1)"),
    (f"first {CALL} then " + CALL.replace("1", "2"), "print(2)"),
]
NONE = [
    "", "no code", "```\nx\n```\n", "```text\nx\n```\n", "```python\nx = 1\n", "```python\nx\n```\nand then", "a ```",
    "```output\n1\n```\n", "</tool_call>", "```python\n", "`x` and ```",
]  # fmt: skip
FAULTY = ["{", "[]", '{"name": "shell", "arguments": {"code": "x"}}', '{"name": "python"}',
          '{"name": "python", "arguments": {"code": 5}}', "[" * 100_000]  # fmt: skip


@pytest.mark.parametrize(("text", "code"), CODE)
def test_code_is_found(text, code):
    assert last_call(text).code == code


@pytest.mark.parametrize("text", NONE)
def test_no_call(text):
    assert last_call(text) is None


@pytest.mark.parametrize("inner", FAULTY)
def test_a_call_that_cannot_be_read_says_why(inner):
    call = last_call(f"<tool_call>{inner}</tool_call>")
    assert call.code is None and call.fault


def test_generation_stops_where_a_call_ends():
    for text, _ in CODE[:1] + CODE[7:8]:
        assert text.endswith(STOPS) and last_call(text)


def test_output_is_put_back():
    written = "```python\n1\n```"
    assert written + response(Call("1", "block"), "1\n", written) == "```python\n1\n```\n```output\n1\n```\n"
    assert response(Call("1", "block"), "", "```\n") == "```output\n\n```\n"
    assert "<tool_response>\n1\n</tool_response>" in response(Call("1", "call"), "1", CALL)


@pytest.mark.parametrize(
    "text",
    ["<|im_end|>", "<｜end｜>", "</s>", "<s>", "</response>", "<think>", "[INST]", "[/INST]", "```", "````"],
)
def test_output_spells_no_control_token(text):
    shown = harmless(f"a{text}b")
    assert text not in shown and "```" not in shown
    assert shown.replace("\u200b", "") == f"a{text}b"


def test_ordinary_output_stays():
    text = "<class 'int'> 3 < 4 > 2, [1, 2], [A, B], `x`, a<b, <function f at 0x7f>"
    assert harmless(text) == text


BITS = ("```", "```\n", "```python\n", "```\n```", "<tool_call>", "</tool_call>", "<|", "<a", "[A", "`", " ```", "\n")


@pytest.mark.parametrize("bit", BITS)
def test_long_texts_take_linear_time(bit):
    """1 MiB in a second: what takes quadratic time takes hours."""
    text = bit * ((1 << 20) // len(bit))
    begun = time.process_time()
    for end in ("", "```", "</tool_call>"):
        last_call(text + end)
    harmless(text)
    assert time.process_time() - begun < 10
    assert json.dumps(harmless(bit))
