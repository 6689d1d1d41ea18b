"""The tool's description for a model, and the text after a call in its context. Pure functions of text; no engine.

A program's output becomes text that can be put into the model's context: it spells no control token.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.rewards.tool_output import CALL_BEGINS, OUTPUT_BEGINS, RESULT_BEGINS
from openrlhf_math.tools.code_blocks import CALL_ENDS, NAMES, STOPS, Call, Reader
from openrlhf_math.tools.isolation import PLAIN, ToolFlags

BLOCK_INSTRUCTION = (
    "You can run Python code. Write it in a block that begins with a line ```python and ends with a line ```. The code "
    "is run, and what it prints is shown to you in a block ```output; then continue. Variables are kept for the next "
    "block. State the final answer in your own words at the end, not only in the output of code."
)
TOOL = {
    "type": "function",
    "function": {
        "name": NAMES[0],
        "description": "Runs Python code and returns what it prints. Variables are kept for the next call.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "Python code"}},
            "required": ["code"],
        },
    },
}


_JSON = re.compile(r"\{(?!\w)")  # GLM's templates ask for {function-name}, and arguments in tags


class BlockTurns:
    """Calls are fenced blocks; the output follows as a block ```output in the same turn of the assistant.

    stops         texts that generation stops at, which stay in the text
    instruction   is appended to the problem
    tools         for the chat template's argument of this name, None for none
    output_chars  of an output at the most, the note of what is left out aside
    """

    form = "block"
    stops = STOPS["block"]
    instruction = BLOCK_INSTRUCTION
    tools: list[dict] | None = None

    def __init__(self, output_chars: int, control_tokens: Iterable[str] = ()) -> None:
        """control_tokens: the tokenizer's added tokens, see `control_tokens`; no output spells one of them."""
        self._most, self._tokens = output_chars, tuple(control_tokens)

    def reader(self) -> Reader:
        return Reader(self.form)

    def response(self, call: Call, output: str, template: Mapping[str, object] | None = None) -> str:
        """What follows the call in the context, for the model to continue.

        template: variables of the chat template.
        output: what the program printed. It is made harmless: it can close no block and spells no control token.
        The text of a call that cannot be read is its fault.
        """
        shown = self._shown(call, output)
        if call.source.endswith(OUTPUT_BEGINS):
            return f"\n{shown}\n```\n"
        newline = "" if call.source.endswith("\n") else "\n"
        return f"{newline}{OUTPUT_BEGINS}\n{shown}\n```\n"

    def _shown(self, call: Call, output: str) -> str:
        output = f"[{call.fault}]" if call.code is None else output
        return cut(harmless(output.strip("\n"), self._tokens), self._most)


class TemplateTurns(BlockTurns):
    """Calls are `<tool_call>{...}</tool_call>`; the output follows in the turn of the tool that the model's own chat
    template writes, and a new turn of the assistant begins."""

    form = "template"
    stops = STOPS["template"]
    instruction = ""
    tools = [TOOL]

    def __init__(self, tokenizer: Tokenizer, output_chars: int, model: str, flags: ToolFlags = PLAIN) -> None:
        """model, flags: the model's name and the command's flags, for messages.

        Raises UserError if the chat template has no such calls, or no turn of the tool.
        """
        super().__init__(output_chars, control_tokens(tokenizer))
        self._tokenizer = tokenizer
        advice = f"choose {flags.form} block"
        chosen = f"{flags.model} {model}"
        try:
            shown = self._render([{"role": "user", "content": "x"}], add_generation_prompt=True)
        except Exception as error:
            raise UserError(f"{chosen}: its chat template takes no tools ({_line(error)}); {advice}") from None
        parts = shown.split(CALL_BEGINS)[1:]
        if not any(_JSON.match(part.lstrip()) for part in parts):
            raise UserError(f"{chosen}: its chat template does not ask for calls as {CALL_BEGINS}{{JSON}}; {advice}")
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        if special & {CALL_BEGINS, CALL_ENDS}:  # engines leave them out of the text
            raise UserError(f"{chosen}: {CALL_BEGINS} is a control token of its tokenizer; {advice}")
        try:
            rendered = self._behind("7", {})
        except Exception as error:
            raise UserError(f"{chosen}: its chat template has no tool role ({_line(error)}); {advice}") from None
        if "7" not in rendered.partition(RESULT_BEGINS)[2]:
            raise UserError(f"{chosen}: its chat template does not show results as {RESULT_BEGINS}; {advice}")

    def response(self, call: Call, output: str, template: Mapping[str, object] | None = None) -> str:
        """With the end of the assistant's turn in front. Where the token that ends the turn is in the context already,
        because the model wrote it, take the text off with `without_end`."""
        return self._behind(self._shown(call, output), template or {})

    def without_end(self, response: str) -> str:
        """A response without the text of the tokenizer's end-of-sequence token at its beginning."""
        return response.removeprefix(self._tokenizer.eos_token or "")

    def _behind(self, output: str, template: Mapping[str, object]) -> str:
        """What the chat template writes behind the assistant's words when the tool has answered."""
        mark = uuid.uuid4().hex  # the output cannot hold it
        messages = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": mark},
            {"role": "tool", "name": NAMES[0], "content": output},
        ]
        before, found, behind = self._render(messages, add_generation_prompt=True, **template).rpartition(mark)
        if not found:
            raise ValueError("it leaves out what the assistant said")
        return behind

    def _render(self, messages: list[dict], **arguments: object) -> str:
        return self._tokenizer.apply_chat_template(messages, tools=self.tools, tokenize=False, **arguments)


def control_tokens(tokenizer: Tokenizer) -> list[str]:
    """The texts that a tokenizer reads as one token anywhere: those of control, and its other added ones.

    White space is none of them: some tokenizers have added tokens for runs of it.
    """
    known = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    return sorted(token for token in known if len(token.strip()) > 1)


def find_turns(form: str, tokenizer: Tokenizer, output_chars: int, model: str, flags: ToolFlags = PLAIN) -> BlockTurns:
    """form: of `code_blocks.FORMS`. model, flags: as of `TemplateTurns`.

    Raises UserError if the model's chat template cannot do it.
    """
    if form == "template":
        return TemplateTurns(tokenizer, output_chars, model, flags)
    return BlockTurns(output_chars, control_tokens(tokenizer))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


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
