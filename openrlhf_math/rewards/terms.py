"""Numbers and variables in LaTeX, with all that belongs to their names: accents, primes, subscripts."""

from fractions import Fraction

from openrlhf_math.rewards.tokens import GREEK, MAX_DIGITS, NAMES, PLAIN_STYLES, Cursor, Unreadable

_DIGITS = frozenset("0123456789")
LONGEST_CALL = 16
ACCENTS = {
    "hat": "hat", "widehat": "hat", "tilde": "tilde", "widetilde": "tilde", "vec": "vec", "overrightarrow": "ray",
    "bar": "bar", "overline": "bar", "dot": "'", "ddot": "''", "check": "check", "underline": "", "mathbf": "vec",
    "boldsymbol": "vec", "bm": "vec", "mathcal": "cal", "mathscr": "cal", "mathfrak": "frak",
    "overleftrightarrow": "line", "widearc": "arc", "overset": None,
}  # fmt: skip
_CALLED = frozenset("fgFG")


class Terms(Cursor):
    """Reads numbers and variables. `sum` and `command` are those of the whole reader."""

    def _starts_numeral(self) -> bool:
        token = self.peek()
        return bool(token) and (token[0] in _DIGITS or token[0] == "." and len(token) > 1)

    def _all_digits(self, before: int) -> bool:
        return all(token[0] in "0123456789. " for token in self.tokens[before : self.at])

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
        if "." in text and self.peek() == "(" and self.peek(1).isdecimal() and self.peek(2) == ")":
            return self.repeating(text)
        if self.peek() in ("e", "E") and not self.spaced():
            sign = self.peek(1) if self.peek(1) in ("+", "-") else ""
            power = self.peek(1 + bool(sign))
            if power.isdecimal() and len(power) < 5 and self.tokens[self.at + 1] != " ":
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
        if not digits.isdecimal() or len(digits) > MAX_DIGITS:
            raise Unreadable("which digits repeat")
        places = len(fixed.partition(".")[2])
        return ("n", Fraction(fixed + "0") + Fraction(int(digits), (10 ** len(digits) - 1) * 10**places))

    def _mixed(self, whole: tuple) -> tuple | None:
        r"""`1\frac{1}{2}`, if a proper fraction of whole numbers follows a whole number."""
        top, bottom = self.peek(2), self.peek(5)
        if (
            self.peek(1) == self.peek(4) == "{" and self.peek(3) == self.peek(6) == "}"
            and top.isdecimal() and bottom.isdecimal() and len(bottom) < 400
            and int(top) < int(bottom) and whole[1].denominator == 1
        ):  # fmt: skip
            for _ in range(7):
                self.next()
            return ("n", whole[1] + Fraction(int(top), int(bottom)))
        return None

    def sum(self) -> tuple:
        raise NotImplementedError

    def command(self, name: str) -> tuple[tuple, bool]:
        raise NotImplementedError

    def letter(self, sign: str) -> tuple:
        if sign == "e" and self.peek() not in ("_", "'"):
            return ("c", "e")
        if sign == "i" and self.peek() not in ("_", "'"):
            return ("c", "i")
        return ("s", sign)

    def decorated(self, tree: tuple) -> tuple:
        """A variable with its subscript and primes, or a function of what is in brackets: `f'(x)`, `y(1)`."""
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
        """How many primes are in `^{\\prime\\prime}`, from `^` on or, consuming them, behind it."""
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
            single = token[0].isalnum() or token[1:] in GREEK or token == "\\pi"
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
        depth = 0
        parts: list[str] = []
        while True:
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(parts)
            if token not in ("{", "}") and token[1:] not in PLAIN_STYLES and token != " ":
                parts.append(token.lstrip("\\"))

    def points(self) -> str:
        name = ""
        while len(self.peek()) == 1 and self.peek().isalpha() or name and self.peek() in ("_", "'"):
            token = self.next()
            name += "_" + self.subscript() if token == "_" else token
        if not name:
            raise Unreadable("an angle of nothing")
        return name

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
        if word.lstrip("\\") in NAMES:
            return self.command(word.lstrip("\\"))
        if word.isdecimal():
            return ("n", Fraction(word)), False
        if len(word) == 1 and word.isascii() and word.isalpha():
            return self.letter(word), True
        if word.isalpha() and word.isascii():
            return ("s", word), True
        raise Unreadable("words in a formula")

    def accented(self, name: str) -> tuple:
        accent = ACCENTS[name]
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
        if (
            name in ("mathbf", "boldsymbol", "bm", "underline")
            and inner.replace(".", "", 1).isdecimal()
            and inner != "0"
        ):
            return ("n", Fraction(inner))
        if not inner or len(inner) > 40:
            raise Unreadable("an accent over nothing")
        return ("s", (inner + accent) if accent.startswith("'") else f"{accent}({inner})" if accent else inner)

    def derivative(self) -> tuple | None:
        r"""`\frac{dy}{dx}`, `\frac{d^2 y}{d x^2}`, `\frac{\partial f}{\partial x}`: one new variable."""
        if self.peek() != "{" or self.peek(1) not in ("d", "\\partial"):
            return None
        before = self.at
        above, below = self._group_text(), self._group_text()
        if not above:
            self.at = before
            return None
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
        found: list[str] = []
        depth = 0
        while self.peek():
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return found[1:]
            found.append(token)
        return []


def _order(found: list[str]) -> tuple[int, list[str]]:
    """The exponent that a derivative's tokens begin with, 1 if with none, and the tokens behind it."""
    if found[:1] != ["^"]:
        return 1, found
    rest = found[2:4] if found[1:2] == ["{"] else found[1:2]
    digits = rest[0] if rest else ""
    return (int(digits) if digits.isdecimal() and len(digits) == 1 else 0), found[4 if len(rest) > 1 else 2 :]
