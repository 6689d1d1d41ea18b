"""The settings of a run of `openrlhf-math curate`: all that affects the result, and the settings of the judge."""

import dataclasses
import json
import shlex
from dataclasses import dataclass, field

from openrlhf_math.curation.decontaminate import Overlap
from openrlhf_math.curation.filters import FILTERS, Limits, find_filter
from openrlhf_math.data.sources import Columns

JUDGE_CONCURRENCY, JUDGE_TIMEOUT = 16, 120.0  # requests at once, seconds for one
NEAR = 0.95  # of the tokens of two problems that are one although a word differs and nothing explains it


@dataclass(frozen=True)
class Judge:
    """The model that is asked whether a suspect is a benchmark problem, and how its endpoint is asked.

    api_key_env: the environment variable of the key, None for OPENAI_API_KEY. request_timeout: seconds. The other
    fields are those of `endpoint.settings.EndpointSettings`.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    concurrency: int = JUDGE_CONCURRENCY
    requests_per_minute: float | None = None
    request_timeout: float = JUDGE_TIMEOUT
    extra_body: dict = field(default_factory=dict)

    def identity(self) -> dict:
        """What decides the answers."""
        return {"model": self.model, "extra_body": self.extra_body}

    def flags(self) -> list[str]:
        """The command line's words, but those that change only how fast it is."""
        words = ["--judge-base-url", self.base_url, "--judge-model", self.model]
        if self.api_key_env:
            words += ["--judge-api-key-env", self.api_key_env]
        if self.extra_body:
            words += ["--judge-extra-body", json.dumps(self.extra_body)]
        return words


@dataclass(frozen=True)
class CurationSettings:
    """sources, against, benchmarks: as given, `[NAME=]PLACE`. licences: of sources by name, over the known ones.

    judge: of suspects, None for none.
    """

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
    judge: Judge | None = None

    def __post_init__(self) -> None:
        if not 0.7 <= self.near <= 1:
            raise ValueError(f"--near is {self.near}, it must be from 0.7 to 1")
        for name in self.filters:
            find_filter(name)
        if self.judge and not self.benchmarks:
            raise ValueError(
                "--judge-base-url: only rows like a benchmark problem are judged; name one with --benchmark"
            )

    def identity(self) -> dict:
        """What decides the result."""
        return dataclasses.asdict(self) | {"judge": self.judge.identity() if self.judge else None}

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
        words += self.judge.flags() if self.judge else []
        return shlex.join([*words, "--output", "DIRECTORY"])


FLAGS: dict[tuple[type, str], str] = {
    **{(Columns, one.name): f"--{one.name}-key" for one in dataclasses.fields(Columns)},
    (Limits, "min_chars"): "--min-chars",
    (Limits, "max_chars"): "--max-chars",
    (Limits, "language"): "--language",
    (Overlap, "ngram"): "--ngram",
    (Overlap, "share"): "--ngram-share",
    (Overlap, "drop_other_numbers"): "--drop-other-numbers",
}
