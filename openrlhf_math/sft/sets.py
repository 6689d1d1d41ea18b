"""The sets that a fine-tuning names: [KNOWN=]SET[:WEIGHT][@COLUMNS], several separated by commas.

KNOWN is the name of a known set (`data.sources`), whose layout the rows have.

COLUMNS is a column of conversations, or two of prompts and responses joined by "+". Of a set on the hub, the part
behind the first "@" is its configuration, as in every command, and columns come behind a second one.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.data.sources import SOURCES
from openrlhf_math.errors import UserError

FILES = (".jsonl", ".json", ".csv", ".parquet", ".arrow", ".gz", ".zst", ".zstd")
WEIGHT = re.compile(r":([\d.]+)$")


@dataclass(frozen=True, slots=True)
class Source:
    """name: as the readers take it. weight: of the draws, None where it has none. columns: None for the usual ones.

    known: the known set whose layout it has, "" where that is not said.
    """

    name: str
    weight: float | None
    columns: tuple[str | None, str | None]
    known: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is a file or a directory of this machine, or must be one."""
        return _is_local(self.name)


def read_sources(flag: str, sets: str | None, columns: tuple[str | None, str | None]) -> list[Source]:
    """The sets of a flag's value. columns: of those that name none. Raises UserError for a wrong weight or column."""
    return [_source(flag, spec.strip(), columns) for spec in (sets or "").split(",") if spec.strip()]


def _source(flag: str, spec: str, columns: tuple[str | None, str | None]) -> Source:
    if os.path.exists(spec):
        return Source(spec, None, columns)
    known, equals, place = spec.partition("=")
    if equals and known in SOURCES:
        return replace(_source(flag, place, columns), known=known)
    name, *marked = spec.split("@")
    while marked and not os.path.exists(name) and os.path.exists(_weighed(flag, spec, f"{name}@{marked[0]}")[0]):
        name = f"{name}@{marked.pop(0)}"
    name, weight = _weighed(flag, spec, name)
    if marked and not _is_local(name):
        configuration, early = _weighed(flag, spec, marked.pop(0))
        name, weight = f"{name}@{configuration}", early if weight is None else weight
    if len(marked) > 1:
        raise UserError(f"{flag} {spec}: write it as SET:WEIGHT@COLUMNS, or NAME:WEIGHT@CONFIG@COLUMNS for the hub's")
    if marked:
        names = marked[0].split("+")
        if not all(names) or len(names) > 2:
            raise UserError(f"{flag} {spec}: '{marked[0]}' is neither one column nor two joined by +")
        columns = (names[0], names[1] if len(names) == 2 else None)
    return Source(name, weight, columns)


def _weighed(flag: str, spec: str, text: str) -> tuple[str, float | None]:
    found = WEIGHT.search(text)
    if not found or os.path.exists(text):
        return text, None
    try:
        weight = float(found[1])
    except ValueError:
        weight = 0.0
    if not weight > 0:
        raise UserError(f"{flag} {spec}: its weight {found[1]} is not a number above 0; correct it")
    return text[: found.start()], weight


def _is_local(name: str) -> bool:
    if name.startswith((".", "/")) or Path(name).suffix.lower() in FILES:
        return True
    return any(os.path.exists(path) for path in (name, name.rpartition(":")[0]) if path)  # it may name a split


def apply_weights(args: SimpleNamespace, sources: list[Source]) -> None:
    """Set `--data.dataset_probs` from the weights. Raises UserError unless all sets have one or none has."""
    weights = [source.weight for source in sources if source.weight is not None]
    if weights and args.data.dataset_probs:
        raise UserError(f"--data.dataset_probs {args.data.dataset_probs} and weights in --data.dataset; give one")
    if weights and len(weights) < len(sources):
        without = next(source.name for source in sources if source.weight is None)
        raise UserError(f"--data.dataset: {without} has no weight and others have; write {without}:1, or no weights")
    if args.data.dataset_probs:
        weights = _probabilities(args.data.dataset_probs, len(sources))
    if weights:
        args.data.dataset_probs = ",".join(repr(weight / sum(weights)) for weight in weights)


def _probabilities(text: str, sets: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != sets or not all(0 < one < float("inf") for one in found):
        raise UserError(f"--data.dataset_probs {text}: give {sets} numbers above 0, one for each set")
    return found
