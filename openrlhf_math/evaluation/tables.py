"""An evaluation's figures as tables for the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Figures by the number of completions k, and how a person calls them.
BY_K = {"pass_at_k": "pass@", "maj_at_k": "maj@", "weighted_at_k": "weighted@", "best_of_k": "best-of-"}


def show(summary: dict[str, dict], output: Path) -> None:
    """The figures by benchmark, and where the files are."""
    console = Console()
    for name, figures in summary.items():
        console.print(_figures(name, figures))
        for label, groups in figures["by"].items():
            console.print(_groups(label, groups))
    folders = [output] if len(summary) == 1 else [output / name for name in summary]
    for folder in folders:
        for file in ("summary.json", "completions.jsonl"):
            console.print(f"  {folder / file}", soft_wrap=True, highlight=False)


def _figures(name: str, summary: dict) -> Table:
    left_out = f" ({summary['left_out']} rows left out)" if summary.get("left_out") else ""
    fewest, most = summary["fewest_samples"], summary["samples"]
    samples = f"{most} sample{'s' * (most > 1)} each" if fewest == most else f"{fewest} to {most} samples each"
    title = f"{name}: {summary['problems']} problems{left_out}, {samples}"
    table = Table(title=Text(title), show_header=False)
    table.add_row("pass@1", _share(summary["pass_at_1"], summary["ci95"]))
    if "truncated" in summary["warnings"]:
        cut = f"may be too low: {summary['truncation_rate']:.1%} of completions were cut off"
        if "sampling_max_tokens" in summary:
            cut += f" at {summary['sampling_max_tokens']:,} tokens; raise --max-tokens"
        else:  # recorded completions
            cut += "; sample them with a higher limit"
        table.add_row("", Text(cut, style="bold red"))
    if summary["over_samples"]:
        sd, error = (100 * summary["over_samples"][name] for name in ("sd", "standard_error"))
        table.add_row("over samples", f"standard deviation {sd:.1f} points, standard error {error:.1f}")
    for figure, shown in BY_K.items():
        for k, found in summary.get(figure, {}).items():
            table.add_row(f"{shown}{k}", _share(found["accuracy"], found["ci95"]))
    cost, bounds = summary["tokens_per_correct"], summary["tokens_per_correct_ci95"]
    table.add_row("tokens a completion", _number(summary["completion_tokens"], summary["completion_tokens_ci95"]))
    table.add_row("tokens a correct answer", _number(cost, bounds))
    table.add_row("cut off at the limit", _share(summary["truncation_rate"], None))
    table.add_row("correct format", _share(summary["format_rate"], None))
    for figure, shown in (
        ("ungraded", "ungraded completions"), ("unanswered", "without an answer"), ("kept_apart", "pairs kept apart"),
        ("unscored", "without a score"),
    ):  # fmt: skip
        if summary.get(figure) or figure == "ungraded":
            table.add_row(shown, str(summary[figure]))
    if "judge" in summary:
        table.add_row(
            f"graded by {summary['judge']}", f"{summary['judged_share']:.1%} of completions ({summary['judged']})"
        )
    if "tool_calls" in summary:
        words = f"{summary['tool_calls']:,}, {summary['tool_failed']:,} failed, {summary['tool_seconds']:.1f} s"
        table.add_row("calls of the tool", words)
    table.add_row("wall time", _times(summary))
    return table


def _times(summary: dict) -> str:
    parts = [
        f"{what} {summary[name]:.1f} s"
        for name, what in (
            ("seconds_loading", "loading"), ("seconds_sampling", "sampling"), ("seconds_scoring", "scoring"),
            ("seconds_grading", "grading"),
        )
        if name in summary
    ]  # fmt: skip
    rate = summary.get("tokens_per_second")
    had = summary.get("resumed_with")
    return ", ".join(parts) + (f" ({rate:.0f} tokens/s)" if rate else "") + (f", {had} were there" if had else "")


def _groups(label: str, groups: dict[str, dict]) -> Table:
    table = Table(label, title=f"By {label}")
    for column in ("problems", "pass@1", "tokens a completion"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in groups.items():
        tokens = _number(one["completion_tokens"], None)
        table.add_row(Text(name), str(one["problems"]), _share(one["pass_at_1"], one["ci95"]), tokens)
    return table


def show_comparison(summary: dict[str, dict], first: Path, second: Path) -> None:
    """Differences by benchmark."""
    console = Console()
    table = Table("", title=Text(f"{second} less {first}, over the same problems"))
    for column in ("first", "second", "difference", "95% interval", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, figures in summary.items():
        for figure, one in figures.items():
            share = figure == "pass_at_1"
            low, high = one.interval
            shown = [f"{100 * value:+.1f}" if share else f"{value:+.1f}" for value in (one.difference, low, high)]
            sides = [f"{value:.1%}" if share else f"{value:.1f}" for value in (one.first, one.second)]
            what = f"{name}: {'pass@1, points' if share else 'tokens a completion'}"
            table.add_row(Text(what), *sides, shown[0], f"{shown[1]} to {shown[2]}", f"{one.p_value:.4f}")
    console.print(table)


def _share(value: float | None, bounds: list | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" + (f"  (95%: {bounds[0]:.1%} to {bounds[1]:.1%})" if bounds else "")


def _number(value: float | None, bounds: list | None) -> str:
    if value is None:
        return "-"
    ends = ["no bound" if bound is None else f"{bound:.1f}" for bound in bounds or ()]
    return f"{value:.1f}" + (f"  (95%: {ends[0]} to {ends[1]})" if ends else "")
