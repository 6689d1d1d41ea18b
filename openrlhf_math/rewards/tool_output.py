"""The output of code in a response, and the response without it: an answer that only a program printed does not count.

The output of code is in a block ```output after the block of the code, as ToRA and Qwen2.5-Math write it, or in
`<tool_response>` behind `<tool_call>`, as chat templates do. `openrlhf_math.tools` writes both so that the output
itself can end neither.
"""

import re
from typing import NamedTuple

OUTPUT_BEGINS = "```output"
CALL_BEGINS = "<tool_call>"
RESULT_BEGINS, RESULT_ENDS = "<tool_response>", "</tool_response>"
LANGUAGES = ("python", "py", "python3")
# A line that opens a block, or without a language closes it.
FENCE = re.compile(r"[ \t]{0,3}```[ \t]{0,8}([A-Za-z0-9_+-]{0,32})")


def without_tool_output(response: str) -> str:
    """The response without the output of code and the calls that it answers. An output that is not closed ends it.

    Code without an output behind it was not run: it stays.
    """
    if OUTPUT_BEGINS in response:
        response = _without_blocks(response)
    return _without_results(response) if RESULT_BEGINS in response else response


class Output(NamedTuple):
    """Places of a block ```output in a text, in characters: from its first fence to behind its second.

    code: where the block of code begins that it is the output of; None where only another output is before it, or no
    code. behind_code: whether there is code, with nothing else than outputs and white space in between.
    """

    code: int | None
    start: int
    stop: int
    behind_code: bool
    closed: bool


def output_blocks(text: str) -> list[tuple[int, int]]:
    """Where the blocks ```output after a block of code are, with both their fences, as (start, stop) of
    characters. One that is not closed ends the text. White space may be between the code and its output."""
    return [(block.start, block.stop) for block in _outputs(text) if block.behind_code]


def _outputs(text: str) -> list[Output]:
    found: list[Output] = []
    opened: str | None = None  # the language of the block that is open
    code: int | None = None
    behind_code = False
    start = place = 0
    for line in text.split("\n"):
        stop = min(place + len(line) + 1, len(text))
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, start = fence[1].lower(), place
            if opened != "output":
                code = place if opened in LANGUAGES else None
        elif opened is None and line.strip():
            code, behind_code = None, False
        elif opened is not None and fence and not fence[1]:
            if opened == "output":
                found.append(Output(code, start, stop, behind_code, True))
                code = None
            else:
                behind_code = opened in LANGUAGES
            opened = None
        place = stop
    if opened == "output":
        found.append(Output(code, start, len(text), behind_code, False))
    return found


def _without_blocks(response: str) -> str:
    kept: list[str] = []
    place = 0
    for block in _outputs(response):
        kept.append(response[place : block.start if block.code is None else block.code])
        place = block.stop
        if not block.closed:
            return "".join(kept).removesuffix("\n")
        if response[place - 1] == "\n":  # of its last line; an empty one takes the block's place
            kept.append("\n")
    return "".join([*kept, response[place:]])


def _without_results(response: str) -> str:
    first, *parts = response.split(RESULT_BEGINS)
    kept = [first, *(part.partition(RESULT_ENDS)[2] for part in parts)]
    for number, part in enumerate(kept[:-1]):
        begin = part.rfind(CALL_BEGINS)
        kept[number] = part if begin < 0 else part[:begin]
    return "\n".join(kept)
