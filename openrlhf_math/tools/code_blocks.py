r"""The code a model asks to run, and how what it printed is put behind it.

Two forms, each at the end of what was written so far:

    ```python            a fenced block, as in ToRA (https://arxiv.org/abs/2309.17452) and Qwen2.5-Math; the output
    ...                  follows as a block ```output
    ```

    <tool_call>          a call in the form of Qwen's and Hermes' chat templates, of the function "python" with
    {"name": "python",   the argument "code"; the output follows as <tool_response> in a turn of the user, as these
     "arguments": ...}   templates write it
    </tool_call>

Reading is linear in the length of the text.
"""

import json
import re
from dataclasses import dataclass

CALL_BEGINS, CALL_ENDS = "<tool_call>", "</tool_call>"
# Generation stops at these texts, which stay in the text: the fence that closes a block, and the end of a call. A fence
# that opens a block of no language is the same text: then there is no call, and the model goes on.
STOPS = ("```\n", CALL_ENDS)
NAMES = ("python", "code_interpreter", "PythonInterpreter")
_FENCE = re.compile(r"^[ \t]{0,3}```[ \t]{0,8}([A-Za-z0-9_+-]{0,32})", re.MULTILINE)
# Control tokens and tags, which a program must not write into the chat as its output.
_CONTROL = re.compile(r"<(?=[|｜]|/?[A-Za-z_]{1,40}>)|\[(?=/?[A-Z_]{2,20}\])|`(?=``)")
_HIDDEN = "\u200b"


@dataclass(frozen=True, slots=True)
class Call:
    """code: to be run; None if the call cannot be read, and `fault` says why. form: "block" or "call"."""

    code: str | None
    form: str
    fault: str = ""


def last_call(text: str) -> Call | None:
    """The call that the text ends with, white space aside; None if it ends in another way.

    A block in a thinking part counts, too: a model that thinks with its tool writes it there.
    """
    text = text.rstrip()
    if text.endswith(CALL_ENDS):
        begin = text.rfind(CALL_BEGINS)
        return None if begin < 0 else _tool_call(text[begin + len(CALL_BEGINS) : -len(CALL_ENDS)])
    if not text.endswith("```"):
        return None
    opened = None  # the fence of the block that is open, and where its code begins
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence[1]:
            if fence.end() == len(text):
                block = text[opened.end() : fence.start()].partition("\n")[2]
                return Call(block, "block") if opened[1].lower() in ("python", "py", "python3") else None
            opened = None
    return None


def response(call: Call, output: str, written: str) -> str:
    """What follows the call in the context, for the model to continue.

    output: the program's, which is made harmless: it can close no block, and spells no control token. written: the
    text of the turn so far.
    """
    output = harmless(output).strip("\n")
    if call.form == "call":
        return (
            f"<|im_end|>\n<|im_start|>user\n<tool_response>\n{output}\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n"
        )
    newline = "" if written.endswith("\n") else "\n"
    return f"{newline}```output\n{output}\n```\n"


def harmless(output: str) -> str:
    """With an invisible space in everything that looks like a control token, a tag of a chat, or a fence."""
    return _CONTROL.sub(lambda found: found[0] + _HIDDEN, output)


def _tool_call(text: str) -> Call:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return Call(None, "call", "the call is no JSON")
    if not isinstance(said, dict) or said.get("name") not in NAMES:
        return Call(None, "call", f"there is one tool, {NAMES[0]!r}")
    arguments = said.get("arguments")
    code = arguments.get("code") if isinstance(arguments, dict) else arguments
    if not isinstance(code, str):
        return Call(None, "call", 'the arguments must be {"code": text}')
    return Call(code, "call")
