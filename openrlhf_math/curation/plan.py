"""What a run reads, checked before anything is written: its inputs, and the problems of the benchmarks."""

import hashlib
import json
import os
import platform
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata

import pyarrow as pa

from openrlhf_math.curation.decontaminate import BenchmarkProblem
from openrlhf_math.curation.inputs import Input, Piece, find_inputs, reader_of_input, rows_of, split
from openrlhf_math.curation.reading import excerpt
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.data.schema import BrokenRow, read_row
from openrlhf_math.data.tables import Damaged
from openrlhf_math.errors import UserError, first_line
from openrlhf_math.runs.progress import Progress, silent

_PACKAGES = ("openrlhf_math", "pyarrow", "numpy", "rensa", "rapidfuzz", "xxhash", "mpmath", "ray", "datasets")


@dataclass
class Plan:
    """The inputs as they were found. broken: files that cannot be read at all, as lines for the rejects file."""

    settings: CurationSettings
    files: list[Input] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    benchmark_pieces: list[Piece] = field(default_factory=list)
    broken: list[dict] = field(default_factory=list)

    def manifest(self) -> dict:
        """What another run must agree in to take this one up."""
        return {
            "settings": self.settings.identity(),
            "inputs": [
                {"role": one.role, "name": one.name, "file": one.file, "reader": one.reader, "digest": one.digest}
                for one in self.files
            ],
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def find(settings: CurationSettings, progress: Progress = silent) -> Plan:
    """Look at every input. Raises UserError for one that is missing, or that cannot be read without a flag."""
    plan = Plan(settings)
    licences = dict(settings.licences)
    progress("looking for the inputs")
    found = [
        file
        for role, specs in (
            ("against", settings.against),
            ("source", settings.sources),
            ("benchmark", settings.benchmarks),
        )
        for spec in specs
        for file in find_inputs(role, spec, settings.columns, licences)
    ]
    sizes = [-(-os.path.getsize(file.path) >> 20) for file in found]
    for number, file in enumerate(found):
        progress("counting rows", sum(sizes[:number]), sum(sizes), "MiB")
        _add(plan, file)
    progress("counting rows", sum(sizes), sum(sizes), "MiB")
    for role in ("source", "benchmark"):
        named = settings.sources if role == "source" else settings.benchmarks
        if named and not any(one.role == role and one.digest for one in plan.files):
            raise UserError(f"--{role} {named[0]}: none of its files can be read ({plan.broken[0]['reason']})")
    if settings.sources and not any(piece.input.role == "source" for piece in plan.pieces):
        raise UserError(f"--source {settings.sources[0]} has no rows; give at least one")
    return plan


def _add(plan: Plan, file: Input) -> None:
    pieces = plan.benchmark_pieces if file.role == "benchmark" else plan.pieces
    try:
        file, found = split(file, len(pieces))
    except (pa.ArrowException, OSError, Damaged) as error:
        reason = f"the file cannot be read ({first_line(error)})"
        plan.broken.append({"source": file.name, "file": file.file, "row": None, "reason": reason, "beginning": ""})
        found = []
    plan.files.append(file)
    pieces += found


# A benchmark with a larger share of rows without a problem was not read as it is meant.
MOST_BROKEN = 0.1


@dataclass
class Benchmarks:
    """problems: of all benchmarks, in order. counts: how many each has. broken: rows without one, for the rejects."""

    problems: list[BenchmarkProblem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    broken: list[dict] = field(default_factory=list)

    def lines(self) -> str:
        return "".join(
            json.dumps({"benchmark": one.benchmark, "row": one.row, "text": one.text}, ensure_ascii=False) + "\n"
            for one in self.problems
        )

    def digest(self) -> str:
        return hashlib.sha256(self.lines().encode()).hexdigest()


def read_benchmarks(plan: Plan) -> Benchmarks:
    """Raises UserError for a benchmark without rows, or of which more than a tenth of the rows give no problem."""
    found = Benchmarks()
    rows: Counter[str] = Counter()
    names = list(dict.fromkeys(one.name for one in plan.files if one.role == "benchmark"))
    for piece in plan.benchmark_pieces:
        read = reader_of_input(piece.input, plan.settings.columns)
        for number, raw in rows_of(piece):
            rows[piece.input.name] += 1
            try:
                problem = read_row(read, raw).problem
            except BrokenRow as error:
                place = {"source": piece.input.name, "file": piece.input.file, "row": number, "reason": str(error)}
                found.broken.append(place | {"beginning": excerpt(raw), "columns": _columns(raw)})
                continue
            found.problems.append(BenchmarkProblem(piece.input.name, number, problem))
    read_of = Counter(one.benchmark for one in found.problems)
    found.counts = {name: read_of[name] for name in names}
    for name, problems in found.counts.items():
        if not problems or rows[name] - problems > MOST_BROKEN * rows[name]:
            raise UserError(_complaint(plan, name, rows[name], problems, found.broken))
    for one in found.broken:
        del one["columns"]
    return found


def _columns(raw: object) -> str:
    return ", ".join(map(str, raw)) if isinstance(raw, dict) else ""


def _complaint(plan: Plan, name: str, rows: int, problems: int, broken: list[dict]) -> str:
    files = ", ".join(one.file for one in plan.files if one.role == "benchmark" and one.name == name)
    first = next((one for one in broken if one["source"] == name), None)
    if not first:
        return f"--benchmark {name}: there is no row in {files}"
    columns = f"; its columns are {first['columns']}: name the problem's with --problem-key" if first["columns"] else ""
    return (
        f"--benchmark {name}: only {problems:,} of its {rows:,} rows give a problem (row {first['row']} of "
        f"{first['file']}: {first['reason']}){columns}"
    )
