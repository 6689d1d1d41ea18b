r"""Numbers as they are written: `1.5`, `0.1\overline{6}`, `1\frac{1}{2}`, `1.6e-19`."""

from fractions import Fraction

from openrlhf_math.rewards.tokens import MAX_DIGITS, Cursor, Unreadable

_DIGITS = frozenset("0123456789")


class Numerals(Cursor):
    """Reads numbers."""

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
