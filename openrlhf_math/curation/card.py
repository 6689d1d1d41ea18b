"""The data card: contents, sources, removed rows, and the command that reproduces the dataset."""

import platform
from importlib import metadata

from openrlhf_math.curation.inputs import Input
from openrlhf_math.curation.settings import CurationSettings
from openrlhf_math.curation.writing import COLUMNS

_PACKAGES = ("openrlhf_math", "pyarrow", "numpy", "rensa", "rapidfuzz", "xxhash", "mpmath", "ray", "datasets")
_MEANING = {
    "problem": "the problem",
    "answer": "the gold answer, as the source writes it",
    "solution": "the source's solution",
    "source": "the set it is from",
    "origin": "where that set has it from",
    "kind": "`open`, `choice` or `proof`, as the source says",
    "subject": "as the source says",
    "difficulty": "on the source's own scale",
    "trace": "a chain of thought that leads to the answer",
    "file": "the file it is from",
    "row": "its row there, from 1",
    "also_in": "the places of the duplicates that were dropped for it",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def card(settings: CurationSettings, files: list[Input], counts: dict) -> str:
    """README.md of the dataset: a header that `datasets.load_dataset` reads, and a page for people."""
    licences = dict(sorted({one.name: one.licence for one in files if one.role == "source"}.items()))
    shared = set(licences.values())
    licence = shared.pop() if len(shared) == 1 and "not stated" not in shared else "other"
    size = next((name for most, name in _SIZES if counts["written"] < most), "n>10M")
    # Without `configs`, which datasets finds for itself: where a local folder has them, datasets 5.2 keeps what it read
    # under the folder's last name alone, and gives it for every other folder of that name.
    parts = [
        f"---\nlicense: {licence}\ntask_categories:\n- question-answering\ntags:\n- math\n"
        f"size_categories:\n- {size}\n---\n",
        f"# {counts['written']:,} problems of mathematics\n",
        "Made with this command:\n",
        f"```sh\n{settings.command()}\n```\n",
        ", ".join(f"{name} {version}" for name, version in versions().items()) + ".\n",
        "## What is left after each step\n",
        _table(("step", "rows dropped", "rows left"), _steps(counts["steps"])),
        _notes(settings, counts),
        "## Sources\n",
        _table(
            ("source", "licence", "rows read", "rows in here"),
            [
                (name, licences[name], f"{one['read']:,}", f"{one['written']:,}")
                for name, one in counts["by_source"].items()
            ],
        ),
        _files(files),
        "## Columns\n",
        _table(("column", "type", "meaning"), [(one.name, _type(one.type), _MEANING[one.name]) for one in COLUMNS]),
    ]
    return "\n".join(part for part in parts if part)


def _notes(settings: CurationSettings, counts: dict) -> str:
    overlap = settings.overlap
    notes = ["Of rows with the same problem the first is here: by source in the order given, then by row."]
    if settings.benchmarks:
        notes.append(
            f"Benchmark problems are found as duplicates, and by shared runs of tokens that cover {overlap.share:.0%} "
            "of a benchmark problem. `reports/contamination.jsonl` has every hit with both texts. "
            f"Those with other numbers, or that ask for something else, stayed ({counts['suspects']:,}): "
            "`reports/suspects.jsonl`, the most alike first."
        )
        judged = counts["judged"]
        if settings.judge and judged:
            notes.append(
                f"{judged['pairs']:,} suspects were judged by {settings.judge.model}: {judged['same']:,} are a "
                f"benchmark problem and were dropped, {judged['different']:,} are another problem, "
                f"{judged['unjudged']:,} have no verdict; the last two kinds stayed."
            )
        notes.append(_table(*benchmark_table(counts["benchmarks"], counts["contaminated"], judged)))
    if counts["broken_files"]:
        notes.append(f"{counts['broken_files']:,} files could not be read at all: `reports/rejects.jsonl`.")
    notes.append(
        "`reports/` lists each row that is not here: `rejects.jsonl` (broken), `filtered.jsonl`, "
        "`contamination.jsonl`, `duplicates.jsonl`.\n"
    )
    return "\n\n".join(notes)


def benchmark_table(
    problems: dict[str, int], contaminated: dict[str, int], judged: dict | None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The benchmarks with what was dropped for each: a head, and rows of cells."""
    head = ("benchmark", "problems", "rows dropped") + (("dropped by the judge",) if judged else ())
    rows = []
    for name, count in problems.items():
        by_judge = (f"{judged['by_benchmark'].get(name, 0):,}",) if judged else ()
        rows.append((name, f"{count:,}", f"{contaminated.get(name, 0):,}", *by_judge))
    return head, rows


def _files(files: list[Input]) -> str:
    rows = [(one.role, one.name, f"`{one.file}`", f"`{one.digest}`" if one.digest else "unreadable") for one in files]
    return "### Files read\n\n" + _table(("role", "set", "file", "xxh3-128"), rows)


def _steps(steps: list) -> list[tuple[str, str, str]]:
    befores = [steps[0][1], *(left for _, left in steps)]
    return [(name, f"{before - left:,}", f"{left:,}") for (name, left), before in zip(steps, befores, strict=False)]


def _table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _type(kind: object) -> str:
    return str(kind).replace("item: ", "").replace("element: ", "")
