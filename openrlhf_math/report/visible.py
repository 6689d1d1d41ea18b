"""Texts as a person may safely look at them: a completion may hold anything."""

import re
import unicodedata

HEAD, TAIL = 3000, 1000  # characters of a long text that are shown
# Control and format characters (ANSI codes, text that runs backwards, zero width), halves of surrogate pairs, line
# separators: what changes how other text looks, or is no text.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
MAYBE_HIDDEN = re.compile(r"[^\n\t -~]")


def visible(text: str) -> str:
    """The text with everything hidden written out, as \\x1b or \\u202e; line breaks and tabs stay."""
    return MAYBE_HIDDEN.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match) -> str:
    character = found.group()
    if unicodedata.category(character) not in HIDDEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str) -> str:
    """The head and the tail of a long text, and how much is left out between them."""
    left_out = len(text) - HEAD - TAIL
    if left_out <= 0:
        return text
    return f"{text[:HEAD]}\n[... {left_out:,} characters left out ...]\n{text[-TAIL:]}"
