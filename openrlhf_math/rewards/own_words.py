"""What a model said itself, of a response in which it also ran code: an answer that only a program printed is none.

The output of code stands in a block ```output behind the block of the code, as ToRA and Qwen2.5-Math write it, or in
`<tool_response>` behind `<tool_call>`, as chat templates do. `openrlhf_math.tools` writes both so that the output
itself can end neither.
"""

import re

OUTPUT_BEGINS = "```output"
CALL_BEGINS = "<tool_call>"
RESULT_BEGINS, RESULT_ENDS = "<tool_response>", "</tool_response>"
LANGUAGES = ("python", "py", "python3")
# A line that opens a block, or without a language closes it.
FENCE = re.compile(r"[ \t]{0,3}```[ \t]{0,8}([A-Za-z0-9_+-]{0,32})")


def own_words(response: str) -> str:
    """The response without the output of code and the calls that it answers. An output that is not closed ends it.

    Code without an output behind it was not run: it stays.
    """
    if OUTPUT_BEGINS in response:
        response = _without_blocks(response)
    return _without_results(response) if RESULT_BEGINS in response else response


def output_blocks(text: str) -> list[tuple[int, int]]:
    """Where the blocks ```output are that stand behind a block of code, with both their fences, as (start, stop) of
    characters. One that is not closed ends the text. White space may be between the code and its output."""
    found: list[tuple[int, int]] = []
    opened: str | None = None  # the language of the block that is open
    behind_code = False
    start = place = 0
    for line in text.split("\n"):
        stop = min(place + len(line) + 1, len(text))
        fence = FENCE.match(line)
        if opened is None and fence:
            opened = fence[1].lower()
            if opened == "output" and behind_code:
                start = place
            elif opened == "output":
                opened = "text"
        elif opened is None:
            behind_code = behind_code and not line.strip()
        elif fence and not fence[1]:
            if opened == "output":
                found.append((start, stop))
            behind_code = opened in LANGUAGES or opened == "output"
            opened = None
        place = stop
    if opened == "output":
        found.append((start, len(text)))
    return found


def _without_blocks(response: str) -> str:
    kept: list[str] = []
    opened = None  # the language of the block that is open
    code = None  # where the block of code began that is open, or behind which there is nothing yet
    for line in response.split("\n"):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened = fence[1].lower()
            if opened == "output" and code is not None:
                del kept[code:]
            code = len(kept) if opened in LANGUAGES else None
        elif opened is None:
            code = code if not line.strip() else None
        elif fence and not fence[1]:
            if opened == "output":
                opened, line = None, ""
            opened = None
        if opened != "output":
            kept.append(line)
    return "\n".join(kept)


def _without_results(response: str) -> str:
    first, *parts = response.split(RESULT_BEGINS)
    kept = [first, *(part.partition(RESULT_ENDS)[2] for part in parts)]
    for number, part in enumerate(kept[:-1]):
        begin = part.rfind(CALL_BEGINS)
        kept[number] = part if begin < 0 else part[:begin]
    return "\n".join(kept)
