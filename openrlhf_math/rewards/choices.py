r"""Multiple choice: the letter and the value behind it are the same answer.

The options are read from the problem: `(A) 3 (B) 5`, `A. 3` on its own line, `\textbf{(A)}\ 3`.
"""

import re
from functools import lru_cache

from openrlhf_math.rewards.notation import tidy, unstyled

_LETTER = re.compile(r"(?:option|choice|answer)?\s*(?:\(([A-J])\)|([A-J])\)?)\s*[.:]?\s*(?P<value>.*)\Z", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(r"\(([A-J])\)|(?:^|\n)[ \t]*([A-J])[.):](?=\s)")
_MAX_PROBLEM = 20_000


def letter(text: str) -> str:
    r"""The letter an answer chooses, upper case: `B`, `(B)`, `\text{B}`, `B. 12`, `(B) 12`; "" if it chooses none."""
    match = _LETTER.match(unstyled(text))
    if not match:
        return ""
    marked, value = match[1] is not None or re.match(r"[A-J][).:]", unstyled(text)), match["value"].strip()
    if value and not marked:
        return ""
    if not marked and match[2].islower():
        return ""
    return (match[1] or match[2]).upper()


@lru_cache(maxsize=4096)
def options(problem: str) -> dict[str, str]:
    """The options of a problem by letter, tidied; empty unless they run A, B, C... and there are at least two."""
    marks = list(_OPTION.finditer(unstyled_marks(problem[-_MAX_PROBLEM:])))
    text = unstyled_marks(problem[-_MAX_PROBLEM:])
    found: dict[str, str] = {}
    for mark, following in zip(marks, [*marks[1:], None]):
        name = mark[1] or mark[2]
        if name != chr(ord("A") + len(found)):
            found = {} if name != "A" else found
            if name != "A":
                continue
            found.clear()
        value = text[mark.end() : following.start() if following else None]
        found[name] = tidy(value.strip().split("\n")[0].strip(" ,;$\\"))
    return found if len(found) > 1 else {}


def unstyled_marks(text: str) -> str:
    r"""`\textbf{(A)}` and `\mathrm{(A)}` -> `(A)`."""
    return re.sub(r"\\(?:text|textbf|mathrm|mathbf|rm|bf)\s*\{\s*(\([A-J]\))\s*~?\}", r"\1", text)
