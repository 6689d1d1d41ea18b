r"""What is before an equals sign and only names the value: `x`, `f(x)`, `P(A \cap B)`, `\text{Area}`."""

import re

from openrlhf_math.rewards.evaluate import any_part, symbols
from openrlhf_math.rewards.kinds import Items, Relation
from openrlhf_math.rewards.latex import Unreadable, parse
from openrlhf_math.rewards.statement import read
from openrlhf_math.rewards.words import is_words

_WORDS = re.compile(r"\A(?:\\(?:(?:t(?:ext(?:bf)?)|m(?:athrm|box)|operatorname) ?\{[^{}0-9]{1,60}\}|#)|[A-Za-z #])+\Z")
_CALL = re.compile(
    r"\A(?:\\(?:mathbb|mathrm|mathbf|text|operatorname) ?\{?)?[A-Za-z]{1,4}'{0,2}\}?"
    r"(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]{1,9}\})|\^\{-1\}){0,2} ?[(\[].{1,60}[)\]]\Z"
)
_FIGURE = re.compile(
    r"\A(?:m ?)?(?:\\(?:angle|triangle|overline|overrightarrow|widehat|hat|vec|mathbf|bar|tilde)|\||\[)[^0-9=+]{1,40}\Z"
)
_OTHERS = re.compile(
    r"\A(?:\\Pr ?[(\[].{1,60}[)\]]|\\(?:min|max|sup|inf)(?: ?[A-Za-z])?|\\frac\{d\}\{d ?[a-z]\} ?[a-zA-Z].{0,20})\Z"
)
_POINTS = re.compile(r"\A[A-Z]'?(?: ?[A-Z]'?){1,3}\Z")
_UNKNOWN = re.compile(r"(?<![a-zA-Z\\])[xy](?![a-zA-Z])")


def is_name(text: str) -> bool:
    """Whether a text only names a value."""
    text = text.strip()
    if not text or text[0].isdigit():
        return False
    if _WORDS.match(text) and not any(word in text for word in (" or ", " and ", "not")):
        return is_words(text) or _POINTS.match(text) is not None or len(text) == 1 and text != "e" or "#" in text
    if _OTHERS.match(text):
        return True
    if _CALL.match(text) or _POINTS.match(text) or _FIGURE.match(text):
        return (
            not (text.startswith("|") and _UNKNOWN.search(text))
            and not text.startswith("[")
            or text.startswith("[")
            and len(text) < 9
        )
    if text.startswith("(") and text.endswith(")"):
        inner = [part.strip() for part in text[1:-1].split(",")]
        return len(inner) > 1 and all(map(is_name, inner))
    try:
        tree = parse(text)
    except Unreadable:
        return False
    return tree[0] in ("s", "o") and tree != ("s", "±")


def is_quantity(text: str) -> bool:
    r"""Whether a text is a quantity whose value is asked, `m+n`, `\log_2 x`, `|z|`, and no equation in x and y."""
    text = text.strip()
    if is_name(text):
        return True
    bare = text
    for function in ("log", "ln", "sin", "cos", "tan"):
        if text.startswith("\\" + function):
            return True
    if _UNKNOWN.search(bare):
        return False
    if "\\bmod" in text or "\\int" in text or "\\lim" in text or "\\sum" in text or "\\mathbb" in text:
        return True
    try:
        return bool(symbols(parse(text)))
    except Unreadable:
        return False


def by_name(items: Items) -> list | None:
    """`b = 2, a = 1` -> 1, 2: the values in the order of their names, as in (a, b); None if some have no name."""
    named = []
    for item in items.items:
        if not isinstance(item, Relation) or len(item.texts) != 2 or item.signs != ("=",) or not is_name(item.texts[0]):
            return None
        named.append((_place(item.texts[0]), item.texts[1]))
    if len({name for name, _ in named}) < len(named):
        return None
    return [read(value) for _, value in sorted(named)]


def _place(name: str) -> tuple[int, str]:
    order = ("r", "\\rho", "\\theta", "\\phi")
    return (order.index(name), name) if name in order[:1] + order[1:] else (9, name)


def column(tree: tuple) -> bool:
    return any_part(tree, lambda part: part[0] == "m")
