"""What a run of `openrlhf-math curate` is told: all that changes the result, and nothing else."""

import dataclasses
import shlex
from dataclasses import dataclass, field

from openrlhf_math.curation.decontaminate import Overlap
from openrlhf_math.curation.filters import FILTERS, Limits, find_filter
from openrlhf_math.data.sources import Columns

NEAR = 0.95  # of the tokens of two problems that are one although a word differs and nothing explains it


@dataclass(frozen=True)
class CurationSettings:
    """sources, against, benchmarks: as given, `[NAME=]PLACE`. licences: of sources by name, over the known ones."""

    sources: tuple[str, ...]
    against: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    filters: tuple[str, ...] = field(default_factory=lambda: tuple(FILTERS))
    columns: Columns = field(default_factory=Columns)
    limits: Limits = field(default_factory=Limits)
    overlap: Overlap = field(default_factory=Overlap)
    licences: tuple[tuple[str, str], ...] = ()
    keep_duplicates: bool = False
    near: float = NEAR

    def __post_init__(self) -> None:
        if not 0.7 <= self.near <= 1:
            raise ValueError(f"--near is {self.near}, it must be from 0.7 to 1")
        for name in self.filters:
            find_filter(name)

    def command(self) -> str:
        """The command line that gives this result."""
        words = ["openrlhf-math", "curate"]
        for flag, values in (("source", self.sources), ("against", self.against), ("benchmark", self.benchmarks)):
            for value in values:
                words += [f"--{flag}", value]
        if self.filters != tuple(FILTERS):
            words += ["--filters", ",".join(self.filters)]
        for part in (self.columns, self.limits, self.overlap):
            for one in dataclasses.fields(part):
                value = getattr(part, one.name)
                if value != one.default:
                    words += [FLAGS[type(part), one.name]] + ([] if value is True else [str(value)])
        for name, licence in self.licences:
            words += ["--licence", f"{name}={licence}"]
        if self.keep_duplicates:
            words += ["--keep-duplicates"]
        if self.near != NEAR:
            words += ["--near", str(self.near)]
        return shlex.join([*words, "--output", "DIRECTORY"])


FLAGS = {
    **{(Columns, one.name): f"--{one.name}-key" for one in dataclasses.fields(Columns)},
    (Limits, "min_chars"): "--min-chars",
    (Limits, "max_chars"): "--max-chars",
    (Limits, "language"): "--language",
    (Overlap, "ngram"): "--ngram",
    (Overlap, "share"): "--ngram-share",
    (Overlap, "drop_other_numbers"): "--drop-other-numbers",
}
