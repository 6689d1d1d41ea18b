r"""LaTeX as mathematicians write answers, read into an expression tree. The whole text is read, or `Unreadable` raised.

A tree is a tuple: `("n", Fraction)`, `("s", name)` a variable, `("c", name)` one of pi, e, i and infinity,
`("+", terms)`, `("*", factors)`, `("^", base, exponent)`, `("root", radicand, degree)`, `("deg", angle)`, `("m", rows)`
a matrix, `("f", name, *arguments)` a known function, `("o", name, *arguments)` one compared by its arguments only.
A variable's name keeps its case, accents, primes and subscript. `\pm` is the variable `±`, which is 1 or -1.

The reader looks at each token once and nests at most `DEPTH` deep, so it takes linear time.
"""

import re
from fractions import Fraction

DEPTH = 60
MAX_DIGITS = 2000
LONGEST_CALL = 16

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\[^a-zA-Z]|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[a-zA-Z]+| +|[^ ]")
_FUNCTIONS = frozenset(
    (
        "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch "
        "arcsinh arccosh arctanh ln log lg exp"
    ).split()
)
_OTHER_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan",
                "cosec": "csc", "arsinh": "arcsinh", "arcosh": "arccosh", "artanh": "arctanh"}  # fmt: skip
_OF_SEVERAL = frozenset(
    ["max", "min", "gcd", "lcm", "det", "sup", "inf", "arg", "Re", "Im", "mod", "dim", "deg", "Pr", "Var"]
)
_GREEK = frozenset(
    (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi "
        "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar nabla odot oplus"
    ).split()
)
_VARIANTS = {"varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "varrho": "rho", "varsigma": "sigma"}
_ACCENTS = {
    "hat": "hat", "widehat": "hat", "tilde": "tilde", "widetilde": "tilde", "vec": "vec", "overrightarrow": "ray",
    "bar": "bar", "overline": "bar", "dot": "'", "ddot": "''", "check": "check", "underline": "", "mathbf": "vec",
    "boldsymbol": "vec", "bm": "vec", "mathcal": "cal", "mathscr": "cal", "mathfrak": "frak",
    "overleftrightarrow": "line", "widearc": "arc", "overset": None,
}  # fmt: skip
_PLAIN_STYLES = frozenset(
    (
        "text textbf textit textrm texttt textsf textnormal mathrm mathit mathsf mathtt mbox operatorname "
        "emph operatorname* hbox"
    ).split()
)
_BIG = frozenset(["sum", "prod", "int", "iint", "iiint", "oint", "lim", "limsup", "liminf", "bigcup", "bigcap"])
_TIMES = frozenset(("\\cdot", "\\times", "*", "\\ast"))
_BRACKETS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil",
             "\\lvert": "\\rvert", "\\lVert": "\\rVert"}  # fmt: skip
_CALLED = frozenset("fgFG")
_NAMES = _FUNCTIONS | _OTHER_NAMES.keys() | frozenset(("sqrt", "pi", "max", "min", "gcd", "lcm"))

ZERO, ONE, MINUS = ("n", Fraction(0)), ("n", Fraction(1)), ("n", Fraction(-1))
PLUS_MINUS = ("s", "±")
INVERSE = ("*", (MINUS, ONE))


class Unreadable(ValueError):
    """A text that is not understood as a whole."""


def tokens(text: str) -> list[str]:
    """Split tidied text. A space is kept as `" "` only between two signs of a number or a word."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0] == " ":
            if found and (found[-1][-1].isalnum() and found[-1][0] != "\\"):
                found.append(" ")
        elif token[0].isalpha() and token.isascii() and token not in _NAMES and len(token) > 1:
            found.extend(token)
        elif token in _NAMES:
            found.append("\\" + token)
        else:
            found.append(token)
    if found and found[-1] == " ":
        found.pop()
    return found


def parse(text: str) -> tuple:
    """The expression a tidied text denotes. Raises Unreadable."""
    return parse_tokens(tokens(text))


def parse_tokens(found: list[str]) -> tuple:
    reader = _Reader(found)
    try:
        tree = reader.sum()
    except RecursionError:
        raise Unreadable("nested too deep") from None
    reader.end()
    return tree


class _Reader:
    def __init__(self, found: list[str]) -> None:
        self.tokens, self.at, self.depth = found, 0, 0
        self.bars = 0

    # -- tokens --

    def peek(self, ahead: int = 0) -> str:
        """The next token that is no space; "" at the end."""
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

    # -- grammar --

    def sum(self) -> tuple:
        self.depth += 1
        if self.depth > DEPTH:
            raise Unreadable("nested too deep")
        terms = [self.signed_term()]
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            sign = self.next()
            term = self.signed_term() if self.peek() in ("-", "\\pm") and sign in "+-" else self.term()
            terms.append(_with_sign(sign, term))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def signed_term(self) -> tuple:
        if self.peek() in ("+", "-", "\\pm", "\\mp"):
            return _with_sign(self.next(), self.term())
        return self.term()

    def term(self, in_function: bool = False) -> tuple:
        """A product. Without brackets, a function's argument ends before the next function or explicit sign."""
        factors, numeral, explicit = [], False, False
        while True:
            token = self.peek()
            if factors:
                if token in _TIMES:
                    if in_function:
                        break
                    self.next()
                    numeral, explicit = False, True
                elif token in ("/", "\\div"):
                    if in_function:
                        break
                    self.next()
                    below = self.signed_factor()
                    # `1/2x` is half of x, `a/bc` is a over bc
                    while below[0] != "n" and token == "/" and self._starts_factor() and not self._starts_numeral():
                        below = ("*", (below, self.factor()))
                    factors.append(("^", below, MINUS))
                    numeral = True
                    continue
                elif (
                    token in ("\\bmod", "\\mod")
                    or token == "\\%"
                    or token == "%"
                    or not self._starts_factor()
                    or in_function
                    and token[1:] in _FUNCTIONS | _BIG
                ):
                    break
                elif numeral and self._starts_numeral():
                    raise Unreadable("two numbers side by side")
            begins = self._starts_numeral()
            before = self.at
            factor = self.signed_factor() if explicit else self.factor()
            explicit = False
            if begins and factors and numeral:
                raise Unreadable("two numbers side by side")
            numeral = begins and self._all_digits(before)
            factors.append(factor)
            if factor[0] == "n" and begins and self.peek() == "\\frac":
                mixed = self._mixed(factor)
                if mixed:
                    factors[-1], numeral = mixed, True
        if not factors:
            raise Unreadable("nothing there")
        return factors[0] if len(factors) == 1 else ("*", tuple(factors))

    def _all_digits(self, before: int) -> bool:
        return all(token[0] in "0123456789. " for token in self.tokens[before : self.at])

    def _starts_numeral(self) -> bool:
        token = self.peek()
        return bool(token) and (token[0].isdigit() or token[0] == "." and len(token) > 1)

    def _starts_factor(self) -> bool:
        token = self.peek()
        if not token:
            return False
        if token[0].isascii() and token[0].isalnum() or token[0] == "." and len(token) > 1 or token in _BRACKETS:
            return True
        if token in ("|", "\\vert", "\\|"):
            return self.bars == 0
        name = token[1:]
        return token[0] == "\\" and (
            name in _GREEK or name in _VARIANTS or name in _FUNCTIONS or name in _ACCENTS or name in _PLAIN_STYLES
            or name in _BIG or name in _OF_SEVERAL or name in _OTHER_NAMES
            or name in ("pi", "frac", "sqrt", "binom", "infty", "angle", "triangle", "begin", "mathbb", "partial")
        )  # fmt: skip

    def signed_factor(self) -> tuple:
        if self.peek() in ("-", "+") and self.peek(1) not in ("-", "+"):
            return _with_sign(self.next(), self.factor())
        return self.factor()

    def factor(self) -> tuple:
        tree, symbol = self.base()
        if symbol:
            tree = self.decorated(tree)
        raised = False
        while True:
            token = self.peek()
            if token == "^":
                self.next()
                tree, raised = self.power(tree, raised), True
            elif token == "!" and self.peek(1) != "!":
                self.next()
                tree = ("f", "factorial", tree)
            elif token in ("'", "_"):
                raise Unreadable(f"{token} behind what is no variable")
            else:
                return tree

    def power(self, base: tuple, raised: bool) -> tuple:
        token = self.peek()
        if token == "\\circ" or token == "{" and self.peek(1) == "\\circ" and self.peek(2) == "}":
            self.at = self._after("}") if token == "{" else self._after(token)
            return ("deg", base)
        if raised:
            raise Unreadable("a second exponent")
        exponent = self.argument()
        if exponent == MINUS and base[0] == "s" and base[1][:1].isupper():
            exponent = INVERSE  # of a matrix, perhaps, where the order of factors matters
        return ("^", base, exponent)

    def _after(self, token: str) -> int:
        while self.next() != token:
            pass
        return self.at

    def argument(self) -> tuple:
        """What follows `^`: a group, or one sign."""
        if self.peek() == "{":
            return self.group("{")
        if self.peek() in ("-", "+"):
            return _with_sign(self.next(), self.argument())
        if self.peek() == "(":
            return self.group("(")
        tree, symbol = self.base()
        return tree

    def group(self, opening: str) -> tuple:
        self.expect(opening)
        bars, self.bars = self.bars, 0
        tree = self.sum()
        self.bars = bars
        self.expect(_BRACKETS[opening])
        return tree

    def base(self) -> tuple[tuple, bool]:
        """The tree of one operand, and whether it is a variable that a subscript or a prime may follow."""
        token = self.peek()
        if self._starts_numeral():
            return self.numeral(), False
        if token in ("(", "["):
            tree = self.group(token)
            return tree, False
        if token == "{":
            return self.braced()
        if token in ("|", "\\vert", "\\lvert", "\\|", "\\lVert"):
            return self.absolute(), False
        if token in ("\\lfloor", "\\lceil"):
            return ("f", token[2:], self.group(token)), False
        if len(token) == 1 and token.isascii() and token.isalpha():
            self.next()
            return self.letter(token), True
        if token[:1] == "\\":
            self.next()
            return self.command(token[1:])
        raise Unreadable(f"what is {token}" if token else "the text ends too early")

    def braced(self) -> tuple[tuple, bool]:
        if self.at and self.tokens[self.at - 1][0].isdigit() and self.peek(1)[:1].isdigit():
            raise Unreadable("two numbers side by side")
        self.next()
        start = self.at
        bars, self.bars = self.bars, 0
        tree = self.sum()
        self.bars = bars
        self.expect("}")
        return tree, tree[0] == "s" and self.at - start == 2

    def letter(self, sign: str) -> tuple:
        if sign == "e" and self.peek() not in ("_", "'"):
            return ("c", "e")
        if sign == "i" and self.peek() not in ("_", "'"):
            return ("c", "i")
        return ("s", sign)

    def decorated(self, tree: tuple) -> tuple:
        """A variable with its subscript and primes, or a function of what stands in brackets: `f'(x)`, `y(1)`."""
        if tree[0] == "c":
            return tree
        name = tree[1]
        while self.peek() in ("_", "'") or self.peek() == "^" and self._primes():
            token = self.next()
            if token == "_":
                name += "_" + self.subscript()
            elif token == "^":
                name += "'" * self._primes(consume=True)
            else:
                name += "'"
        if self.peek() == "(" and not self.spaced():
            arguments = self.call(name)
            if arguments and arguments[0] == "binom":
                return ("f", *arguments)
            if arguments is not None:
                return ("o", name, *arguments)
        return ("s", name)

    def _primes(self, consume: bool = False) -> int:
        """How many primes stand in `^{\\prime\\prime}`, from `^` on or, consuming them, behind it."""
        ahead = 0 if consume else 1
        braced = self.peek(ahead) == "{"
        count, place = 0, ahead + braced
        while self.peek(place) in ("\\prime", "'"):
            count, place = count + 1, place + 1
        if braced and self.peek(place) != "}":
            return 0
        if consume:
            for _ in range(place + braced):
                self.next()
        return count

    def call(self, name: str) -> list | None:
        """The arguments of `f(x)`; None where brackets after a variable mean a product, `x(x+1)`.

        That is seen from the tokens in the brackets, before anything is read: reading twice at each bracket would
        double the time with each one inside another.
        """
        if name[0] not in _CALLED and "'" not in name and not self._only_names():
            return None
        self.next()
        bars, self.bars = self.bars, 0
        arguments = [self.sum()]
        while self.peek() == ",":
            self.next()
            arguments.append(self.sum())
        self.bars = bars
        self.expect(")")
        return ["binom", *arguments] if name == "C" and len(arguments) == 2 else arguments

    def _only_names(self) -> bool:
        """Whether the brackets ahead hold single numbers and variables, `(x)`, `(3)`, `(m, n)`, and nothing else."""
        before, between = "", 0
        for token in self.tokens[self.at + 1 : self.at + 1 + LONGEST_CALL]:
            if token == ")":
                return before not in ("", ",", "-", "_")
            single = token[0].isalnum() or token[1:] in _GREEK or token == "\\pi"
            if token == ",":
                between += 1
            if not single and token not in (",", "_", " ", "'", "-") or single and before not in ("", ",", "-", "_"):
                return False
            if token == "-" and before not in ("", ","):
                return False
            before = before if token in (" ", "'") else token
        return False

    def subscript(self) -> str:
        """A subscript as a name: `_{1}`, `_1`, `_{\\text{max}}` and `_{\\max}` are read alike."""
        if self.peek() != "{":
            return self.next().lstrip("\\")
        depth, parts = 0, []
        while True:
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(parts)
            if token not in ("{", "}") and token[1:] not in _PLAIN_STYLES and token != " ":
                parts.append(token.lstrip("\\"))

    def numeral(self) -> tuple:
        text = self.next()
        if len(text) > MAX_DIGITS:
            raise Unreadable("too many digits")
        if self.peek() == "." and not self.spaced():
            self.next()
            if self._starts_numeral() or "." in text or self.peek() == ".":
                raise Unreadable("two points in a number")
            if self.peek() in ("\\overline", "\\dot", "\\bar", "("):
                return self.repeating(text + ".")
            return ("n", Fraction(text))
        if "." in text and self.peek() == "\\ldots":
            return self.continued(text)
        if "." in text and self.peek() in ("\\overline", "\\dot", "\\bar") and not self.spaced():
            return self.repeating(text)
        if "." in text and self.peek() == "(" and self.peek(1).isdigit() and self.peek(2) == ")":
            return self.repeating(text)
        if self.peek() in ("e", "E") and not self.spaced():
            sign = self.peek(1) if self.peek(1) in ("+", "-") else ""
            power = self.peek(1 + bool(sign))
            if power.isdigit() and len(power) < 5 and self.tokens[self.at + 1] != " ":
                for _ in range(2 + bool(sign)):
                    self.next()
                return ("n", Fraction(text) * Fraction(10) ** int(sign + power))
        return ("n", Fraction(text))

    def continued(self, text: str) -> tuple:
        r"""`0.1666\ldots`, where the last digits show what repeats: one digit three times, or several twice."""
        self.next()
        whole, _, digits = text.partition(".")
        for length in range(1, len(digits) // 2 + 1):
            period = digits[-length:]
            if digits.endswith(period * (3 if length == 1 else 2)):
                fixed = digits[: len(digits) - length]
                part = Fraction(int(period), (10**length - 1) * 10 ** len(fixed))
                return ("n", Fraction(f"{whole or 0}.{fixed}0") + part)
        raise Unreadable("which digits repeat")

    def repeating(self, fixed: str) -> tuple:
        r"""`0.1\overline{6}`, `0.1\dot6`, `0.1(6)`, `0.\dot1\dot2`."""
        mark = self.next()
        digits = ""
        if mark == "(":
            digits = self.next()
            self.expect(")")
        else:
            braced = self.peek() == "{"
            if braced:
                self.next()
            digits = self.next()
            if braced:
                self.expect("}")
            elif mark == "\\dot" and len(digits) > 1:
                raise Unreadable("which digits repeat")
            if mark == "\\dot" and (self._starts_numeral() or self.peek() == "\\dot"):
                if self._starts_numeral():
                    digits += self.next()
                self.expect("\\dot")
                braced = self.peek() == "{"
                if braced:
                    self.next()
                digits += self.next()
                if braced:
                    self.expect("}")
        if not digits.isdigit() or len(digits) > MAX_DIGITS:
            raise Unreadable("which digits repeat")
        places = len(fixed.partition(".")[2])
        return ("n", Fraction(fixed + "0") + Fraction(int(digits), (10 ** len(digits) - 1) * 10**places))

    def _mixed(self, whole: tuple) -> tuple | None:
        r"""`1\frac{1}{2}`, if a proper fraction of whole numbers follows a whole number."""
        top, bottom = self.peek(2), self.peek(5)
        if (
            self.peek(1) == self.peek(4) == "{" and self.peek(3) == self.peek(6) == "}"
            and top.isdigit() and bottom.isdigit() and len(bottom) < 400
            and int(top) < int(bottom) and whole[1].denominator == 1
        ):  # fmt: skip
            for _ in range(7):
                self.next()
            return ("n", whole[1] + Fraction(int(top), int(bottom)))
        return None

    def absolute(self) -> tuple:
        opening = self.next()
        closing = {"\\lvert": "\\rvert", "\\lVert": "\\rVert"}.get(opening, opening)
        bars, self.bars = self.bars, self.bars + 1
        tree = self.sum()
        self.bars = bars
        self.expect(closing)
        return ("f", "abs" if opening in ("|", "\\vert", "\\lvert") else "norm", tree)

    def command(self, name: str) -> tuple[tuple, bool]:
        name = _OTHER_NAMES.get(name, _VARIANTS.get(name, name))
        if name == "pi":
            return ("c", "pi"), False
        if name == "infty":
            return ("c", "oo"), False
        if name in _GREEK:
            return ("s", "\\" + name), True
        if name == "frac":
            return self.fraction(), False
        if name == "sqrt":
            return self.root(), False
        if name == "binom":
            return ("f", "binom", self.group("{"), self.group("{")), False
        if name in _FUNCTIONS:
            return self.function(name), False
        if name in _OF_SEVERAL:
            return self.several(name), False
        if name in _PLAIN_STYLES:
            return self.styled()
        if name in _ACCENTS:
            tree = self.accented(name)
            return tree, tree[0] == "s"
        if name in ("angle", "triangle"):
            return ("s", name + self.points()), False
        if name in _BIG:
            return self.big(name), False
        if name == "begin":
            return self.environment(), False
        if name == "mathbb":
            self.expect("{")
            letter = self.next()
            self.expect("}")
            return ("s", "bb" + letter), True
        raise Unreadable(f"what is \\{name}")

    def points(self) -> str:
        name = ""
        while len(self.peek()) == 1 and self.peek().isalpha() or name and self.peek() in ("_", "'"):
            token = self.next()
            name += "_" + self.subscript() if token == "_" else token
        if not name:
            raise Unreadable("an angle of nothing")
        return name

    def fraction(self) -> tuple:
        derivative = self.derivative()
        if derivative:
            return derivative
        top, bottom = self.short_argument(), self.short_argument()
        return ("*", (top, ("^", bottom, MINUS)))

    def short_argument(self) -> tuple:
        r"""A group, or the one sign that LaTeX takes without braces: `\frac12`."""
        if self.peek() == "{":
            return self.group("{")
        if self._starts_numeral() and len(self.peek()) > 1:
            token = self.next()
            self.at -= 1
            self.tokens[self.at] = token[1:]
            return ("n", Fraction(token[0])) if token[0].isdigit() else self.numeral()
        return self.base()[0]

    def derivative(self) -> tuple | None:
        r"""`\frac{dy}{dx}`, `\frac{d^2 y}{d x^2}`, `\frac{\partial f}{\partial x}`: one variable of its own."""
        if self.peek() != "{" or self.peek(1) not in ("d", "\\partial"):
            return None
        before = self.at
        above, below = self._group_text(), self._group_text()
        sign = above[0]
        order, above = _order(above[1:])
        if above and above[0] not in "!+-*/" and below[:1] == [sign] and len(below) > 1:
            power, variable = _order(below[2:]) if below[2:] else (1, [])
            if power == order and not variable:
                return ("s", f"D{sign[0]}{order}:{''.join(above)}:{below[1]}")
        self.at = before
        return None

    def _group_text(self) -> list[str]:
        """The tokens of a group in braces, without its own braces and spaces; none if there is no group."""
        found, depth = [], 0
        while self.peek():
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return found[1:]
            found.append(token)
        return []

    def root(self) -> tuple:
        degree = ("n", Fraction(2))
        if self.peek() == "[":
            degree = self.group("[")
        if self.peek() in ("{", "("):
            radicand = self.group(self.peek())
        else:
            radicand, _ = self.base()
        return ("root", radicand, degree)

    def function(self, name: str) -> tuple:
        power, base = None, None
        while self.peek() in ("^", "_"):
            if self.next() == "^":
                power = self.argument()
            else:
                base = self.argument()
        if self.peek() in ("(", "{", "["):
            inner = self.group(self.peek())
        elif self.peek() in ("-", "+"):
            inner = _with_sign(self.next(), self.term(in_function=True))
        else:
            inner = self.term(in_function=True)
        if power == MINUS and name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"):
            name, power = "arc" + name, None
        if name == "lg":
            name, base = "log", ("n", Fraction(10))
        tree = ("f", name, inner) if base is None else ("f", "logb", inner, base)
        if base is not None and name != "log":
            raise Unreadable(f"{name} with a subscript")
        return tree if power is None else ("^", tree, power)

    def several(self, name: str) -> tuple:
        name += "_" + self.subscript() if self.peek() == "_" and self.next() else ""
        if self.peek() not in ("(", "{", "\\{"):
            return ("o", name, self.factor())
        opening = self.next()
        arguments = [self.sum()]
        while self.peek() == ",":
            self.next()
            arguments.append(self.sum())
        self.expect(_BRACKETS[opening])
        return ("f" if name in ("max", "min", "gcd", "lcm") else "o", name, *arguments)

    def styled(self) -> tuple[tuple, bool]:
        r"""`\mathrm{e}`, `\text{Area}`, `\operatorname{arctan}(2)`."""
        self.expect("{")
        parts = []
        while self.peek() != "}":
            token = self.next()
            if token == "{" or not token:
                raise Unreadable("a group in a word")
            parts.append(token)
        self.next()
        word = "".join(parts).strip().strip("~").strip()
        if word.lstrip("\\") in _NAMES:
            return self.command(word.lstrip("\\"))
        if word.isdigit():
            return ("n", Fraction(word)), False
        if len(word) == 1 and word.isascii() and word.isalpha():
            return self.letter(word), True
        if word.isalpha() and word.isascii():
            return ("s", word), True
        raise Unreadable("words in a formula")

    def accented(self, name: str) -> tuple:
        accent = _ACCENTS[name]
        if accent is None:
            raise Unreadable(f"what is \\{name}")
        if self.peek() == "{":
            self.next()
            parts = []
            while self.peek() != "}":
                if self.peek() in ("{", ""):
                    raise Unreadable("a formula under an accent")
                parts.append(self.next())
            self.next()
        else:
            parts = [self.next()]
        inner = "".join(parts).strip()
        if name in ("mathbf", "boldsymbol", "bm", "underline") and inner.replace(".", "", 1).isdigit() and inner != "0":
            return ("n", Fraction(inner))
        if not inner or len(inner) > 40:
            raise Unreadable("an accent over nothing")
        return ("s", (inner + accent) if accent.startswith("'") else f"{accent}({inner})" if accent else inner)

    def big(self, name: str) -> tuple:
        limits: dict[str, tuple] = {}
        while self.peek() in ("_", "^"):
            place = self.next()
            limits[place] = self.limit() if self.peek() == "{" else self.argument()
        body = self.term() if self.peek() not in ("+", "-") else self.signed_term()
        return ("o", name, limits.get("_", ZERO), limits.get("^", ZERO), body)

    def limit(self) -> tuple:
        self.expect("{")
        sides = [self.sum()]
        relation = ""
        while self.peek() in ("=", "\\to", "\\rightarrow", "\\le", "\\leq", "<", ",", "\\in"):
            relation += self.next()
            sides.append(self.sum())
        self.expect("}")
        return sides[0] if len(sides) == 1 else ("o", relation, *sides)

    def environment(self) -> tuple:
        kind = self._braced_word()
        if kind not in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "array", "smallmatrix"):
            raise Unreadable(f"what is {kind}")
        if kind == "array":
            self._braced_word()
        rows, cells = [], []
        while True:
            cells.append(self.sum())
            token = self.next()
            if token == "&":
                continue
            if token == "\\\\":
                rows.append(tuple(cells))
                cells = []
                while self.peek() in ("\\\\", "\\hline"):
                    self.next()
                if self.peek() != "\\end":
                    continue
                token = self.next()
            if token != "\\end" or self._braced_word() != kind:
                raise Unreadable("a matrix without an end")
            if cells:
                rows.append(tuple(cells))
            if len({len(row) for row in rows}) != 1:
                raise Unreadable("rows of different lengths")
            return ("m", tuple(rows))

    def _braced_word(self) -> str:
        self.expect("{")
        parts = []
        while self.peek() != "}":
            parts.append(self.next())
        self.next()
        return "".join(parts)


def _order(found: list[str]) -> tuple[int, list[str]]:
    """The exponent that a derivative's tokens begin with, 1 if with none, and the tokens behind it."""
    if found[:1] != ["^"]:
        return 1, found
    rest = found[2:4] if found[1:2] == ["{"] else found[1:2]
    digits = rest[0] if rest else ""
    return (int(digits) if digits.isdigit() and len(digits) == 1 else 0), found[4 if len(rest) > 1 else 2 :]


def _with_sign(sign: str, tree: tuple) -> tuple:
    if sign == "+":
        return tree
    if sign == "-":
        return ("n", -tree[1]) if tree[0] == "n" else ("*", (MINUS, tree))
    return ("*", ((MINUS, PLUS_MINUS, tree) if sign == "\\mp" else (PLUS_MINUS, tree)))
