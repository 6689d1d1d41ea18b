r"""The form of a problem that is compared: a list of tokens in which spelling is taken away.

    >>> tokens(r"Find $\dfrac{1}{2}$ of twenty-five.") == tokens("find 1/2 of 25")
    True

Numbers are written in digits, LaTeX in one way, words in lower case, and what carries no meaning (articles, dollar
signs, sentence marks, grouping braces) is left out. Nothing here judges; `near_duplicates` does.
"""

import re
import unicodedata
from fractions import Fraction

_SIGNS = {
    **dict.fromkeys("−‐‑–—﹣－", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u00a0\u2009\u202f", r"\,"),
    "×": "*", "⋅": "*", "·": "*", "∙": "*", "÷": "/", "∕": "/", "⁄": "/", "≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=",
    "≠": "!=", "±": r"\pm ", "√": r"\sqrt ", "∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "∠": r"\angle ", "△": r"\triangle ", "∈": r"\in ",
    "°": " degrees ", "º": " degrees ", "…": "...", "’": "'", "‘": "'", "“": '"', "”": '"', "¢": " cents ",
    "∑": r"\sum ", "∪": r"\cup ", "∩": r"\cap ", "→": r"\to ",
}  # fmt: skip
_SIGNS = str.maketrans(_SIGNS)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")

# One spelling for LaTeX's many. Each is replaced from left to right, in this order.
_LATEX = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\begin\s*\{[^{}]*\}|\\end\s*\{[^{}]*\}", " "),
        (r"(?<=\d)(?:\\[,!]|\{,\}|,(?:\\!)?)(?=\d{3}(?!\d))", ""),  # 1,000 and 1{,}000 and 1\,000
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|operatorname\*?|emph|boldsymbol|bm)\s*"
         r"\{([^{}]*)\}", r" \1 "),
        (r"\\(?:left|right|[bB]ig+[lrm]?|displaystyle|textstyle|limits|nolimits|quad|qquad|hspace\*?\{[^{}]*\}|rm|bf|it)"
         r"(?![a-zA-Z])\.?", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r" \1/\2 "),
        (r"\\frac\s*\{((?:[^{}]|\{[^{}]{0,200}\}){0,64})\}\s*\{((?:[^{}]|\{[^{}]{0,200}\}){0,64})\}",
         lambda found: f" {_group(found[1])}/{_group(found[2])} "),
        (r"\^\s{0,8}(?:\{\s{0,8}\\circ\s{0,8}\}|\\circ(?![a-zA-Z]))|\\(?:degree|circ)(?![a-zA-Z])", " degrees "),
        (r"\\(?:cdot|times|ast)(?![a-zA-Z])", "*"),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\\(?:le|leq|leqslant)(?![a-zA-Z])|=<", "<="),
        (r"\\(?:ge|geq|geqslant)(?![a-zA-Z])|=>", ">="),
        (r"\\(?:ne|neq)(?![a-zA-Z])", "!="),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\(?:[lc]?dots|dotsc|dotsb)(?![a-zA-Z])|\.\s?\.\s?\.+", " ... "),
        (r"\\lvert|\\rvert|\\[lr]?vert|\\mid", "|"),
        (r"\\%|%|\bper\s+cent\b|\bpct\b", " percent "),
        (r"\^\s{0,8}(?:\{\s{0,8})?(st|nd|rd|th)(?:\s{0,8}\})?(?![a-zA-Z])", r"\1"),
        (r"\\\\|\\[()\[\],;:! ]|\$|~", " "),
        (r"\\(?=[{}&#_])", ""),
    )
]  # fmt: skip
_WORD_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_])|(?<=[^\W\d_])-(?=[^\W\d_]{2})|(?<=\d)-(?=[^\W\d_]{2})")
_SUM = re.compile(r"[^\s\\]\s{0,8}[-+]")
_POSSESSIVE = re.compile(r"\s?'s\b|(?<=s)'(?=\s)")
_TOKEN = re.compile(
    r"\d+(?:(?:st|nd|rd|th)\b|\.\d+)?|\.\d+|\\?[^\W\d_]+(?:'[a-z]+)?|<=|>=|!=|\.\.\.|[-+*/=<>^!()|_]", re.UNICODE
)

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_UNITS = {name: value for value, name in enumerate(f"{_UNITS} seventeen eighteen nineteen".split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {name: 10 * value for value, name in enumerate(_TENS.split(), 2)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth"
    " sixteenth seventeenth eighteenth nineteenth twentieth"
)
_ORDINALS = {name: str(value) for value, name in enumerate(_ORDINALS.split(), 1)}
_PARTS = {
    **{f"{name}s": value for name, value in _ORDINALS.items() if name not in ("first", "second")},
    **{name: value for name, value in _ORDINALS.items() if name not in ("first", "second")},
    "half": "2", "halves": "2", "quarter": "4", "quarters": "4",
}  # fmt: skip
_SAID = {"half": ["1", "/", "2"], "twice": ["2", "times"], "thrice": ["3", "times"]}
_DROPPED = frozenset(("a", "an", "the", "please", "dollar", "dollars", "usd"))
_SAME = {
    other: one
    for one, others in {
        "find": "compute calculate evaluate determine",
        "largest": "greatest maximum maximal biggest highest",
        "smallest": "least minimum minimal lowest",
        "centimeters": "cm centimeter centimetre centimetres",
        "kilometers": "km kilometer kilometre kilometres",
        "kilograms": "kg kilogram",
        "millimeters": "mm millimeter millimetre millimetres",
        "meters": "meter metre metres",
        "degrees": "degree",
        "percent": "percentage",
        "isosceles": "isoceles",
    }.items()
    for other in others.split()
}


def tokens(text: str) -> list[str]:
    """The tokens of a problem that are compared."""
    if not text.isascii():
        text = _ascii(text)
    if "\\" in text or "$" in text or "%" in text or "," in text or "^" in text or ".." in text or " per " in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = _WORD_HYPHEN.sub(" ", _POSSESSIVE.sub("", text.lower()))
    return [_SAME.get(token, token) for token in _with_digits(_without_marks(_TOKEN.findall(text)))]


def is_number(token: str) -> bool:
    """Whether a token is a number or an ordinal in digits."""
    return token[0].isdigit()


def is_symbol(token: str) -> bool:
    """Whether a token is a variable, a relation, an operator or a LaTeX command; products and quotients do not count.

    `2x` is `2\\cdot x` and `a/b` may be `a per b`, so these two say nothing. `(` and `)` group in many ways.
    """
    return token[0] in r"\+-=<>^!" or len(token) == 1 and token.isalpha()


def _ascii(text: str) -> str:
    text = _RAISED.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]) + " ", text)
    return unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)


def _group(text: str) -> str:
    return f"({text})" if _SUM.search(text) else text.strip()


def _without_marks(found: list[str]) -> list[str]:
    """Without signs that are only punctuation: dashes, exclamation marks, brackets around words, articles."""
    kept = []
    last = len(found) - 1
    for index, token in enumerate(found):
        if token in _DROPPED and not (token == "a" and _is_term(found, index - 1) and _is_operator(found, index + 1)):
            continue
        if token == "-" and not (index < last and _is_term(found, index + 1) and _joins(found, index - 1)):
            continue
        if token == "!" and not (kept and _is_term(kept, len(kept) - 1)):
            continue
        if token == "_":
            continue
        kept.append(token)
    return kept


def _is_term(found: list[str], index: int) -> bool:
    token = found[index] if 0 <= index < len(found) else " "
    return token[0].isdigit() or token[0] in r"\().|" or len(token) == 1 and token.isalpha()


def _is_operator(found: list[str], index: int) -> bool:
    return 0 <= index < len(found) and found[index] in ("+", "-", "*", "/", "=", "^", "<", ">", "<=", ">=")


def _joins(found: list[str], index: int) -> bool:
    """Whether a minus may stand after this: a term, an operator, or nothing (a sign)."""
    return index < 0 or _is_term(found, index) or _is_operator(found, index)


def _with_digits(found: list[str]) -> list[str]:
    """Number words in digits: `two hundred and five` -> `205`, `two thirds` -> `2 / 3`, `third` -> `3rd`."""
    read: list[str] = []
    index = 0
    while index < len(found):
        token = found[index]
        if token in _UNITS or token in _TENS or token[0].isdigit() or token[0] == "." and token != "...":
            number, index = _number(found, index)
            read.append(number)
            if index < len(found) and found[index] in _PARTS and number.isdigit() and _is_part(number, found[index]):
                read += ["/", _PARTS[found[index]]]
                index += 1
            continue
        index += 1
        if token in _SAID:
            read += _SAID[token]
        elif token in _ORDINALS:
            read.append(_ORDINALS[token] + "th")
        elif token == "dozen":
            read.append("12")
        else:
            read.append(token)
    return read


def _is_part(number: str, name: str) -> bool:
    """`two thirds`, `one third`; not `2 third-graders`, `25 first` or `49 quarters`, which are coins."""
    return int(number) < int(_PARTS[name]) and (name.endswith("s") or number == "1" or name in ("half", "quarter"))


def _number(found: list[str], index: int) -> tuple[str, int]:
    """The number that begins here, in digits, and where it ends."""
    token = found[index]
    if token[0].isdigit() or token[0] == ".":
        if token[-1].isalpha():
            return token.rstrip("stndrh") + "th", index + 1
        if index + 1 < len(found) and found[index + 1] in _SCALES:
            return _written(Fraction(token) * _SCALES[found[index + 1]]), index + 2
        return _plain(token), index + 1
    total = group = 0
    start = index
    while index < len(found):
        word = found[index]
        goes_on = index == start or _after_scale(found, index)
        if word in _UNITS and (goes_on or found[index - 1] in _TENS and _UNITS[word] < 10):
            group += _UNITS[word]
        elif word in _TENS and goes_on:
            group += _TENS[word]
        elif word in ("hundred", "dozen") and index > start and found[index - 1] != word:
            group *= _SCALES[word]
        elif word in _SCALES and index > start and found[index - 1] != word:
            total, group = total + group * _SCALES[word], 0
        elif word == "and" and found[index - 1] in _SCALES and index + 1 < len(found) and _is_small(found[index + 1]):
            pass
        else:
            break
        index += 1
    return str(total + group), index


def _after_scale(found: list[str], index: int) -> bool:
    before = found[index - 1]
    return before in _SCALES and before != "dozen" or before == "and"


def _is_small(word: str) -> bool:
    return word in _UNITS or word in _TENS


def _plain(number: str) -> str:
    if "." in number:
        whole, _, part = number.partition(".")
        part = part.rstrip("0")
        return f"{whole.lstrip('0') or '0'}.{part}" if part else whole.lstrip("0") or "0"
    return number.lstrip("0") or "0"


def _written(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else _plain(f"{float(value):f}")
