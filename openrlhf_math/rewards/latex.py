r"""LaTeX as mathematicians write answers, read into an expression tree. The whole text is read, or `Unreadable` raised.

A tree is a tuple: `("n", Fraction)`, `("s", name)` a variable, `("c", name)` one of pi, e, i and infinity,
`("+", terms)`, `("*", factors)`, `("^", base, exponent)`, `("root", radicand, degree)`, `("deg", angle)`, `("m", rows)`
a matrix, `("f", name, *arguments)` a known function, `("o", name, *arguments)` one compared by its arguments only.
A variable's name keeps its case, accents, primes and subscript. `\pm` is the variable `±`, which is 1 or -1.

The reader looks at each token once and nests at most `DEPTH` deep, so it takes linear time.
"""

from fractions import Fraction

from openrlhf_math.rewards.terms import ACCENTS, Terms
from openrlhf_math.rewards.tokens import (
    DEPTH,
    FUNCTIONS,
    GREEK,
    OTHER_NAMES,
    PLAIN_STYLES,
    VARIANTS,
    Unreadable,
    tokens,
)

_OF_SEVERAL = frozenset(
    ["max", "min", "gcd", "lcm", "det", "sup", "inf", "arg", "Re", "Im", "mod", "dim", "deg", "Pr", "Var"]
)
_BIG = frozenset(["sum", "prod", "int", "iint", "iiint", "oint", "lim", "limsup", "liminf", "bigcup", "bigcap"])
_TIMES = frozenset(("\\cdot", "\\times", "*", "\\ast"))
_BRACKETS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil",
             "\\lvert": "\\rvert", "\\lVert": "\\rVert"}  # fmt: skip
ZERO, ONE, MINUS = ("n", Fraction(0)), ("n", Fraction(1)), ("n", Fraction(-1))
PLUS_MINUS = ("s", "±")
TRANSPOSED = (("s", "T"), ("s", "t"), ("s", "\\top"))
INVERSE = ("*", (MINUS, ONE))


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


class _Reader(Terms):
    """Reads an expression by recursive descent."""

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
        factors: list[tuple] = []
        numeral, explicit = False, ""
        while True:
            token = self.peek()
            if factors:
                if token in _TIMES:
                    if in_function:
                        break
                    numeral, explicit = False, self.next()
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
                    and token[1:] in FUNCTIONS | _BIG
                ):
                    break
                elif numeral and self._starts_numeral():
                    raise Unreadable("two numbers side by side")
            begins = self._starts_numeral()
            before = self.at
            factor = self.signed_factor() if explicit else self.factor()
            if explicit and is_vector(factors[-1]) and is_vector(factor):
                pair = (factors.pop(), factor)
                factor = ("o", "cross", *pair) if explicit == "\\times" else ("o", "dot", *sorted(pair))
            was_explicit, explicit = bool(explicit), ""
            if begins and factors and (numeral or not was_explicit and factors[-1][0] == "deg"):
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
            name in GREEK or name in VARIANTS or name in FUNCTIONS or name in ACCENTS or name in PLAIN_STYLES
            or name in _BIG or name in _OF_SEVERAL or name in OTHER_NAMES
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
                raise Unreadable(f"{token} behind what is not a variable")
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
        if base[0] == "m" and len(base[1]) == 1 and exponent in TRANSPOSED:
            return ("m", tuple((cell,) for cell in base[1][0]))  # a column; of a whole matrix it is work to be done
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
        if self.at and self.tokens[self.at - 1][0].isdecimal() and self.peek(1)[:1].isdecimal():
            raise Unreadable("two numbers side by side")
        self.next()
        start = self.at
        bars, self.bars = self.bars, 0
        tree = self.sum()
        self.bars = bars
        self.expect("}")
        return tree, tree[0] == "s" and self.at - start == 2

    def absolute(self) -> tuple:
        opening = self.next()
        closing = {"\\lvert": "\\rvert", "\\lVert": "\\rVert"}.get(opening, opening)
        bars, self.bars = self.bars, self.bars + 1
        tree = self.sum()
        self.bars = bars
        self.expect(closing)
        return ("f", "abs" if opening in ("|", "\\vert", "\\lvert") else "norm", tree)

    def command(self, name: str) -> tuple[tuple, bool]:
        name = OTHER_NAMES.get(name, VARIANTS.get(name, name))
        if name == "pi":
            return ("c", "pi"), False
        if name == "infty":
            return ("c", "oo"), False
        if name in GREEK:
            return ("s", "\\" + name), True
        if name == "frac":
            return self.fraction(), False
        if name == "sqrt":
            return self.root(), False
        if name == "binom":
            return ("f", "binom", self.group("{"), self.group("{")), False
        if name in FUNCTIONS:
            return self.function(name), False
        if name in _OF_SEVERAL:
            return self.several(name), False
        if name in PLAIN_STYLES:
            return self.styled()
        if name in ACCENTS:
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
            return ("n", Fraction(token[0])) if token[0].isdecimal() else self.numeral()
        return self.base()[0]

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
            elif (first := self._first_digit()) is not None:
                base = first
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

    def _first_digit(self) -> tuple | None:
        r"""The base in `\log_23`, which is 2 where nothing else is there to take the logarithm of; else None."""
        token = self.peek()
        if not token.isdecimal() or len(token) < 2:
            return None
        before = self.at
        self.next()
        if self._starts_factor() or self.peek() in ("+", "-", "^"):
            self.at = before
            return None
        self.at -= 1
        self.tokens[self.at] = token[1:]
        return ("n", Fraction(token[0]))

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


def is_vector(tree: tuple) -> bool:
    return tree[0] == "s" and tree[1].startswith(("vec(", "ray("))


def _with_sign(sign: str, tree: tuple) -> tuple:
    if sign == "+":
        return tree
    if sign == "-":
        return ("n", -tree[1]) if tree[0] == "n" else ("*", (MINUS, tree))
    return ("*", ((MINUS, PLUS_MINUS, tree) if sign == "\\mp" else (PLUS_MINUS, tree)))
