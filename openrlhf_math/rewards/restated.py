r"""An answer that repeats the question instead of answering it.

Where the gold is a number, `\boxed{2+3}`, `\boxed{48/2}` and `\boxed{\sqrt{16}}` are not answers: the symbolic
comparison would do the sum for the policy. Fractions stay (`\frac{6}{8}` for `\frac{3}{4}`), unless they are really
integers, or the very fraction that the problem asks to convert. The same holds for each item of a list, a tuple or a
matrix. Where the gold is not a number, these are not answers either: an integral, a sum, a limit or a product of
matrices that the gold does not have, and an expression of the problem, be it in another order (`x^2+2+3x`).
`RewardConfig(accept_expressions=True)` lets all of them count.
"""

import re
from collections import Counter

from openrlhf_math.rewards.gold import Gold, gold_of
from openrlhf_math.rewards.latex import Unreadable, parse
from openrlhf_math.rewards.notation import key, tidy, unstyled
from openrlhf_math.rewards.number import read_number
from openrlhf_math.rewards.shape import entries, sides

_OPERATION = re.compile(
    r"[+*/^!|]|- ?[-(]|(?<=[0-9A-Za-z)}\]]) ?-|\) ?\(|[0-9] ?\(|\b(?:mod|choose|of)\b"
    r"|\\(?!circ|pi|infty|text|mathrm|mathbf|approx|in\b|ldots|dots)[a-zA-Z]+"
)
_UNDONE = re.compile(
    r"(?<![_{])\\(?:i{1,3}nt|oint|sum|prod|lim|max|min|sup|inf|gcd|lcm|det)(?![a-zA-Z])|\\(?:operatorname|mathrm)\{(?:lcm|gcd|det)"
    r"|\\frac\{(?:d|\\partial)[^{}]*\}\{(?:d|\\partial)\s*[a-z]|vmatrix\}|matrix\}"
)
_STYLE = re.compile(r"\\(?:text|mathrm|mbox|operatorname)(?![a-zA-Z])")
_MODULUS = re.compile(r" ?\(?\\[pb]?mod ?(?:\{[^{}]{0,40}\}|[0-9]{1,40})\)?\Z")
_TWO_SIGNS = re.compile(r"- ?[({]? ?-")
_SIGN = re.compile(r"\\(?:leq?|geq?|leqslant|geqslant|lt|gt|neq?|in)(?![a-zA-Z])|[<>=]")
_FRACTION = re.compile(r"\\frac\{([0-9]+)\}\{([0-9]+)\}")
_CONVERSION = re.compile(r"decimal|percent|fraction|mixed|simpl|reduce|lowest|convert|express|write", re.IGNORECASE)
_MAX_QUOTE = 200
_MAX_PROBLEM = 20_000
_MATH = re.compile(
    r"\$([^$]{1,400})\$|\\\(([^\\]{1,400}(?:\\[^()\\][^\\]{0,400}){0,60})\\\)"
    r"|\\\[([^\\]{1,400}(?:\\[^\[\]\\][^\\]{0,400}){0,60})\\\]"
)
_PART_BEFORE = re.compile(r"[0-9A-Za-z.^_]")
_PART_AFTER = re.compile(r"[0-9A-Za-z^_]")
_ATOM = re.compile(r"\\[a-zA-Z]+|[0-9]+|[a-zA-Z^-]")
_NO_ATOMS = ("0", "1", r"\frac", r"\cdot", r"\times")


def restated(gold: Gold, answer: str, problem: str | None) -> bool:
    """Whether the tidied answer leaves the work of the question undone. The same text as the gold never does."""
    if key(answer) == gold.key:
        return False
    number = read_number(answer)
    if number and number.form in ("integer", "decimal", "repeating"):
        return False
    if gold.number and number:
        if number.form == "fraction" and number.value.denominator == 1 and gold.number.form != "fraction":
            return True
        if number.form == gold.number.form and _slashed(key(answer)) == _slashed(gold.key):
            return False
        return bool(problem and _CONVERSION.search(problem)) and _quoted(answer, problem)
    items = entries(answer)
    if len(items) > 1:
        return _items_restated(entries(gold.text), items, gold.shape.kind) or _undone(gold.text, answer)
    if gold.number:
        rounded = gold.number.decimal is not None and min(gold.number.decimal) >= 6  # it stands for an exact value
        return gold.number.form != "ratio" and not rounded and _is_sum(answer, gold)
    if _undone(gold.text, answer):
        return True
    return bool(_OPERATION.search(answer)) and (_quoted(answer, problem) or _rearranged(gold.text, answer, problem))


def _is_sum(answer: str, gold: Gold) -> bool:
    """Whether a text that is to be one number still has something to be done, as `2+3` and `\\sqrt{25}` have."""
    if gold.text.endswith("circ") and r"\pi" in answer:
        return False  # the angle in radians
    if _TWO_SIGNS.search(answer):
        return True
    answer = _MODULUS.sub("", answer)
    words = _STYLE.search(answer)
    if words and words.start():
        answer = answer[: words.start()].strip()
    try:
        tree = parse(answer)
    except Unreadable:
        plain = unstyled(answer)
        return bool(_OPERATION.search(plain)) and not answer.startswith((r"\text", r"\{")) and not _SIGN.search(answer)
    return not _is_done(tree)


def _is_done(tree: tuple) -> bool:
    """A number, its opposite, a quotient of two numbers, and powers of ten and of one half as people write them."""
    kind = tree[0]
    if kind in ("n", "s", "c"):
        return True
    if kind == "deg":
        return _is_done(tree[1])
    if kind == "^":
        power = tree[2]
        return tree[1][0] == power[0] == "n" and power[1] < 0
    if kind != "*" or len(tree[1]) != 2:
        return False
    first, second = tree[1]
    if first == ("n", -1):
        return _is_done(second)
    if first[0] == "*" and second[0] == "n":
        return False
    below = second[0] == "^" and second[1][0] == "n" and second[2] == ("n", -1)
    ten = second[0] == "^" and second[1] == ("n", 10) and second[2][0] == "n"
    return first[0] == "n" and (below and second[1][1] != 1 and not _whole(first, second) or ten)


def _whole(first: tuple, second: tuple) -> bool:
    bottom = second[1][1]
    return bottom == 0 or (first[1] / bottom).denominator == 1


def _items_restated(golds: tuple[str, ...], answers: tuple[str, ...], kind: str) -> bool:
    if len(golds) != len(answers):
        return False  # cannot be right anyway
    numbers = [gold for gold in map(gold_of, golds) if gold.number]
    if kind in ("list", "set"):  # maybe in another order: more sums than the gold has are not done
        undone = [answer for answer in answers if not read_number(sides(answer)[-1]) and numbers]
        undone = [answer for answer in undone if restated(numbers[0], sides(answer)[-1], None)]
        return len(undone) > len(golds) - len(numbers)
    if len(numbers) < len(golds):
        pairs = [(gold_of(gold), answer) for gold, answer in zip(golds, answers, strict=True)]
    else:
        pairs = [(numbers[0], answer) for answer in answers]
    return any(gold.number and restated(gold, sides(answer)[-1], None) for gold, answer in pairs)


def _undone(gold: str, answer: str) -> bool:
    """Whether the answer has an operation, of those that are not left in an answer, more often than the gold."""
    more = Counter(_UNDONE.findall(answer)) - Counter(_UNDONE.findall(gold))
    if (
        more == {"matrix}": 2}
        and answer.startswith("\\begin")
        and answer.endswith("matrix}")
        and gold[:1] in ("(", "[")
    ):
        return False  # a column for a tuple
    return bool(more)


def _quoted(answer: str, problem: str | None) -> bool:
    """Whether the answer is word for word in the problem, not as a part of something longer."""
    if not problem or len(answer) > _MAX_QUOTE:
        return False
    wanted = _slashed(key(answer)).replace(" ", "")
    text = f" {_slashed(tidy(problem[-_MAX_PROBLEM:]))} "
    places = [place for place, sign in enumerate(text) if sign != " "]
    signs = text.replace(" ", "")
    start = signs.find(wanted)
    while start >= 0:
        before, after = text[places[start] - 1], text[places[start + len(wanted) - 1] + 1]
        if not (_PART_BEFORE.match(before) or _PART_AFTER.match(after)):
            return True
        start = signs.find(wanted, start + 1)
    return False


def _rearranged(gold: str, answer: str, problem: str | None) -> bool:
    """Whether the answer has the very numbers, variables and functions of a formula in the problem, the gold others."""
    atoms = _atoms(answer)
    if not problem or len(answer) > _MAX_QUOTE or atoms == _atoms(gold):
        return False
    for match in _MATH.finditer(problem[-_MAX_PROBLEM:]):
        formula = tidy(next(group for group in match.groups() if group))
        if any(atoms == _atoms(part) for part in (formula, *sides(formula))):
            return True
    return False


def _atoms(text: str) -> list[str]:
    return sorted(atom for atom in _ATOM.findall(text) if atom not in _NO_ATOMS)


def _slashed(text: str) -> str:
    return _FRACTION.sub(r"\1/\2", text)
