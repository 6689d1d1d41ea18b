"""Benchmarks: problem sets known by name, with how each is usually sampled.

A benchmark is a function without arguments that gives its rows (`data.schema.Row`); those on the hub share their
declaration, columns, split and licence with the sources of `curate`. One's own is given by dotted path,
`package.module.function`, with the decorator if it is to have defaults of its own.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from openrlhf_math.data.columns import Columns
from openrlhf_math.data.hub import give_up_soon_without_network
from openrlhf_math.data.problems import read_set
from openrlhf_math.data.schema import Row
from openrlhf_math.data.sources import SOURCES, Source
from openrlhf_math.errors import UserError
from openrlhf_math.registry import Registry


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a benchmark's problems are sampled. Raises ValueError for values that cannot work.

    samples        completions a problem
    max_tokens     token limit of one completion
    temperature    0 is greedy
    top_p          nucleus sampling
    """

    samples: int = 1
    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for flag in ("samples", "max_tokens"):
            if getattr(self, flag) < 1:
                raise ValueError(f"--{flag.replace('_', '-')} {getattr(self, flag)}: give 1 or more")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"--temperature {self.temperature}: give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p {self.top_p}: give more than 0 and at most 1")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"--samples {self.samples}: greedy decoding gives the same completion every time; "
                "add --temperature 0.6, or leave --samples out"
            )


Rows = Callable[[], Iterable[Row]]
BENCHMARKS: Registry[Rows] = Registry()

# Sampled as R1 is evaluated (https://arxiv.org/abs/2501.12948, section 3): of few problems many completions.
R1 = {"temperature": 0.6, "top_p": 0.95}


def register_benchmark(name: str, **defaults: float) -> Callable[[Rows], Rows]:
    """Register a function that gives a benchmark's rows. defaults: as in `Sampling`."""
    sampling = Sampling(**defaults)

    def register(rows: Rows) -> Rows:
        rows.sampling = sampling
        BENCHMARKS[name] = rows
        return rows

    return register


def find_benchmark(name: str) -> Rows:
    """A known benchmark, or one's own by dotted path. Raises UserError that lists those known if there is none."""
    return BENCHMARKS.find("--benchmark", name)


def sampling_of(rows: Rows) -> Sampling:
    return getattr(rows, "sampling", Sampling())


def source_of(rows: Rows) -> Source | None:
    """Where a benchmark lies on the hub, None for one's own."""
    return getattr(rows, "source", None)


def on_the_hub(source: str) -> Rows:
    """The rows of a source of `curate`, which knows its place, split and columns."""
    known = SOURCES[source]

    def rows() -> Iterator[Row]:
        give_up_soon_without_network()
        place = f"{known.hub}@{known.configs[0]}" if known.configs else known.hub
        try:
            yield from (row for _, _, row in read_set(place, known.split, Columns(), name=source))
        except UserError as error:
            raise UserError(f"--benchmark {error}; without network give its file instead, as NAME=FILE") from None

    rows.source = known
    return rows


# 5,048 tokens are the limit of the poster's AIME'24 figures.
register_benchmark("aime24", samples=16, max_tokens=5048, **R1)(on_the_hub("aime-2024"))
register_benchmark("aime25", samples=16, max_tokens=5048, **R1)(on_the_hub("aime-2025"))
register_benchmark("amc23", samples=16, max_tokens=4096, **R1)(on_the_hub("amc-2023"))
register_benchmark("math500", max_tokens=4096)(on_the_hub("math-500"))
register_benchmark("gsm8k", max_tokens=1024)(on_the_hub("gsm8k-test"))
register_benchmark("olympiadbench", max_tokens=4096)(on_the_hub("olympiadbench"))
