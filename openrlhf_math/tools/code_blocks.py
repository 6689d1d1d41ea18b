r"""The code a model asks to run, found in what it writes.

Two forms of a call, each at the end of what was written so far:

    block                a fenced block, as in ToRA (https://arxiv.org/abs/2309.17452) and Qwen2.5-Math
        ```python
        ...
        ```

    template             a call in the form of Qwen's and Hermes' chat templates, of the function "python" with the
        <tool_call>      argument "code"
        {"name": "python", "arguments": {"code": ...}}
        </tool_call>

Every character is read once, whatever the text is.
"""

import json
import re
from dataclasses import dataclass

from openrlhf_math.rewards.tool_output import CALL_BEGINS, FENCE, LANGUAGES, OUTPUT_BEGINS

CALL_ENDS = "</tool_call>"
FORMS = ("block", "template")
# Generation stops at these texts, which stay in the text. "```\n" is the fence that closes a block, and also the one
# that opens a block of no language: then there is no call, and the model continues. Models taught to write the block
# of the output themselves stop at its beginning.
STOPS = {"block": ("```\n", OUTPUT_BEGINS), "template": (CALL_ENDS,)}
NAMES = ("python", "code_interpreter", "PythonInterpreter")
LONGESTFENCE = 200  # characters of a line that is one, with the white space behind it


@dataclass(frozen=True, slots=True)
class Call:
    """code: to be run; None if the call cannot be read, and `fault` says why. source: the call as it was written, which
    is the end of what was written."""

    code: str | None
    source: str
    fault: str = ""


class Reader:
    """Finds the calls of one turn, which comes in pieces. Begin a new one behind the output of a call."""

    def __init__(self, form: str) -> None:
        """form: of FORMS."""
        self._block = form == "block"
        self._line: list[str] = []  # the line that has not ended
        self._length = 0  # its characters
        self._end = ""  # the last characters
        self._opened: re.Match | None = None  # the fence of the block that is open
        self._closed: str | None = None  # the code of the block behind which there is nothing yet
        self._kept: list[str] = []  # what was written since the beginning of the block or call

    def add(self, text: str) -> Call | None:
        """The call that ends with this piece, white space aside; None if it ends in another way.

        A block in a thinking part counts, too: a model that thinks with its tool writes it there.
        """
        return self._add_block(text) if self._block else self._add_tagged(text)

    def _add_block(self, text: str) -> Call | None:
        self._line.append(text)
        self._length += len(text)
        if "\n" in text:
            *complete, rest = "".join(self._line).split("\n")
            self._line, self._length = [rest], len(rest)
            for line in complete:
                self._read(line + "\n")
        if self._length > LONGESTFENCE:
            return None
        rest = "".join(self._line)
        if self._closed is None:
            return Call("".join(self._kept[1:]), "".join(self._kept) + rest) if self._closes(rest) else None
        if rest.strip() not in ("", OUTPUT_BEGINS):
            return None
        return Call(self._closed, "".join(self._kept) + rest)

    def _read(self, line: str) -> None:
        """Take a line that has ended."""
        if self._opened is None:
            if self._closed is not None and not line.strip():
                self._kept.append(line)
                return
            self._closed = None
            self._opened, self._kept = FENCE.match(line), [line]
            return
        fence = FENCE.match(line)
        if fence and not fence[1]:
            self._closed = "".join(self._kept[1:]) if self._closes(line) else None
            self._opened = None
        self._kept.append(line)

    def _closes(self, line: str) -> bool:
        """Whether a line closes a block of code."""
        fence = FENCE.match(line)
        if self._opened is None or not fence or fence[1] or line[fence.end() :].strip():
            return False
        return self._opened[1].lower() in LANGUAGES

    def _add_tagged(self, text: str) -> Call | None:
        self._kept.append(text)
        end = self._end + text
        self._end = end[1 - len(CALL_ENDS) :]
        if CALL_ENDS not in end:
            return None
        written = "".join(self._kept)
        self._kept, self._end = [], ""
        ended = written.rstrip()
        begin = written.rfind(CALL_BEGINS)
        if begin < 0 or not ended.endswith(CALL_ENDS):
            return None
        return _tool_call(ended[begin + len(CALL_BEGINS) : -len(CALL_ENDS)], written[begin:])


def _tool_call(text: str, source: str) -> Call:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return Call(None, source, "the call is not JSON")
    if not isinstance(call, dict) or call.get("name") not in NAMES:
        return Call(None, source, f"there is one tool, {NAMES[0]!r}")
    arguments = call.get("arguments")
    code = arguments.get("code") if isinstance(arguments, dict) else arguments
    if not isinstance(code, str):
        return Call(None, source, 'the arguments must be {"code": text}')
    return Call(code, source)
