r"""One spelling for the many ways to write the same thing.

`tidy` keeps LaTeX; `key` is for comparing: texts with the same key are the same answer.
Only signs that a mathematician would take for each other are made equal: `−5` and `-5`, `７２` and `72`, `½` and
`\frac{1}{2}`. A Cyrillic `В` is not the choice `B`.
"""

import re
import unicodedata
from functools import lru_cache

# No answer is longer. Longer text in a box is not read at all.
MAX_ANSWER = 2000
# The longest text that is tidied: an answer with its spelling, or the problem's options.
LONGEST = 20_000
REMEMBERED = 200  # characters: longer texts are tidied each time

_SIGNS = {
    **dict.fromkeys("−‐‑‒–﹣－", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad", ""),
    "×": r" \times ", "⋅": r" \cdot ", "·": r" \cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ", "±": r"\pm ", "∓": r"\mp ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ",
    "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∖": r"\setminus ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
}  # fmt: skip
_BOARD = "𝔸𝔹ℂ𝔻𝔼𝔽𝔾ℍ𝕀𝕁𝕂𝕃𝕄ℙ𝕊𝕋𝕌𝕍𝕎𝕏𝕐"
_SIGN_TABLE = str.maketrans(_SIGNS | {
    "。": ".", "，": ",", "；": ";", "∶": ":", "“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "、": ",",
    "或": r"\text{ or }", "和": r"\text{ and }", "且": r"\text{ and }", "与": r"\text{ and }", "′": "'",
    "γ": r"\gamma ", "δ": r"\delta ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ", "σ": r"\sigma ", "ρ": r"\rho ",
    **dict.fromkeys("✓✔✅", ""), "Δ": r"\Delta ",
    "∧": r"\land ", "∨": r"\lor ", "→": r"\to ", "≡": r"\equiv ", "∠": r"\angle ", "∣": r"\mid ",
    **{sign: rf"\mathbb{{{letter}}}" for sign, letter in zip(_BOARD, "ABCDEFGHIJKLMPSTUVWXY", strict=True)},
})  # fmt: skip
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_ROOT = re.compile(r"√\s*(?:\(([^()]+)\)|\{([^{}]+)\}|([0-9]+|[a-z]))")

_WRAPPERS = re.compile(
    r"(?<!\\)\$|(?<!\\)\\[()\[\]]"
    r"|\\(?:left|right|[bB]ig[lr]?|displaystyle|textstyle|limits|large|Large|LARGE|huge|Huge|bf|rm|it)(?![a-zA-Z])\.?"
    r"|\\color\s*\{[^{}]*\}"
)
_GAP = re.compile(r"\\(?:[hv]space\*?|[hv]?phantom)\s*\{[^{}]*\}")
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d|\\pi)|\{([^{}]*)\})\s*(?:(\d|\\pi(?![a-z]))|\{([^{}]*)\})")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\d|[a-z](?![a-z]))")
_THIN_SPACE = re.compile(r"(?<!\\)\\!|\{,\}|(?<=\d)\\,(?=\d{3}(?!\d))")
_SPACE = re.compile(r"(?<!\\)\\[;:, ]|\\q?quad(?![a-zA-Z])|~|\s")
_SHORT_BINOMIAL = re.compile(r"\\[dt]?binom\s*([0-9a-z])\s*([0-9a-z])")
_CHOOSE = re.compile(r"\{([^{}\\]{1,40})\\choose([^{}]{1,40})\}")
_OVER = re.compile(r"\{([^{}\\]{1,40})\\over(?![a-zA-Z])([^{}]{1,40})\}")
_LONG_BINOMIAL = re.compile(r"\\[dt]binom(?![a-zA-Z])")
_UNITS = r"((?:\\(?:text|m(?:athrm|box)) ?\{[^{}]{1,20}\}(?:\^(?:[0-9]|\{[0-9]\}))? ?){1,3})"
_UNIT_FRACTION = re.compile(rf"\\frac ?\{{ ?{_UNITS}\}}\{{ ?{_UNITS}\}}\Z")
_NEW_ROW = re.compile(r"\\cr(?![a-zA-Z])")
_ANGLED = re.compile(r"\\([lr])angle(?![a-zA-Z])")
_LEAD_IN = re.compile(r"\A(?:\\text\s*\{)?\s*(?:the )?(?:final )?answer(?: is)?\b[\s:]*\}?", re.IGNORECASE)
_DEGREE = re.compile(r"\^\s{0,4}(?:\{\s{0,4}\\circ\s{0,4}\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])")
_INFINITY = re.compile(r"\\text\s*\{\s*infinity\s*\}|(?<![a-z\\])infinity(?![a-z])", re.IGNORECASE)
_PERCENT = re.compile(r"\\text\s*\{\s*per ?cent\s*\}|(?<=[0-9} ])per ?cent(?![a-z])", re.IGNORECASE)
_DOTS = re.compile(r"\.\.\.+|\\[lc]?dots(?![a-zA-Z])")
_BRACE = re.compile(r"\\[{}]|[{}]")
_SPACES = re.compile(r"\s+")
_ROW_GAP = re.compile(r"\\\\\[[0-9.]{1,6} ?[a-z]{2}\]")
_MARK_IN_BRACES = re.compile(r"\\text ?\{([.,:])\}|\{([.:])\}")
_EMPTY_SIGN = re.compile(
    r"\\(?:checkmark|therefore|blacksquare|Box|square|noindent|centering)(?![a-zA-Z])|\\tag\*? ?\{[^{}]{0,20}\}"
    r"|\A ?\\(?:Rightarrow|implies|longrightarrow)(?![a-zA-Z])"
)
_ORDINAL = re.compile(r"\^ ?(?:\{ ?)?(?:\\(?:text|mathrm|textrm) ?\{ ?)(st|nd|rd|th) ?\}(?: ?\})?")
_APPROXIMATELY = re.compile(
    r" ?\((?:\\text ?\{[a-z ]{1,20}\} ?)?(?:\\approx|\\text\{ ?answer ?\}) ?[0-9.,]{0,30}(?:\\ldots ?)?\)\Z"
)
_CHINESE_LEAD = re.compile(r"\A(?:最终)?(?:答案|结果)(?:是|为|:|：)? ?")
# A label before a value: `\text{Total: }5`, `\text{The angle is }`.
_LABEL = re.compile(
    r"\A\\text[a-z]{0,4} ?\{[A-Za-z' ]{1,40}(?:: ?| is ?| = ?|equals ?)\}(?: ?[:=])? ?"
    r"|\A[A-Z][a-z]{2,20}(?: [a-z]{2,20}){0,3}: ?(?=[0-9\\$-])"
)
_BEGINNING = re.compile(r"\A\\begin\{(?:aligned|align\*?|gathered|equation\*?|split)\}")
_ENDING = re.compile(r"\\end\{(?:aligned|align\*?|gathered|equation\*?|split)\}")
_WHOLE_STYLE = re.compile(
    r"\A\\(?:text(?:bf|it|rm|tt|sf|normal)?|math(?:rm|bf|it|sf|tt)|mbox|boldsymbol|bold|bm|underline|emph|large|ensuremath"
    r"|(?:textcolor|colorbox) ?\{[a-z]{1,20}\}) ?\{"
)
_PUNCTUATION = (".", ",", ";", ":")
_STYLED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|boldsymbol|bm|operatorname|underline)"
    r"\s*\{([^{}]*)\}"
)
_SINGLE = re.compile(r"([_^])\{([0-9a-zA-Z])\}(?![0-9a-zA-Z])")
_AT_MOST = re.compile(r"\\([lg])e(?:q(?:slant)?)?(?![a-zA-Z])")
_BOARD_LETTER = re.compile(r"\\mathbb ?([A-Z])")
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")  # most answers; nothing below would change one
# Other ways to type the same: what a text must have for the pattern to be tried, the pattern, what it becomes.
_ARGUMENT = r"(?:\{ ?([0-9a-z]{1,6}) ?\}|([0-9a-z]))"
_RETYPED: tuple[tuple[str, re.Pattern, str], ...] = (
    (":=", re.compile(r":="), "="),
    ("coloneq", re.compile(r"\\coloneqq?(?![a-zA-Z])"), "="),
    ("**", re.compile(r"(?<=[0-9a-zA-Z)}\]])\*\*(?=[0-9a-zA-Z({\\-])"), "^"),
    (r"\^{}", re.compile(r"\\\^\{\}"), "^"),
    ("asciicircum", re.compile(r"\\textasciicircum(?:\{\}|(?![a-zA-Z]) ?)"), "^"),
    ("{-}", re.compile(r"(?:\A|(?<=[0-9(\[,={]))(?<!\^)(?<!_)\{-\}"), "-"),
    ("_\\", re.compile(r"_ ?(\\(?:text|mathrm|textrm|mbox|operatorname) ?\{[^{}]*\})"), r"_{\1}"),
    ("C_", re.compile(rf"(?:\A|(?<=[=( ]))(?:\{{ ?\}} ?)?[_^] ?{_ARGUMENT} ?C_ ?{_ARGUMENT}"), r"\\binom{\1\2}{\3\4}"),
    (r"\mathbb{R}_", re.compile(r"(\\mathbb\{R\})_ ?\{ ?(?:>|\\gt) ?0 ?\}"), r"\1^+"),
    (r"\mathbb{R}_", re.compile(r"(\\mathbb\{R\})_ ?\{ ?(?:<|\\lt) ?0 ?\}"), r"\1^-"),
    (r"\mathbb{R}_", re.compile(r"(\\mathbb\{R\})_ ?\{ ?\\ge(?:q(?:slant)?)? ?0 ?\}"), r"\1_0^+"),
    (r"\mathbb{R}_", re.compile(r"(\\mathbb\{R\})_ ?\{ ?\\le(?:q(?:slant)?)? ?0 ?\}"), r"\1_0^-"),
    (r"\euro", re.compile(r"\\(?:text)?euro(?:\{\}|(?![a-zA-Z]))"), "€"),
    (r"\pounds", re.compile(r"\\pounds(?:\{\}|(?![a-zA-Z]))"), "£"),
    (r"\textsterling", re.compile(r"\\textsterling(?:\{\}|(?![a-zA-Z]))"), "£"),
)
_OPEN_CASES = re.compile(r"\\\{ ?\\begin ?\{array\} ?\{[lcr| ]{1,6}\}(?=[^\\]|\\(?!begin))")
_END_OF_CASES = re.compile(r"\\end ?\{array\} ?\Z")
_NAMED_VALUE = re.compile(r"\A[a-zA-Z](?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]{1,9}\}))? ?= ?[^=<>&,]{1,200}\Z")
_FORMULA = re.compile(r"\A\\ce ?\{([A-Za-z0-9()]{1,40})\}\Z")
_ATOMS = re.compile(r"(?<=[A-Za-z)])([0-9]{1,3})")
_LOOSE_SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")


def tidy(text: str) -> str:
    """The text in plain ASCII LaTeX where that is possible: no dollar signs, no sizing, one kind of space.

    A text of more than `LONGEST` characters is not an answer and is left as it is.
    """
    if len(text) > LONGEST or _PLAIN_NUMBER.fullmatch(text):
        return text
    return _remembered(text) if len(text) <= REMEMBERED else _tidied(text)


def _tidied(text: str) -> str:
    if not text.isascii():
        text = _ascii(text)
    text = _SPACES.sub(" ", text).strip()  # first of all: no pattern below can stumble over a long run of spaces
    if "\\" not in text and "{" not in text:
        if "$" in text or "~" in text:
            text = _GAP.sub(" ", _WRAPPERS.sub("", text))
    else:
        text = _ROW_GAP.sub(r"\\\\ ", text)
        text = _MARK_IN_BRACES.sub(r"\1\2", _GAP.sub(" ", _WRAPPERS.sub("", text)))
        text = _FRACTION.sub(r"\\frac", text)
        text = _SHORT_FRACTION.sub(_full_fraction, text)
        text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
        text = _DEGREE.sub(r"^\\circ ", text)
        text = _SHORT_BINOMIAL.sub(r"\\binom{\1}{\2}", text)
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
        text = _OVER.sub(r"\\frac{\1}{\2}", _LONG_BINOMIAL.sub(r"\\binom", _NEW_ROW.sub(r"\\\\", text)))
        text = _ANGLED.sub(lambda match: "()"[match[1] == "r"], text)
        text = text.replace(r"\%", "%").replace(r"\varnothing", r"\emptyset").replace("{:}", ":")
        text = text.replace(r"\lbrace", r"\{").replace(r"\rbrace", r"\}")
        text = _THIN_SPACE.sub(lambda match: "," if match[0] == "{,}" else "", text)
        text = _BOARD_LETTER.sub(r"\\mathbb{\1}", _EMPTY_SIGN.sub(" ", text))
        if "frac" in text and text[-1:] == "}":
            text = _UNIT_FRACTION.sub(r"\1/\2", text)
        text = _without_environment(_ORDINAL.sub(r" \1", text))
    for sign, pattern, plain in _RETYPED:
        if sign in text:
            text = pattern.sub(plain, text)
    if "{array}" in text and text.count("\\begin") == 1 and _END_OF_CASES.search(text) and _OPEN_CASES.search(text):
        text = _END_OF_CASES.sub(r"\\end{cases}", _OPEN_CASES.sub(r"\\begin{cases}", text))
    if "{cases}" in text:
        text = _without_system(text)
    if formula := _FORMULA.match(text):
        text = _ATOMS.sub(r"_{\1}", formula[1])
    if "..." in text or "dots" in text:
        text = _DOTS.sub(r"\\ldots ", text)
    text = _without_style(text.strip())
    text = _CHINESE_LEAD.sub("", text)
    text = _LEAD_IN.sub("", text) if text[:1] in "\\tTaAfF" else text
    text = _LABEL.sub("", text)
    text = text.replace("np.", "") if "np." in text else text
    text = text.replace("US\\$", "\\$")
    text = _PERCENT.sub("%", _INFINITY.sub(r"\\infty ", text))
    text = _SPACE.sub(" ", text)
    text = _APPROXIMATELY.sub("", _SPACES.sub(" ", text).strip())
    text = _without_outer_braces(text)
    return _without_marks(text)


# One grading asks for a text several times, and a group of completions has one gold.
_remembered = lru_cache(maxsize=1 << 13)(_tidied)


def _without_marks(text: str) -> str:
    """Without emphasis and quotation marks around the whole text, and without one mark of punctuation at its end."""
    text = text.removesuffix("\\\\").removesuffix("\\").strip()
    for _ in range(4):
        if text[-1:] in _PUNCTUATION and text[-2:-1] not in _PUNCTUATION and text[-1:]:
            text = text[:-1].rstrip()
        for mark in ("**", "*", "`", '"', "'", "``"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)].strip()
                break
        else:
            break
    return text


def key(text: str) -> str:
    """What is left of a text when spelling is taken away; equal keys mean the same answer."""
    text = tidy(text)
    if _PLAIN_NUMBER.fullmatch(text):
        return text
    text = _STYLED.sub(r"\1", text).replace(r"\$", "")
    text = _SINGLE.sub(r"\1\2", _AT_MOST.sub(r"\\\1eq", text))
    return _LOOSE_SPACE.sub("", _SPACES.sub(" ", text)).strip()


def unstyled(text: str) -> str:
    r"""The text without `\text{}`, `\mathbf{}` and their kind, whose contents stay."""
    return _SPACES.sub(" ", _STYLED.sub(r"\1", text)).strip()


def balanced(text: str) -> bool:
    """Whether every brace that opens closes."""
    depth = 0
    for sign in _BRACE.findall(text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0


def _ascii(text: str) -> str:
    text = _SUPERSCRIPT.sub(lambda match: "^{" + unicodedata.normalize("NFKC", match[0]).replace("−", "-") + "}", text)
    text = _SUBSCRIPT.sub(lambda match: "_{" + unicodedata.normalize("NFKC", match[0]) + "}", text)
    text = _VULGAR.sub(lambda match: _fraction(*unicodedata.normalize("NFKC", match[0]).split("⁄")), text)
    text = _ROOT.sub(lambda match: r"\sqrt{" + (match[1] or match[2] or match[3]) + "}", text)
    text = text.translate(_SIGN_TABLE)
    return unicodedata.normalize("NFKC", text)


def _full_fraction(match: re.Match) -> str:
    return _fraction(match[1] or match[2] or "", match[3] or match[4] or "")


def _fraction(top: str, bottom: str) -> str:
    return rf"\frac{{{top}}}{{{bottom}}}"


def _without_style(text: str) -> str:
    r"""What a style is set around, if it is around the whole text: `\text{x = 5}`, `\mathbf{\text{5}}`."""
    for _ in range(4):
        match = _WHOLE_STYLE.match(text)
        if not match or not text.endswith("}") or not balanced(text[match.end() : -1]):
            break
        inner = text[match.end() : -1].strip()
        if inner.lower().startswith(("the answer", "answer", "the final")):
            return inner
        if len(inner) == 1 and inner.isalpha() or inner in ("", "0") or not any(sign.isdigit() for sign in inner):
            break  # a letter's style is part of its name, and words stay words
        text = inner
    return text


def _without_environment(text: str) -> str:
    begins, ends = _BEGINNING.match(text.strip()), _ENDING.search(text.strip())
    if not begins or not ends or ends.end() < len(text.strip()):
        return text
    inner = text.strip()[begins.end() : ends.start()].strip()
    return text if "&" in inner or "\\\\" in inner or "\\begin" in inner else inner


def _without_system(text: str) -> str:
    r"""`x = 1, y = 2` for `\begin{cases} x = 1 \\ y = 2 \end{cases}`: equations and nothing else."""
    begin, end = "\\begin{cases}", "\\end{cases}"
    if not text.startswith(begin) or not text.endswith(end):
        return text
    rows = [row.replace("&", "").strip(" ,;") for row in text[len(begin) : -len(end)].split("\\\\")]
    rows = [row for row in rows if row]
    return ", ".join(rows) if rows and all(map(_NAMED_VALUE.match, rows)) else text


def _without_outer_braces(text: str) -> str:
    for _ in range(3):
        if not (text.startswith("{") and text.endswith("}") and not text.endswith("\\}") and balanced(text[1:-1])):
            break
        text = text[1:-1].strip()
    return text
