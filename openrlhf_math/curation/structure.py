r"""Lexemes into the tokens that are compared; roots, exponents, fractions and brackets keep their extent."""

from dataclasses import dataclass, field

from openrlhf_math.curation.lexemes import FUNCTIONS, NO_WORDS, SYMBOL_WORDS, Lexeme

# Behind the variable `a` (not the article) comes one of these, or no word at all.
_AFTER_VARIABLE = frozenset(
    "and or is are be in if such for when where as to with satisfy satisfies equals so that has have from by on then "
    "will "
    "given must was were represents denotes divides does can at over not we".split()
)
_AMOUNTS = frozenset(
    "hundred thousand million billion one two three four five six seven eight nine ten eleven twelve fifteen twenty "
    "thirty forty fifty sixty seventy eighty ninety".split()
)
_ORDINAL_ENDINGS = frozenset(("st", "nd", "rd", "th"))
_OPENS = frozenset("([{|,\n<+*/=>^-!'")  # in front of a minus these make it a sign

_DROPPED = frozenset(("the", "an", "please"))
_CURRENCY = frozenset(("dollar", "dollars", "usd"))
LETTER_UNITS = {"m": "meters", "l": "liters", "g": "grams", "h": "hours", "s": "seconds"}


@dataclass(slots=True)
class _Group:
    """An open group. start: of its bracket in the output. What it holds so far: tokens, sums, commas, words,
    factors."""

    kind: str
    start: int
    before: str = ""
    count: int = 0
    sums: bool = False
    commas: bool = False
    words: bool = False
    factors: int = 0
    last: str = ""
    want: list[str] = field(default_factory=list)
    fraction: tuple[int, int] = (-1, -1)
    bound: bool = False  # the fraction is the argument of a function


class Structure:
    """Lexemes into tokens: one pass with a stack, linear in their number, whatever the nesting."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.stack = [_Group("text", -1)]

    def read(self, lexemes: list[Lexeme]) -> list[str]:
        self.lexemes = lexemes
        for self.at, one in enumerate(lexemes):
            self._take(one)
        while len(self.stack) > 1:
            self._close("")
        return [token for token in self.out if token]

    def _take(self, one: Lexeme) -> None:
        text, top = one.text, self.stack[-1]
        if one.kind == "sign":
            if text in "$\n":
                return
            if text == "{" or text in "([" and (text == "(" or not (top.want and top.want[0] in ("num", "den"))):
                self._open(text)
            elif text in "})]":
                self._close(text)
            elif text == ",":
                top.commas = True
            elif text == "-":
                if self._is_minus():
                    self._operator("-")
            elif text == "!":
                if one.close and self._is_term(self.at - 1) and not self._is_word(self.at + 1, close=True):
                    self._wrap_fraction()
                    self._emit("!")
            elif text == "_":
                if (
                    one.close
                    and (self._is_term(self.at - 1) or self.lexemes[self.at - 1].text in FUNCTIONS)
                    and self.at + 1 < len(self.lexemes)
                    and (self.lexemes[self.at + 1].close)
                ):
                    top.want = ["_"]
            elif text == "*":
                if self._is_term(self.at - 1) and not self._is_word(self.at + 1, close=False):
                    self._emit("*")
            elif text == "^":
                self._wrap_fraction()
                if self._next() == "degrees":
                    return
                if self._next() in _ORDINAL_ENDINGS:
                    top.want = ["{"]
                    return
                self._emit("^")
                top.want = ["^"]
            elif text in ("+", "=", "<", ">", "<=", ">=", "!="):
                self._operator(text)
            elif text == "'":
                self._emit("'")
            else:
                self._emit(text)
        elif one.kind == "number":
            self._number(text)
        elif text == "frac":
            self._before_argument()
            top.want = ["num", "den"]
            top.fraction, top.bound = (len(self.out), -1), top.last in FUNCTIONS
        elif text == "binom" and one.kind == "function":
            self._before_argument()
            top.want = ["top", "bottom"]
        elif text == "choose" and (one.kind == "function" or self._between_numbers()):
            self._emit("binom")
        elif text in ("sqrt", "cbrt", "overline") and one.kind == "function" or text == "sqrt":
            self._before_argument()
            self._emit(text)
            top.want = ["root"]
        elif one.kind == "word" and self._is_article(one) or text in _DROPPED or text in _CURRENCY and self._is_price():
            return
        elif one.text in LETTER_UNITS and self._is_unit(one):
            self._term(LETTER_UNITS[one.text], True)
        elif text in _ORDINAL_ENDINGS and self._raised() and (place := self._last_place()) >= 0:
            self.out[place] += text
        else:
            self._term(text, len(text) > 1 and text not in FUNCTIONS and text not in NO_WORDS)

    # Groups

    def _open(self, bracket: str) -> None:
        top = self.stack[-1]
        kind = top.want.pop(0) if top.want and (bracket != "[" or top.want[0] != "_") else bracket
        if bracket == "[" and kind == "root":  # the degree of a root
            top.want = ["root"]
            kind = "["
        if kind == "den":
            self._emit("/")
        if kind == "bottom":
            self._emit("binom")
        self.stack.append(_Group(kind, len(self.out), top.last))
        self.out.append("[" if kind == "[" else "(")

    def _close(self, bracket: str) -> None:
        if len(self.stack) == 1 or bracket == "}" and self.stack[-1].kind in ("(", "[") and not self._has_brace():
            return
        group = self.stack.pop()
        top = self.stack[-1]
        if group.kind == "^" and group.count == 1 and group.last == "degrees":
            self.out[group.start] = ""
            self.out[group.start - 1] = ""
            top.last = "degrees"
            return
        keep = bool(bracket) and self._keeps(group)
        if keep:
            self.out.append("]" if bracket == "]" else ")")
            if not self._is_factor_of(group.before):
                top.factors += 1
            top.count += group.count + 2
            top.last = ")"
        else:
            self.out[group.start] = ""
            top.count += group.count
            if group.kind in ("{", "(", "["):
                top.sums |= group.sums
                top.commas |= group.commas
            top.factors += 0 if self._is_factor_of(group.before) else group.factors
            top.last = group.last or top.last
        top.words |= group.words
        if group.kind == "num" and top.want[:1] != ["den"]:
            top.want = ["den"]
        if group.kind == "den":
            self._after_argument("den")

    def _has_brace(self) -> bool:
        return any(group.kind not in ("(", "[", "text") for group in self.stack[-3:])

    def _keeps(self, group: _Group) -> bool:
        """Whether the parentheses of a group change what it means."""
        if group.count <= 1 or group.kind == "{" or group.words and group.kind in ("(", "[", "{", "^", "_"):
            return False
        if group.kind in ("root", "_"):
            return True
        if group.kind == "^":
            return not (group.count == 2 and self.out[group.start + 1] == "-")
        if group.kind in ("num", "top"):
            return group.sums and not self._only_signed(group)
        if group.kind in ("den", "bottom"):
            return group.sums or group.factors > 1
        if group.commas or group.sums or group.last == "(":
            return not self._is_doubled(group)
        after = self._next()
        if after == "/":
            return False
        before = group.before
        return (
            before in ("/", "^") or len(before) == 1 and before.isalpha() or before in FUNCTIONS or after in ("^", "!")
        )

    def _only_signed(self, group: _Group) -> bool:
        inside = [token for token in self.out[group.start + 1 : group.start + 4] if token]
        return group.count <= 3 and inside[:1] == ["-"] and group.factors == 1

    def _is_doubled(self, group: _Group) -> bool:
        """`((x+1))`: the inner parentheses are the whole of the outer."""
        inside = next(
            (place for place in range(group.start + 1, min(group.start + 4, len(self.out))) if self.out[place]), -1
        )
        return inside >= 0 and self.out[inside] == "(" and group.factors == 1 and self.out[-1] == ")" and not group.sums

    def _is_factor_of(self, before: str) -> bool:
        """What follows a power sign, a function or `f` belongs to the factor that has begun."""
        return before == "^" or before in FUNCTIONS or before in ("f", "g", "h")

    def _wrap_fraction(self) -> None:
        """`\\frac{1}{2}^2`: the fraction is one thing."""
        begin, end = self.stack[-1].fraction
        if begin >= 0 and end == len(self.out):
            self.out.insert(begin, "(")
            self.out.append(")")
            self.stack[-1].fraction = (-1, -1)

    # Terms

    def _emit(self, token: str) -> None:
        top = self.stack[-1]
        self.out.append(token)
        top.count += 1
        top.last = token

    def _operator(self, token: str) -> None:
        top = self.stack[-1]
        if not (top.want and token == "-"):
            top.sums = True
            top.want = []
        self._emit(token)

    def _before_argument(self) -> str:
        """What a term or a command, as in `\\frac\\pi2` and `2^\\sqrt2`, is the argument of; "" for nothing."""
        top = self.stack[-1]
        kind = top.want.pop(0) if top.want else ""
        if kind in ("den", "bottom"):
            self._emit("/" if kind == "den" else "binom")
        return kind

    def _after_argument(self, kind: str) -> None:
        if kind == "den":
            top = self.stack[-1]
            top.fraction = (top.fraction[0], len(self.out))
            if top.bound:
                top.bound = False
                self._wrap_fraction()

    def _number(self, text: str) -> None:
        want = self.stack[-1].want
        if want[:1] == ["num"] and len(text) == 2 and text.isdigit():  # \frac12
            self._term(text[0], False)
            self._term(text[1], False)
        elif (
            want[:1] == ["den"]
            and len(text) > 1
            and text.isdigit()
            and self.lexemes[self.at].close
            and (self.lexemes[self.at - 1].text == "}")
        ):
            self._term(text[0], False)  # \frac{1}23 is 1/2 times 3
            self._term(text[1:], False)
        else:
            self._term(text, False)

    def _term(self, text: str, word: bool) -> None:
        kind = self._before_argument()
        top = self.stack[-1]
        if not self._is_factor_of(top.last):
            top.factors += 1
        top.words |= word
        self._emit(text)
        self._after_argument(kind)

    def _last_place(self) -> int:
        return next(
            (place for place in range(len(self.out) - 1, max(len(self.out) - 4, -1), -1) if self.out[place].isalnum()),
            -1,
        )

    # Looking around

    def _raised(self) -> bool:
        """Whether this follows a power sign, and perhaps a brace."""
        return any(self.lexemes[place].text == "^" for place in range(max(self.at - 4, 0), self.at))

    def _next(self) -> str:
        after = self.at + 1
        while after < len(self.lexemes) and self.lexemes[after].text in ("$", "{", "\n") and after < self.at + 3:
            after += 1
        return self.lexemes[after].text if after < len(self.lexemes) else ""

    def _is_term(self, index: int) -> bool:
        if not 0 <= index < len(self.lexemes):
            return False
        one = self.lexemes[index]
        if one.kind == "sign":
            return one.text in ")]}|!'" or one.text == "$"
        return (
            one.kind == "number"
            or len(one.text) == 1
            or one.text in ("degrees", "percent")
            or one.kind == "function"
            or one.text in SYMBOL_WORDS
        )

    def _is_word(self, index: int, close: bool) -> bool:
        if not 0 <= index < len(self.lexemes):
            return False
        one = self.lexemes[index]
        plain = one.kind == "word" and len(one.text) > 1 and one.text not in SYMBOL_WORDS
        return plain and (one.close or not close)

    def _is_minus(self) -> bool:
        """A minus joins two terms, or is the sign of one; a hyphen joins words, a dash sentences."""
        at, lexemes = self.at, self.lexemes
        here = lexemes[at]
        after = lexemes[at + 1] if at + 1 < len(lexemes) else None
        before = lexemes[at - 1] if at else None
        tight = after is not None and after.close
        if after is None or self._is_word(at + 1, close=False):
            return False  # `9-kilometer`, `So - at last`
        starts = after.kind != "sign" or after.text in "([{|$+-"
        if not starts:
            return False
        if before is None or before.text == "\n":
            return tight  # else the mark of a list
        if before.kind == "sign" and before.text == "$":
            return before.written == "open" or tight or not self._is_word(at + 1, close=False)
        if before.kind == "sign" and before.text in _OPENS | {"<=", ">=", "!=", "..."} and before.text not in "|!'":
            return True
        if self._is_term(at - 1):
            return True
        return tight and not here.close  # `is -3`, not `COVID-19`

    def _between_numbers(self) -> bool:
        return self._is_term(self.at - 1) and self._is_term(self.at + 1)

    def _is_price(self) -> bool:
        """Whether a currency is that of a number, as in `5 dollars`, `USD 5` and `$5`, of which all are one."""
        around = (self.lexemes[place] for place in range(max(self.at - 2, 0), self.at + 3) if place < len(self.lexemes))
        return any(one.kind == "number" or one.text in _AMOUNTS for one in around)

    def _is_unit(self, one: Lexeme) -> bool:
        """`3 m long`, `$60$ L of water`: a letter behind a number and a space, and not in a formula."""
        at, lexemes = self.at, self.lexemes
        before = at - 1
        while before > 0 and lexemes[before].text == "$" and lexemes[before].written == "close":
            before -= 1
        if one.close or before < 0 or lexemes[before].kind != "number" or lexemes[at - 1].written == "open":
            return False
        after = lexemes[at + 1] if at + 1 < len(lexemes) else None
        return (
            after is None
            or after.kind in ("word", "number")
            and len(after.text) > 1
            or (after.kind == "number" or after.text == "$" and after.written == "open" or after.text == ",")
        )

    def _is_article(self, one: Lexeme) -> bool:
        if one.text != "a" or one.written not in ("a", "A") or one.kind != "word":
            return False
        before = self.lexemes[self.at - 1] if self.at else None
        after = self.lexemes[self.at + 1] if self.at + 1 < len(self.lexemes) else None
        if (
            after is None
            or one.close
            and (before is None or before.text != "$")
            or after.close
            and after.kind != "word"
            and after.text != "$"
        ):
            return False
        if after.text == "$":  # prices count the dollars wrong: `a $4 gift`
            price = self.at + 2 < len(self.lexemes) and self.lexemes[self.at + 2].kind == "number"
            return after.written == "open" or price
        if after.kind == "word":
            return len(after.text) > 1 and after.text not in _AFTER_VARIABLE or len(after.text) == 1 and not after.close
        return after.kind == "number"
