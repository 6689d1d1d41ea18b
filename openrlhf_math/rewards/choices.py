r"""Multiple choice: the letter and the value behind it are the same answer.

The options are read from the problem: `(A) 3 (B) 5`, `A. 3` on its own line, `\textbf{(A)}\ 3`.
"""

import re
from functools import lru_cache

from openrlhf_math.rewards.notation import tidy, unstyled

_LEAD = re.compile(r"\A(?:the )?(?:correct )?(?:answer|option|choice)(?: is)? (?=\(?[A-J]\)?\Z)", re.IGNORECASE)
_LETTER = re.compile(
    r"\A(?:(?:option|choice) )?(?:\(([A-J])\)|([A-J])([).:])|([A-J])(?:\Z|(?= ?\([a-z]{2}| \(-?[0-9]))) ?",
    re.IGNORECASE,
)
_MARK = re.compile(r"\([A-Ja-j]\)|(?<![A-Za-z\\])[A-J](?![A-Za-z'])")
# What makes more of a letter than a choice: `(A) or 7`, `(A) = 7`, `(A) is wrong`.
_GOES_ON = re.compile(r"[,;=<>^/+*!|_-]|\\(?!frac|sqrt|pi|\$|\{|\()|\(?(?:or|and|is|if|where|not|but)\b", re.IGNORECASE)
_SEVERAL = re.compile(r"\A\(?[A-J]\)?(?:(?:[ ,;&]|and)+\(?[A-J]\)?)+\Z")
_TOGETHER = re.compile(r"\A[A-J]{2,10}\Z")
_OPTION = re.compile(
    r"[(\[]([A-Ja-j])[)\]]|(?:^|(?<=\s))([A-J])(?:[.):](?=\s)|:(?=[0-9$\\-])|[、．：])"
    r"|(?:^[ \t]{0,8}|(?<=[^a-zA-Z(] ))([a-j])\)(?=\s)",
    re.MULTILINE,
)
_STYLED_MARK = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|rm|bf)\s{0,8}\{\s{0,8}(?:\\text(?:bf)? ?\{)?"
    r"([(\[]?[A-J][)\].:])(?:\\[ ,;]|[~\s]){0,8}\}{1,2}"
)
_STYLED_LETTER = re.compile(
    r"\(\\(?:text|textbf|mathrm|mathbf|rm|bf) ?\{([A-J])\}\)|\*\*[(\[]?([A-J])[)\].:]{0,2}\*\*[.:)]?"
)
_WORDS_INSIDE = re.compile(r"\A\([a-zA-Z ]{3,}\)\Z")
_NUMBER_INSIDE = re.compile(r"\A\(-?[0-9.]{1,20}\)\Z")
_BLANK = re.compile(r"\\q?quad(?![a-zA-Z])|\\[ ,;]")
_MAX_PROBLEM = 20_000


def choice(text: str) -> tuple[str, str]:
    r"""The letter an answer chooses and what follows it: `B`, `(b)`, `\text{B}`, `B. 12`, `(B) 12`.

    Two empty texts if it chooses none, or names a second letter: `(A) or (B)`, `(A) 3 (B) 5`.
    """
    plain = _LEAD.sub("", unstyled(text))
    match = _LETTER.match(plain)
    if not match:
        return "", ""
    name = next(group for group in match.groups() if group)
    rest = plain[match.end() :].strip(" .:")
    if rest.startswith("(") and rest.endswith(")") and (_WORDS_INSIDE.match(rest) or _NUMBER_INSIDE.match(rest)):
        rest = rest[1:-1]
    alone = not (match[1] or name.isupper() or match[3] == ")" and not rest)  # a lone `b` is a variable
    if alone or _MARK.search(rest) or _GOES_ON.match(rest):
        return "", ""
    return name.upper(), rest


def several(text: str) -> frozenset[str]:
    r"""The letters of an answer that chooses more than one, `A, C` or `\text{A and C}`; else none."""
    plain = unstyled(text)
    return frozenset(plain) & frozenset("ABCDEFGHIJ") if _SEVERAL.match(plain) else frozenset()


def together(text: str) -> frozenset[str]:
    """The letters of `ACD`, which chooses three options where options are asked for; else none."""
    return frozenset(text) if _TOGETHER.match(text) and list(text) == sorted(set(text)) else frozenset()


@lru_cache(maxsize=4096)
def options(problem: str) -> dict[str, str]:
    """The options of a problem by letter, tidied; empty unless they run A, B, C... and there are at least two."""
    text = _STYLED_MARK.sub(r" \1 ", _STYLED_LETTER.sub(r" (\1\2) ", problem[-_MAX_PROBLEM:]))
    marks = list(_OPTION.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), None]
    found: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=False):
        name = (mark[1] or mark[2] or mark[3]).upper()
        if name == "A":
            found.clear()
        if name == chr(ord("A") + len(found)):
            value = text[mark.end() : end]
            found[name] = tidy(_BLANK.sub(" ", value.strip().partition("\n")[0]).strip(" ,;$"))
    return found if len(found) > 1 else {}
