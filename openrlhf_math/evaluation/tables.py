"""An evaluation's figures as tables for the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Figures by the number of completions k, and how a person calls them.
BY_K = {"pass_at_k": "pass@", "maj_at_k": "maj@", "weighted_at_k": "weighted@", "best_of_k": "best-of-"}


def show(told: dict[str, dict], output: Path) -> None:
    """The figures by benchmark, and where the files lie."""
    console = Console()
    for name, figures in told.items():
        console.print(_figures(name, figures))
        for label, groups in figures["by"].items():
            console.print(_groups(label, groups))
    folders = [output] if len(told) == 1 else [output / name for name in told]
    for folder in folders:
        for file in ("summary.json", "completions.jsonl"):
            console.print(f"  {folder / file}", soft_wrap=True, highlight=False)


def _figures(name: str, told: dict) -> Table:
    left_out = f" ({told['left_out']} rows left out)" if told.get("left_out") else ""
    title = f"{name}: {told['problems']} problems{left_out}, {told['samples']} sample{'s' * (told['samples'] > 1)} each"
    table = Table(title=Text(title), show_header=False)
    table.add_row("pass@1", _share(told["pass_at_1"], told["ci95"]))
    if "truncated" in told["warnings"]:
        limit = f" at {told['sampling_max_tokens']:,} tokens" if "sampling_max_tokens" in told else ""
        cut = f"may be too low: {told['truncation_rate']:.1%} of completions were cut off{limit}; raise --max-tokens"
        table.add_row("", Text(cut, style="bold red"))
    if told["over_samples"]:
        sd, error = (100 * told["over_samples"][name] for name in ("sd", "standard_error"))
        table.add_row("over samples", f"standard deviation {sd:.1f} points, standard error {error:.1f}")
    for figure, shown in BY_K.items():
        for k, found in told.get(figure, {}).items():
            table.add_row(f"{shown}{k}", _share(found["accuracy"], found["ci95"]))
    cost, bounds = told["tokens_per_correct"], told["tokens_per_correct_ci95"]
    table.add_row("tokens a completion", _number(told["completion_tokens"], told["completion_tokens_ci95"]))
    table.add_row("tokens a correct answer", _number(cost, bounds))
    table.add_row("cut off at the limit", _share(told["truncation_rate"], None))
    table.add_row("correct format", _share(told["format_rate"], None))
    for figure, shown in (
        ("undecided", "undecided gradings"), ("unanswered", "without an answer"), ("kept_apart", "pairs kept apart"),
        ("unscored", "without a score"),
    ):  # fmt: skip
        if told.get(figure) or figure == "undecided":
            table.add_row(shown, str(told[figure]))
    if "judge" in told:
        table.add_row(f"graded by {told['judge']}", f"{told['judged_share']:.1%} of completions ({told['judged']})")
    if "tool_calls" in told:
        words = f"{told['tool_calls']:,}, {told['tool_failed']:,} failed, {told['tool_seconds']:.1f} s"
        table.add_row("calls of the tool", words)
    table.add_row("wall time", _times(told))
    return table


def _times(told: dict) -> str:
    parts = [
        f"{what} {told[name]:.1f} s"
        for name, what in (
            ("seconds_loading", "loading"), ("seconds_sampling", "sampling"), ("seconds_scoring", "scoring"),
            ("seconds_grading", "grading"),
        )
        if name in told
    ]  # fmt: skip
    rate = told.get("tokens_per_second")
    had = told.get("resumed_with")
    return ", ".join(parts) + (f" ({rate:.0f} tokens/s)" if rate else "") + (f", {had} were there" if had else "")


def _groups(label: str, groups: dict[str, dict]) -> Table:
    table = Table(label, title=f"By {label}")
    for column in ("problems", "pass@1", "tokens a completion"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in groups.items():
        tokens = _number(one["completion_tokens"], None)
        table.add_row(Text(name), str(one["problems"]), _share(one["pass_at_1"], one["ci95"]), tokens)
    return table


def show_comparison(told: dict[str, dict], first: Path, second: Path) -> None:
    """Differences by benchmark."""
    console = Console()
    table = Table("", title=Text(f"{second} less {first}, over the same problems"))
    for column in ("first", "second", "difference", "95% interval", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, figures in told.items():
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
