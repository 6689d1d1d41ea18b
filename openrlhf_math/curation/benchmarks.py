"""The problems of the benchmarks, read before anything is written: a benchmark that is not read finds nothing."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field

from openrlhf_math.curation.decontaminate import BenchmarkProblem
from openrlhf_math.curation.inputs import reader_of_input, rows_of
from openrlhf_math.curation.plan import Plan
from openrlhf_math.curation.reading import excerpt
from openrlhf_math.data.schema import BrokenRow, read_row
from openrlhf_math.errors import UserError

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
