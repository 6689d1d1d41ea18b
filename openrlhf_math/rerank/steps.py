"""A completion into its steps."""

import re

BLANK_LINE = "\n\n"

_THINK = re.compile(r"</?think>")


def split_steps(response: str, separator: str = BLANK_LINE) -> list[str]:
    """The steps of a completion, or of the beginning of one, without the space around them; empty ones are dropped.

    separator: what separates steps. Where it is a blank line and the completion has none, every line is a step.

    The thinking part is judged like the rest: `<think>` and `</think>` only end a step, and are no part of one.
    """
    text = response.replace("\r\n", "\n")
    if separator == BLANK_LINE and BLANK_LINE not in text:
        separator = "\n"
    pieces = (piece for part in _THINK.split(text) for piece in part.split(separator))
    return [step for piece in pieces if (step := piece.strip())]
