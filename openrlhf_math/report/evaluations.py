"""Evaluations side by side: their figures with intervals, and the paired comparison of those on the same problems."""

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.compare import Difference, compare_runs
from openrlhf_math.evaluation.tables import BY_K
from openrlhf_math.report.runs import Evaluation, Found
from openrlhf_math.report.table import INTERVAL, Interval, Table, between, percent, plain
from openrlhf_math.runs.records import bounds, number

COST = ["tokens a completion", "tokens a correct answer", "cut off", "ungraded"]


def evaluation_table(groups: list[list[Evaluation]]) -> Table:
    """A row for each evaluation and benchmark. Figures by k are of the largest, where all have them."""
    summary = [
        (run.name, benchmark, figures)
        for group in groups
        for run in group
        for benchmark, figures in run.figures.items()
    ]
    rules = [
        (f"{shown}{k}", name, k)
        for name, shown in BY_K.items()
        if (k := _largest_k([figures.get(name) for _, _, figures in summary]))
    ]
    rows = [
        [
            name,
            percent(number(figures, "pass_at_1")),
            between(bounds(figures, "ci95")),
            plain(number(figures, "completion_tokens")),
            plain(number(figures, "tokens_per_correct")),
            percent(number(figures, "truncation_rate")),
            plain(number(figures, "ungraded")),
            *(percent(number(figures[rule][k], "accuracy")) for _, rule, k in rules),
            benchmark,
            plain(number(figures, "problems")),
        ]
        for name, benchmark, figures in summary
    ]
    header = ["evaluation", "pass@1", INTERVAL, *COST, *(shown for shown, _, _ in rules), "benchmark", "problems"]
    intervals = [_interval(number(figures, "pass_at_1"), figures) for _, _, figures in summary]
    return Table("Evaluations", header, rows, "95% intervals of pass@1: bootstrap over problems", intervals, "pass@1")


def comparison_table(groups: list[list[Evaluation]]) -> Table | None:
    """The first evaluation of each group against each after it, paired by problem. What cannot be compared is named."""
    rows, notes = [], []
    for first, other in [(group[0], other) for group in groups for other in group[1:]]:
        try:
            summary = compare_runs(first.path, other.path, seed=0)
        except UserError as error:
            notes.append(f"Not compared: {str(error).removeprefix('--compare').lstrip(' :')}.")
            continue
        for benchmark, figures in summary.items():
            rows += [[*_differs(*one), f"{other.name} less {first.name}", benchmark] for one in figures.items()]
    header = ["", "difference", INTERVAL, "first", "second", "p", "of", "benchmark"]
    note = " ".join(["Paired by problem: bootstrap interval, sign-flip permutation test.", *notes])
    return Table("Paired comparison", header, rows, note) if rows or notes else None


def headlines(groups: list[list[Evaluation]]) -> list[tuple[str, str]]:
    """What became of accuracy and length from the first evaluation of each group to the last, and of what that is.

    Only of evaluations that can be compared, see `comparison_table`.
    """
    found = []
    for first, last in [(group[0], group[-1]) for group in groups if len(group) > 1]:
        try:
            summary = compare_runs(first.path, last.path, seed=0)
        except UserError:
            continue
        for benchmark, figures in summary.items():
            share, tokens = figures["pass_at_1"], figures.get("completion_tokens")
            result, what = f"{share.first:.1%} → {share.second:.1%}", f"pass@1 on {benchmark}"
            if tokens:
                result += f", {tokens.first:,.0f} → {tokens.second:,.0f} tokens"
                what += " and tokens a completion"
            found.append((result, f"{what}, {first.name} → {last.name}"))
    return found


def reranked_tables(found: Found) -> list[Table]:
    """What choosing among several attempts makes of the trained model, by whole run."""
    tables = []
    for name, rules in found.reranked.items():
        summary = {rule: row for rule, row in rules.items() if isinstance(row, dict)}
        rows = [[rule, percent(number(row, "accuracy")), between(bounds(row, "ci95"))] for rule, row in summary.items()]
        intervals = [_interval(number(row, "accuracy"), row) for row in summary.values()]
        title = f"Choosing among attempts, {name}"
        tables.append(Table(title, ["rule", "accuracy", INTERVAL], rows, intervals=intervals, intervals_of="accuracy"))
    return tables


def _differs(name: str, one: Difference) -> list[str]:
    share = name == "pass_at_1"
    show = percent if share else plain
    signed = [f"{100 * value:+.1f}" if share else f"{value:+.1f}" for value in (one.difference, *one.interval)]
    what = "pass@1, points" if share else "tokens a completion"
    return [what, signed[0], f"{signed[1]} to {signed[2]}", show(one.first), show(one.second), f"{one.p_value:.4f}"]


def _largest_k(by_run: list[dict | None]) -> str | None:
    """The largest k that every evaluation has."""
    known = [
        {
            k
            for k, found in (by_k if isinstance(by_k, dict) else {}).items()
            if k.isdecimal() and isinstance(found, dict)
        }
        for by_k in by_run
    ]
    return max(set.intersection(*known), key=int, default=None)


def _interval(value: float | None, row: dict) -> Interval | None:
    ends = bounds(row, "ci95")
    if value is None or ends is None or ends[0] is None or ends[1] is None:
        return None
    return Interval(ends[0], value, ends[1])
