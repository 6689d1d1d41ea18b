"""Conditions on rows, such as `reward<0.2 and truncated`: read by their own parser, never run as code.

    condition   = all {"or" all};  all = not {"and" not};  not = "not" not | comparison | "(" condition ")"
    comparison  = column [operator value]
    operator    = < <= > >= = == != contains
    value       = number | 'text' | "text" | true | false | none

A column alone is a switch. A comparison with a missing value is false, but for `= none` and `!= none`.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from openrlhf_math.errors import UserError
from openrlhf_math.former_names import outcome

Row = Mapping[str, Any]
Condition = Callable[[Row], bool]

LONGEST, DEEPEST = 2000, 50  # characters, brackets and `not` within each other
TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][\w./-]*)|(?P<number>[+-]?\d[\d_]*(?:\.\d*)?(?:e[+-]?\d+)?|[+-]?\.\d+)"""
    r"""|(?P<text>'[^']*'|"[^"]*")|(?P<sign><=|>=|==|!=|[<>=()]))""",
    re.IGNORECASE,
)
ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
EQUAL = {"=": operator.eq, "==": operator.eq, "!=": operator.ne}
CONSTANTS = {"true": True, "false": False, "none": None}
WORDS = ("and", "or", "not", "contains", *CONSTANTS)
KINDS = {"number": "a number", "text": "text in quotes", "switch": "true or false"}


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


def read_condition(text: str, columns: Mapping[str, str]) -> Condition:
    """A condition on rows. columns: those a row has, each of kind "number", "text" or "switch".

    Raises UserError for what is not a condition, an unknown column, or a value of another kind.
    """
    return _Reader(text, columns).read()


class _Reader:
    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self.text, self.columns = text, columns
        if len(text) > LONGEST:
            raise UserError(f"--where: the condition has more than {LONGEST:,} characters; shorten it")
        self.tokens = self._tokens()
        self.at = self.depth = 0

    def read(self) -> Condition:
        found = self._any()
        if self.at < len(self.tokens):
            self._fail(f"{self.tokens[self.at].text!r} is not expected there; join comparisons with and, or, not")
        return found

    def _tokens(self) -> list[Token]:
        tokens, at, end = [], 0, len(self.text.rstrip())
        while at < end:
            match = TOKEN.match(self.text, at)
            if not match:
                self._fail(f"{self.text[at:].strip()[:20]!r} cannot be read")
            kind, word = str(match.lastgroup), match[0].lstrip()
            kind = "word" if kind == "name" and word.lower() in WORDS else kind
            tokens.append(Token(kind, word.lower() if kind == "word" else word))
            at = match.end()
        return tokens

    def _fail(self, why: str) -> NoReturn:
        raise UserError(f"--where {self.text!r:.200}: {why}")

    def _next(self) -> Token:
        if self.at == len(self.tokens):
            self._fail("it ends where a column, a value or a bracket is missing")
        self.at += 1
        return self.tokens[self.at - 1]

    def _take(self, *texts: str) -> str | None:
        """The next token, if it is one of these and no text in quotes."""
        if self.at < len(self.tokens) and (found := self.tokens[self.at]).text in texts and found.kind != "text":
            self.at += 1
            return found.text
        return None

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _all(self) -> Condition:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _not(self) -> Condition:
        if not (sign := self._take("not", "(")):
            return self._comparison()
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(f"more than {DEEPEST} brackets and `not` are within each other")
        found = self._not() if sign == "not" else self._any()
        if sign == "(" and not self._take(")"):
            self._fail("a bracket is not closed")
        self.depth -= 1
        return (lambda row: not found(row)) if sign == "not" else found

    def _comparison(self) -> Condition:
        token = self._next()
        if token.kind != "name":
            self._fail(f"{token.text!r} is not a column; a comparison begins with one ({self._known()})")
        name = token.text
        if name not in self.columns:
            self._fail(f"there is no column {name}, only {self._known()}")
        kind = self.columns[name]
        sign = self._take(*ORDER, *EQUAL, "contains")
        if not sign:
            if kind != "switch":
                self._fail(
                    f"{name} is not a boolean; compare it, as in `{name} {'> 0' if kind == 'number' else '= none'}`"
                )
            return lambda row: bool(row[name])
        value = self._value(self._next())
        value = outcome(value) if name == "outcome" else value
        if value is None:
            if sign not in EQUAL:
                self._fail(f"`{sign} none` says nothing; use = or !=")
            return lambda row: EQUAL[sign](row[name] is None, True)
        given = "switch" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        if given != kind or (sign in ORDER and kind == "switch") or (sign == "contains" and kind != "text"):
            fits = f"it is {KINDS[kind]}, and {sign} {value!r:.40} does not fit"
            self._fail(f"{name}: {fits}")
        if sign == "contains":
            return lambda row: row[name] is not None and value in row[name]
        compare = (ORDER | EQUAL)[sign]
        return lambda row: not _missing(row[name]) and compare(row[name], value)

    def _value(self, token: Token) -> float | str | bool | None:
        if token.kind == "number":
            return float(token.text.replace("_", ""))
        if token.kind == "text":
            return token.text[1:-1]
        if token.kind == "word" and token.text in CONSTANTS:
            return CONSTANTS[token.text]
        hint = "; put text in quotes" if token.kind == "name" else ""
        return self._fail(f"{token.text!r} is not a value{hint}")

    def _known(self) -> str:
        return ", ".join(self.columns)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
