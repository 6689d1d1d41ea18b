"""Benchmarks: problem sets known by name, with how each is usually sampled.

A benchmark is a function without arguments that gives its rows (`data.schema.Row`); those on the hub share their
declaration, columns, split and licence with the sources of `curate`. A user's own is given by dotted path,
`package.module.function`, with the decorator if it has defaults.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from openrlhf_math.data.columns import Columns
from openrlhf_math.data.problems import read_set
from openrlhf_math.data.schema import Row
from openrlhf_math.data.sources import SOURCES, Source
from openrlhf_math.errors import UserError, at_least
from openrlhf_math.registry import Registry


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a benchmark's problems are sampled. Raises ValueError for values that cannot work.

    samples               completions a problem
    max_tokens            token limit of one completion; None for what the model's context leaves, at most MOST_TOKENS
    temperature           0 is greedy
    top_p, top_k, min_p   as vLLM takes them; 1, 0 and 0 cut nothing off
    repetition_penalty    likewise; 1 for none
    """

    samples: int = 1
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, self, "samples", "max_tokens", error=ValueError)
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"--temperature {self.temperature}: give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p {self.top_p}: give more than 0 and at most 1")
        if self.top_k < 0:
            raise ValueError(f"--top-k {self.top_k}: give 0 (all tokens) or more")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"--min-p {self.min_p}: give 0 to 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"--repetition-penalty {self.repetition_penalty}: give more than 0; 1 is none")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"--samples {self.samples}: greedy decoding gives the same completion every time; "
                "add --temperature 0.6, or leave --samples out"
            )

    def of_a_token(self) -> dict[str, Any]:
        """How a token is drawn: fields of vLLM's SamplingParams, which `roles.Sampling` has too."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        return {name: getattr(self, name) for name in names}

    def words(self) -> str:
        """For people: "16 samples each, temperature 0.6, top-p 0.95, at most 32,000 tokens"."""
        parts = [
            f"{self.samples} sample{'s' * (self.samples > 1)} each",
            f"temperature {self.temperature:g}" if self.temperature else "greedy",
        ]
        for field, neutral in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0), ("repetition_penalty", 1.0)):
            if (value := getattr(self, field)) != neutral:
                parts.append(f"{field.replace('_', '-')} {value:g}")
        parts.append(
            f"at most {self.max_tokens:,} tokens" if self.max_tokens else "as many tokens as the context holds"
        )
        return ", ".join(parts)


Rows = Callable[[], Iterable[Row]]
BENCHMARKS: Registry[Rows] = Registry()

# Sampled as R1 is evaluated (https://arxiv.org/abs/2501.12948, section 3): of few problems many completions.
R1 = {"temperature": 0.6, "top_p": 0.95}
# The longest completion without --max-tokens: the limit of the same paper's evaluation.
MOST_TOKENS = 32_768


def register_benchmark(name: str, **defaults: Any) -> Callable[[Rows], Rows]:
    """Register a function that gives a benchmark's rows. defaults: as in `Sampling`."""
    return BENCHMARKS.register(name, sampling=Sampling(**defaults))


def find_benchmark(name: str) -> Rows:
    """A known benchmark, or a user's own by dotted path. Raises UserError that lists those known if there is none."""
    return BENCHMARKS.find("--benchmark", name)


def sampling_of(rows: Rows) -> Sampling:
    return getattr(rows, "sampling", Sampling())


def source_of(rows: Rows) -> Source | None:
    """Where a benchmark is on the hub, None for a user's own."""
    return getattr(rows, "source", None)


def on_the_hub(source: str) -> Rows:
    """The rows of a source of `curate`, which knows its place, split and columns."""
    known = SOURCES[source]

    def rows() -> Iterator[Row]:
        place = f"{known.hub}@{known.configs[0]}" if known.configs else known.hub
        try:
            yield from (row for _, _, row in read_set(place, known.split, Columns(), name=source))
        except UserError as error:
            raise UserError(f"--benchmark {error}; without network give its file instead, as NAME=FILE") from None

    vars(rows)["source"] = known
    return rows


for _name, _source, _defaults in (
    ("aime24", "aime-2024", {"samples": 16, **R1}),
    ("aime25", "aime-2025", {"samples": 16, **R1}),
    ("aime26", "aime-2026", {"samples": 16, **R1}),
    ("hmmt-feb25", "hmmt-feb-2025", {"samples": 16, **R1}),
    ("hmmt-nov25", "hmmt-nov-2025", {"samples": 16, **R1}),
    ("hmmt-feb26", "hmmt-feb-2026", {"samples": 16, **R1}),
    ("brumo25", "brumo-2025", {"samples": 16, **R1}),
    ("cmimc25", "cmimc-2025", {"samples": 16, **R1}),
    ("smt25", "smt-2025", {"samples": 16, **R1}),
    ("amc23", "amc-2023", {"samples": 16, **R1}),
    ("amo-bench", "amo-bench", {"samples": 16, **R1}),
    ("beyond-aime", "beyond-aime", {"samples": 8, **R1}),
    ("imo-answerbench", "imo-answerbench", {"samples": 4, **R1}),
    ("math500", "math-500", {}),
    ("minerva", "minerva", {}),
    ("olympiadbench", "olympiadbench", {}),
    ("omni-math", "omni-math", {}),
    ("college-math", "college-math", {}),
    ("gsm8k", "gsm8k-test", {}),
    ("gsm-plus", "gsm-plus", {}),
):
    register_benchmark(_name, **_defaults)(on_the_hub(_source))
