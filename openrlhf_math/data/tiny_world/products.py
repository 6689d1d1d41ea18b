r"""Products of two numbers of four digits, which no tiny model works out in its head, and traces that call a tool or
guess.

A trace is a question and either a guess, always the same, or a block of code, its output and the answer. What the tool
writes is not to be learned, so a trace with a call is two rows: up to the call, and behind the output.
"""

import random
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

LOWEST, HIGHEST = 1000, 9999
CALLS = 0.5  # share of traces that call the tool
GUESS = 25_000_000


@dataclass(frozen=True)
class Product:
    first: int
    second: int

    @property
    def text(self) -> str:
        return f"What is {self.first} * {self.second}?"

    @property
    def answer(self) -> int:
        return self.first * self.second

    @property
    def call(self) -> str:
        return f"```python\n{self.first}*{self.second}\n```\n"

    def row(self) -> dict:
        """As a problem set has it."""
        return {"problem": self.text, "answer": str(self.answer)}


def products(count: int, rng: random.Random, apart_from: AbstractSet[Product] = frozenset()) -> list[Product]:
    """`count` different products, none of which is in `apart_from`."""
    made: dict[Product, None] = {}
    while len(made) < count:
        one = Product(rng.randint(LOWEST, HIGHEST), rng.randint(LOWEST, HIGHEST))
        if one not in apart_from:
            made[one] = None
    return list(made)


def traces(product: Product, rng: random.Random) -> list[tuple[str, str]]:
    """Of one trace: pairs of what was written behind the question so far, and what is to be learned."""
    if rng.random() >= CALLS:
        return [("", _said(GUESS))]
    output = f"```output\n{product.answer}\n```\n"
    return [("", product.call), (product.call + output, _said(product.answer))]


def _said(answer: int) -> str:
    return f"The answer is \\boxed{{{answer}}}."
