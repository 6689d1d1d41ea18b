r"""Products of two numbers of equally many digits, 1 to 4, and traces that reach them in the head or with a tool.

A tiny model knows the short ones by heart and can learn to write the call. The long ones it cannot work out.
"""

import json
import random
from dataclasses import dataclass

MOST_DIGITS = 4
CALLS = 0.3  # share of traces that call the tool


@dataclass(frozen=True)
class Product:
    first: int
    second: int

    @property
    def digits(self) -> int:
        """Of each factor."""
        return len(str(self.first))

    @property
    def text(self) -> str:
        return f"What is {self.first} * {self.second}?"

    @property
    def answer(self) -> str:
        return str(self.first * self.second)

    def row(self) -> dict:
        """As a problem set has it. `datasource`: what evaluations tell accuracies apart by."""
        source = f"{self.digits}-digit"
        return {"problem": self.text, "answer": self.answer, "digits": self.digits, "datasource": source}


def write_product(rng: random.Random, digits: int) -> Product:
    low, high = 10 ** (digits - 1), 10**digits - 1
    return Product(rng.randint(low, high), rng.randint(low, high))


def products(count: int, rng: random.Random, apart_from: set[str] = frozenset()) -> list[Product]:
    """`count` products, as many of each number of digits. Those of two digits and more are not in `apart_from` (texts);
    of one digit there are only 81, which everybody knows."""
    made: list[Product] = []
    while len(made) < count:
        one = write_product(rng, 1 + len(made) % MOST_DIGITS)
        if one.digits == 1 or one.text not in apart_from:
            made.append(one)
    return made


def conversation(product: Product, rng: random.Random) -> list[dict[str, str]]:
    """Messages: the question and the answer, in CALLS of all cases with a call and its reply between them.

    The call and the reply are written as Qwen's and Hermes' chat templates write them.
    """
    said = [{"role": "user", "content": product.text}]
    if rng.random() < CALLS:
        call = {"name": "python", "arguments": {"code": f"print({product.first}*{product.second})"}}
        said += [
            {"role": "assistant", "content": f"<tool_call>\n{json.dumps(call)}\n</tool_call>"},
            {"role": "user", "content": f"<tool_response>\n{product.answer}\n</tool_response>"},
        ]
    return [*said, {"role": "assistant", "content": f"The answer is \\boxed{{{product.answer}}}."}]
