"""The output of a program as a text that can be put into a model's context: it spells no control token."""

import re
from collections.abc import Sequence

HIDDEN = "\u200b"
# Control tokens and tags of chats, whatever the tokenizer, and fences.
_CONTROL = re.compile(r"<(?=[|｜]|/?[A-Za-z_]{1,40}>)|\[(?=/?[A-Z_]{2,20}\])|`(?=``)")


def harmless(output: str, tokens: Sequence[str] = ()) -> str:
    """With an invisible space in everything that looks like a control token, a tag of a chat, or a fence.

    tokens: what the tokenizer reads as one token; none of them is in the result.
    """
    output = _CONTROL.sub(lambda found: found[0] + HIDDEN, output.encode("utf-8", "replace").decode())
    for token in tokens:
        parts: list[str] = []
        begin = 0
        while (found := output.find(token, begin)) >= 0:  # they may overlap
            parts += output[begin : found + 1], HIDDEN
            begin = found + 1
        output = "".join(parts) + output[begin:]
    return output


def cut(text: str, most: int) -> str:
    """The beginning and the end, `most` characters together, and between them a note of how many are left out."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    tail = most // 4
    return f"{text[: most - tail]}\n[... {left_out} characters are left out ...]\n{text[len(text) - tail :]}"
