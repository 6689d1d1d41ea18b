"""`openrlhf-math rollouts`: shows the completions that a GRPO run has kept."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from openrlhf_math.cli.parsing import shown_json
from openrlhf_math.errors import UserError
from openrlhf_math.runs.records import finite
from openrlhf_math.runs.rollouts import MAJORITY, whole_text

EPILOG = """conditions:
  reward<0.2 and truncated                 columns are compared with and, or, not and brackets
  outcome = 'ungraded' or extracted = none   text is in quotes; none is a missing value
  response contains 'wait' and not truncated
  operators: < <= > >= = != contains. A comparison with a missing value is false.

columns:
{columns}
  reward/NAME     a part of the reward, with --math.rewards

The files are Parquet, which pandas, pyarrow and `datasets` read; they also have prompt_tokens, response_tokens, actions
and log_probs. `prm label`, `vote` and `distill --teacher recorded` take a file or the folder.

examples:
  openrlhf-math rollouts runs/grpo
  openrlhf-math rollouts runs/grpo --step 12 --where 'reward<0.2 and truncated' --full
  openrlhf-math rollouts runs/grpo --step all --where "outcome='ungraded'" --json
"""
EXCERPT = 240  # characters of a completion that are shown


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.runs.rollouts import COLUMNS

    shown = "\n".join(f"  {name:<15} {what}" for name, (kind, what) in COLUMNS.items() if "list" not in kind)
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Show the completions of a GRPO step by group, with grade, reward, advantage and log-probability.\n"
        "`grpo --math.keep_rollouts` says which steps are kept.",
        epilog=EPILOG.format(columns=shown),
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the run directory, a folder of rollouts, or one file")
    add("--step", metavar="N|all", help="which step (the newest)")
    add("--where", metavar="CONDITION", help="only completions for which it holds, see below")
    add("--eval", action="store_true", help="the completions of evaluations, not those of training steps")
    add("--limit", type=int, default=16, metavar="N", help="at most so many completions, 0 for all (%(default)s)")
    add("--full", action="store_true", help="whole completions, not their beginnings and ends")
    add("--json", action="store_true", help="print all that match as JSON lines")
    return parser


def run(args: argparse.Namespace) -> int:
    from openrlhf_math.runs.rollouts import columns_at, files_at, read_step
    from openrlhf_math.runs.where import read_condition

    if args.limit < 0:
        raise UserError(f"--limit {args.limit}: give 1 or more, or 0 for all")
    files = _wanted(files_at("RUN", args.run, args.eval), args.step)
    found: list[dict] = []
    total = 0
    for path in files.values():
        columns = columns_at(path)
        holds = (
            read_condition(args.where, {name: _kind(kind) for name, kind in columns.items()}) if args.where else None
        )
        rows = read_step(path, list(columns))
        total += len(rows)
        found += [row for row in rows if holds is None or holds(row)]
    if args.json:
        for row in found:
            print(shown_json(finite(row)))
        return 0
    _show(found, total, list(files), args)
    return 0


def _wanted(files: dict[int, Path], step: str | None) -> dict[int, Path]:
    if step == "all":
        return files
    newest = max(files)
    if step is None:
        return {newest: files[newest]}
    if not (step.isascii() and step.isdigit() and len(step) < 13):
        raise UserError(f"--step {step}: give a number or all")
    if int(step) not in files:
        raise UserError(f"--step {step}: it is not kept; there are {_ranges(list(files))}")
    return {int(step): files[int(step)]}


def _ranges(steps: list[int]) -> str:
    """[1, 2, 3, 7] as 1 to 3, 7."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][1] + 1:
            runs[-1][1] = step
        else:
            runs.append([step, step])
    return ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in runs)


def _kind(arrow: str) -> str:
    return {"string": "text", "large_string": "text", "bool": "switch"}.get(arrow, "number")


def _completions(count: int) -> str:
    return f"{count:,} completion{'' if count == 1 else 's'}"


def _show(rows: list[dict], total: int, steps: list[int], args: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    where = f"{len(rows):,} of {total:,} completions match" if args.where else _completions(total)
    kind = "evaluation after step" if args.eval else "step"
    console.print(f"{kind}{'s' if len(steps) > 1 else ''} {_ranges(steps)}: {where}", markup=False)
    most = args.limit or len(rows)
    group = None
    for row in rows[:most]:
        if (row["step"], row["group"]) != group:
            group = row["step"], row["group"]
            for line in _head(row, rows, len(steps) > 1):
                console.print(line, soft_wrap=True)
        for line in _completion(row, args.full):
            console.print(line, soft_wrap=True)
    if len(rows) > most:
        console.print(f"\n{len(rows) - most:,} more match; --limit 0 shows all, --json prints them", markup=False)


def _head(row: dict, rows: list[dict], several: bool) -> Iterator:
    """Of a group: its number, what its completions among `rows` came to, its problem."""
    from rich.text import Text

    group = [one for one in rows if (one["step"], one["group"]) == (row["step"], row["group"])]
    rewards = sum(one["reward"] for one in group) / len(group)
    which = f"step {row['step']}, group {row['group']}" if several else f"group {row['group']}"
    correct = sum(one["outcome"] == "correct" for one in group)
    yield Text()
    yield Text(f"{which}: {_completions(len(group))}, {correct} correct, mean reward {rewards:.2f}", style="bold")
    yield Text(_line(row["problem"] if row["problem"] is not None else row["prompt"], EXCERPT))
    whose = "answer of the majority" if row["graded_by"] == MAJORITY else "gold answer"
    yield Text(f"{whose}: {_line(row['gold'], EXCERPT)}")


def _completion(row: dict, full: bool) -> Iterator:
    from rich.text import Text

    from openrlhf_math.report.table import visible

    outcome = row["outcome"] or "no grade"
    style = {"correct": "green", "ungraded": "yellow"}.get(outcome, "red")
    figures = f"reward {row['reward']:.2f}"
    if row["advantage"] is not None:
        figures += f"  advantage {row['advantage']:+.2f}"
    figures += f"  {row['tokens']} tokens"
    if row["mean_log_prob"] is not None:
        figures += f"  log-prob {row['mean_log_prob']:.3f}"
    if row["truncated"]:
        figures += "  cut off"
    yield Text.assemble(("  ", ""), (f"{row['sample']:>2} {outcome:<9}", style), f" {figures}")
    parts = [
        f"{name.partition('/')[2]} {value + 0:g}"
        for name, value in row.items()
        if name.startswith("reward/") and value is not None
    ]
    if parts:
        yield Text(f"     parts: {', '.join(parts)}")
    if row["reason"]:
        yield Text(f"     {_line(row['reason'], EXCERPT)}", style="yellow")
    text = visible(whole_text(row))
    if full:
        yield from (Text(f"     {line}", style="dim") for line in text.splitlines())
    else:
        yield Text(f"     {_line(text, EXCERPT)}", style="dim")


def _line(text: str | None, most: int) -> str:
    """A text as one line of bounded length: its beginning and its end, which has the answer."""
    from openrlhf_math.report.table import visible

    words = " ".join(visible(text if text is not None else "none").split())
    return words if len(words) <= most else f"{words[: most // 2]} [...] {words[-most // 2 :]}"
