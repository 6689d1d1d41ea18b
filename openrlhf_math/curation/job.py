"""What every task must know."""

from dataclasses import dataclass
from pathlib import Path

from openrlhf_math.curation.inputs import Piece
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.workplace import Workplace


@dataclass(frozen=True)
class Job:
    """The settings, the pieces of all inputs but the benchmarks, and where the work is done.

    benchmark_digest: of the benchmarks' problems, which are in `benchmark_file`.
    """

    settings: CurationSettings
    output: Path
    pieces: tuple[Piece, ...]
    benchmark_digest: str = ""

    @property
    def workplace(self) -> Workplace:
        return Workplace(self.output)

    @property
    def benchmark_file(self) -> Path:
        return self.workplace.root / "benchmarks.jsonl"

    def place(self, row_id: int) -> str:
        """The place of a row, for people."""
        return self.pieces[row_id >> 32].place(row_id)
