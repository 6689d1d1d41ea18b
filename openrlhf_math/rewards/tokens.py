"""LaTeX as a list of tokens, and a place in it; texts split where a sign is outside all brackets. All linear."""

import re

DEPTH = 60
MAX_DIGITS = 2000
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\[^a-zA-Z]|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[a-zA-Z]+| +|[^ ]")
FUNCTIONS = frozenset(
    (
        "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch "
        "arcsinh arccosh arctanh ln log lg exp"
    ).split()
)
OTHER_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan",
                "cosec": "csc", "arsinh": "arcsinh", "arcosh": "arccosh", "artanh": "arctanh"}  # fmt: skip
GREEK = frozenset(
    (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi "
        "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar nabla odot oplus"
    ).split()
)
VARIANTS = {"varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "varrho": "rho", "varsigma": "sigma"}
PLAIN_STYLES = frozenset(
    (
        "text textbf textit textrm texttt textsf textnormal mathrm mathit mathsf mathtt mbox operatorname "
        "emph operatorname* hbox"
    ).split()
)
NAMES = FUNCTIONS | OTHER_NAMES.keys() | frozenset(("sqrt", "pi", "max", "min", "gcd", "lcm"))


class Unreadable(ValueError):
    """A text that is not understood as a whole."""


def tokens(text: str) -> list[str]:
    """Split tidied text. A space is kept as `" "` only between two signs of a number or a word."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0] == " ":
            if found and (found[-1][-1].isalnum() and found[-1][0] != "\\"):
                found.append(" ")
        elif token[0].isalpha() and token.isascii() and token not in NAMES and len(token) > 1:
            found.extend(token)
        elif token in NAMES:
            found.append("\\" + token)
        else:
            found.append(token)
    if found and found[-1] == " ":
        found.pop()
    return found


class Cursor:
    """The tokens and the place of the next one; `bars` counts the absolute values that are open."""

    def __init__(self, found: list[str]) -> None:
        self.tokens, self.at, self.depth = found, 0, 0
        self.bars = 0

    def peek(self, ahead: int = 0) -> str:
        """The next token that is not a space; "" at the end."""
        at = self.at
        while True:
            while at < len(self.tokens) and self.tokens[at] == " ":
                at += 1
            if at >= len(self.tokens):
                return ""
            if not ahead:
                return self.tokens[at]
            ahead, at = ahead - 1, at + 1

    def spaced(self) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at] == " "

    def next(self) -> str:
        while self.spaced():
            self.at += 1
        if self.at >= len(self.tokens):
            raise Unreadable("the text ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise Unreadable(f"no {token}")

    def end(self) -> None:
        if self.peek():
            raise Unreadable(f"what is {self.peek()}")


RELATION = re.compile(  # `5!=120` has a factorial
    r"\\(?:leqslant|geqslant|leq?|geq?|lt|gt|neq?|notin|in|equiv|approx)(?![a-zA-Z])|<=|>=|(?<![0-9)}])!=|[=<>]"
)
SIGNS = {
    "\\leq": "<=", "\\le": "<=", "\\leqslant": "<=", "\\geq": ">=", "\\ge": ">=", "\\geqslant": ">=", "\\lt": "<",
    "\\gt": ">", "\\neq": "!=", "\\ne": "!=", "\\in": "in", "\\notin": "notin", "\\equiv": "=", "\\approx": "~",
}  # fmt: skip
TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_CONSTANT = re.compile(r"\A(?:[a-df-hj-zA-Z]|\\(?:alpha|beta|gamma|theta|lambda|mu))\Z")


def split(text: str, pattern: re.Pattern) -> tuple[list[str], list[str]]:
    """The parts of a text between matches outside all brackets, and the matches. Linear in the text's length."""
    parts, signs, start, depth, place = [], [], 0, 0, 0
    for match in pattern.finditer(text):
        depth += _opened(text, place, match.start())
        place = match.start()
        if depth == 0:
            parts.append(text[start : match.start()].strip())
            signs.append(match[0])
            start = match.end()
    return [*parts, text[start:].strip()], signs


def _opened(text: str, start: int, end: int) -> int:
    piece = text[start:end]
    return sum(map(piece.count, "([{")) - sum(map(piece.count, ")]}"))


def is_bare(text: str) -> bool:
    return bool(_CONSTANT.match(text))


def is_grouped(text: str) -> bool:
    return bool(_GROUPED.fullmatch(text.strip("-+ ").partition(".")[0]))


def without_groups(text: str) -> str:
    return _GROUPED.sub(lambda match: match[0].replace(",", ""), text) if "," in text else text


COMMA = re.compile(r"[,;]")


def closes(text: str) -> bool:
    depth = 0
    for index, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth <= 0:
            return index == len(text) - 1
    return False
