"""The inputs of a run, looked at before anything is done."""

import os
from dataclasses import dataclass, field

import pyarrow as pa

from openrlhf_math.curation.card import versions
from openrlhf_math.curation.inputs import Input, Piece, find_inputs, split
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.data.tables import Damaged
from openrlhf_math.errors import UserError
from openrlhf_math.runs.progress import Progress, silent


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
        reason = f"the file cannot be read ({str(error).splitlines()[0].rstrip('.')[:200]})"
        plan.broken.append({"source": file.name, "file": file.file, "row": None, "reason": reason, "beginning": ""})
        found = []
    plan.files.append(file)
    pieces += found
