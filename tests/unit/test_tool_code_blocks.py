"""Which code a model asks to run, in one piece or in many."""

import random
import time

import pytest

from openrlhf_math.tools.code_blocks import STOPS, Reader

CALL = '<tool_call>\n{"name": "python", "arguments": {"code": "print(1)"}}\n</tool_call>'
BLOCKS = [
    ("Sum it.\n```python\nprint(1)\n```\n", "print(1)\n", "```python\nprint(1)\n```\n"),
    ("```py\nx = 1\n```", "x = 1\n", "```py\nx = 1\n```"),
    ("```Python\nx\n```\n", "x\n", "```Python\nx\n```\n"),
    ("  ```python\nx\n  ```\n", "x\n", "  ```python\nx\n  ```\n"),
    (
        "```python\n1\n```\n```output\n1\n```\nso\n```python\nprint(2)\n```\n",
        "print(2)\n",
        "```python\nprint(2)\n```\n",
    ),
    ("```python\ns = 'a ``` b'\n```\n", "s = 'a ``` b'\n", "```python\ns = 'a ``` b'\n```\n"),
    ("<think>\n```python\nx\n```\n", "x\n", "```python\nx\n```\n"),
    ("```python\nx\n``` \n\n", "x\n", "```python\nx\n``` \n\n"),
    ("```python\nx\n```\r\n", "x\n", "```python\nx\n```\r\n"),
    ("```python\n```\n", "", "```python\n```\n"),
    ("a\n```python\nx\n``` \n```output", "x\n", "```python\nx\n``` \n```output"),
    ("```\nno code\n```\n```python\nx\n```\n", "x\n", "```python\nx\n```\n"),
    ("```python\nπ = '𝟙'\n```\n", "π = '𝟙'\n", "```python\nπ = '𝟙'\n```\n"),
]
TAGGED = [
    (CALL, "print(1)", CALL),
    (CALL + "\n", "print(1)", CALL + "\n"),
    (f"first {CALL} then " + CALL.replace("1", "2"), "print(2)", CALL.replace("1", "2")),
    ('<tool_call>{"name": "python", "arguments": "x"}</tool_call>', "x", None),
]
NO_BLOCK = [
    "", "no code", "```\nx\n```\n", "```text\nx\n```\n", "```python\nx = 1\n", "```python\nx\n```\nand then", "a ```",
    "```output\n1\n```\n", "```python\n", "`x` and ```", "```python\nx\n```\n\n.", "```output", CALL,
]  # fmt: skip
NO_TAG = ["", "</tool_call>", "<tool_call>", CALL + "x", "```python\nx\n```\n"]
FAULTY = ["{", "[]", '{"name": "shell", "arguments": {"code": "x"}}', '{"name": "python"}',
          '{"name": "python", "arguments": {"code": 5}}', "[" * 100_000]  # fmt: skip
FORMS = [("block", *case) for case in BLOCKS] + [("template", *case) for case in TAGGED]
ONE_CALL = [case for case in FORMS if case[1].lower().count("```py") + case[1].count("<tool_call>") == 1]


@pytest.mark.parametrize(("form", "text", "code", "source"), FORMS)
def test_code_is_found(form, text, code, source):
    call = Reader(form).add(text)
    assert (call.code, call.source) == (code, source or text)
    assert text.endswith(call.source)


@pytest.mark.parametrize(("form", "text", "code", "source"), ONE_CALL)
def test_chunks_are_parsed_like_the_whole(form, text, code, source):
    """The first call that any piece ends with is the one of the text."""
    for seed in range(20):
        cuts = sorted(random.Random(seed).choices(range(len(text) + 1), k=seed))
        reader = Reader(form)
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert next(call.code for call in map(reader.add, pieces) if call) == code


@pytest.mark.parametrize(("form", "text"), [("block", t) for t in NO_BLOCK] + [("template", t) for t in NO_TAG])
def test_no_call(form, text):
    assert Reader(form).add(text) is None


@pytest.mark.parametrize("inner", FAULTY)
def test_unreadable_call_gives_a_reason(inner):
    call = Reader("template").add(f"<tool_call>{inner}</tool_call>")
    assert call.code is None and call.fault


def test_generation_stops_where_a_call_ends():
    for form, text, *_ in (("block", *BLOCKS[0]), ("template", *TAGGED[0])):
        assert text.endswith(STOPS[form]) and Reader(form).add(text)


BITS = ("```", "```\n", "```python\n", "```\n```", "<tool_call>", "</tool_call>", "<|", " ```", "\n", " ", "```output")


@pytest.mark.parametrize("form", STOPS)
@pytest.mark.parametrize("bit", BITS)
def test_long_texts_take_linear_time(bit, form):
    """1 MiB at once, and bit by bit: what takes quadratic time takes hours."""
    begun = time.process_time()
    for end in ("", "```", "</tool_call>"):
        Reader(form).add(bit * ((1 << 20) // len(bit)) + end)
    reader = Reader(form)
    for _ in range((1 << 18) // len(bit)):
        reader.add(bit)
    assert time.process_time() - begun < 20
