"""`openrlhf-math vote`: every choosing rule over recorded attempts, offline."""

import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.grade import add_keys, keys_of
from openrlhf_math.data.tables import Keys
from openrlhf_math.errors import UserError, at_least, in_flags
from openrlhf_math.rerank.aggregate import AGGREGATIONS, find_aggregation
from openrlhf_math.rerank.choose import RULES, asks, find_rule, needs_confidence, needs_scores
from openrlhf_math.rerank.confidence import MEASURES, measured
from openrlhf_math.rerank.early_stop import cannot_lose, confident
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.progress import counted

if TYPE_CHECKING:
    from rich.table import Table

    from openrlhf_math.evaluation.recorded import Judged

EPILOG = """rows:
  {"problem": "1+1?", "gold": "2",
   "responses": ["\\\\boxed{2}", "\\\\boxed{3}", null],
   "scores": [[0.9, 0.8], [0.7], null], "tokens": [120, 80, 95],
   "confidence": [14.1, 9.7, null]}

  `responses` are one problem's attempts, null for one that failed. `scores`, if there are any, has for each a number,
  or a list of step scores; null, NaN, infinity and an empty list count as the lowest score and are reported. They are
  probabilities if all in the file are from 0 to 1, else logits, of which `weighted` takes the softmax. `tokens`,
  if there are any, has for each what it cost. `confidence`, if there is any, has for each how sure the model was: a
  number, 0 or more, or the figures by name that `eval --record-confidence` writes. `problem` helps where answers refer
  to it (multiple choice).

rules, over clusters of equal answers; a tie goes to what came first:
  majority            the cluster with most attempts
  weighted            the cluster with the largest sum of scores
  best_of_n           the attempt with the highest score
  weighted_best_of_n  the best attempt of the cluster with the largest sum: the answer of `weighted`
  chairman            the majority if it is clear, else the best-scored attempt among the leading clusters
  confident           the cluster with the largest sum of confidences; once for each --keep-confident
  package.module.function   your own: (clusters, scores) to the number of the chosen attempt, or None

aggregations: last, min, product, mean, or your own as package.module.function, from step scores to a number

exit codes: 0 done, 2 bad input
"""


# Default shares of the attempts that vote; DeepConf has 0.9 and 0.1.
KEEP = (1.0, 0.9, 0.5, 0.1)
SIGNIFICANT = 0.05


def build_parser(prog: str) -> argparse.ArgumentParser:
    default = RewardConfig()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Apply every choosing rule to recorded attempts: accuracy by the number of attempts k,\n"
        "with pass@1 and pass@k, and the savings of a vote that stops early. Equal answers vote\n"
        "together in any spelling. No model is loaded.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="one problem with its attempts a row, or one attempt a row as `grade` and `eval` write it: JSONL, a JSON\n"
        "array, CSV or Parquet, also .gz or .zst; or a folder of such, as the rollouts of `grpo`",
    )
    add_keys(parser)
    parser.add_argument(
        "--rule", action="append", metavar="NAME", help="choosing rule; may be repeated (all that apply)"
    )
    parser.add_argument("--aggregate", action="append", metavar="NAME", help="of step scores; may be repeated (all)")
    parser.add_argument(
        "--keep-confident", type=float, action="append", metavar="P",
        help="only this share of the attempts with an answer votes, the most confident; may be repeated "
        f"({', '.join(map(str, KEEP))})",
    )  # fmt: skip
    parser.add_argument(
        "--confidence-measure",
        choices=list(MEASURES),
        action="append",
        help="how confidence is measured; may be repeated (tail)",
    )
    parser.add_argument("--subsets", type=int, default=32, help="random subsets of k attempts (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the subsets and the bootstrap (%(default)s)")
    parser.add_argument(
        "--confidence", type=float, default=0.95, help="of a majority vote that stops early (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="accuracy against k, also .svg and .pdf")
    parser.add_argument(
        "--style", choices=["boxed", "think"], default=default.style, help="where the answer is (%(default)s)"
    )
    parser.add_argument("--accept-expressions", action="store_true", help=r"let \boxed{2+3} count where the gold is 5")
    parser.add_argument(
        "--timeout", type=float, default=default.timeout_seconds, help="seconds a comparison (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=default.workers, help="grading processes (%(default)s)")
    return parser


def run(args: argparse.Namespace) -> None:
    from openrlhf_math.evaluation.voting import report

    with in_flags(timeout_seconds="--timeout"):
        stops = {"cannot lose": cannot_lose, f"leads with {args.confidence:.4g} confidence": confident(args.confidence)}
        config = RewardConfig(
            style=args.style,
            accept_expressions=args.accept_expressions,
            timeout_seconds=args.timeout,
            workers=args.workers,
        )
    if args.subsets < 1:
        raise UserError(f"--subsets {args.subsets}: give at least 1")
    at_least(0, args, "seed")
    keep = args.keep_confident or KEEP
    for share in keep:
        if not 0 < share <= 1:
            raise UserError(f"--keep-confident {share}: give more than 0 and at most 1")
    _check_plot(args.plot)
    rules = {name: find_rule(name) for name in args.rule or RULES}
    asking = [name for name, rule in rules.items() if asks(rule)]
    if args.rule and asking:
        raise UserError(f"--rule {asking[0]}: it asks a model, which vote does not load; use it in solve or serve.")
    rules = {name: rule for name, rule in rules.items() if name not in asking}
    aggregations = {name: find_aggregation(name) for name in args.aggregate or AGGREGATIONS}

    problems = _judged(_rows(args.file, keys_of(args)), config)
    if not problems:
        raise UserError(f"{args.file} has no rows; give at least one problem with its attempts.")
    if not any(one.answer_clusters for one in problems):
        raise UserError(f"{args.file} has no attempts: all its `responses` are empty.")
    without = next((one.place for one in problems if one.scores is None), None)
    asked = [name for name, rule in rules.items() if needs_scores(rule)]
    if without and args.rule and asked:
        raise UserError(f"{without} has no `scores`, which --rule {asked[0]} needs; add them, or leave the rule out.")

    unsure = next((one.place for one in problems if one.confidence is None), None)
    asked = [f"--rule {name}" for name in args.rule or () if needs_confidence(rules[name])]
    asked += [f"--{name}" for name in ("keep-confident", "confidence-measure") if getattr(args, name.replace("-", "_"))]
    if unsure and asked:
        raise UserError(f"{unsure} has no `confidence`, which {asked[0]} needs; add it, or leave that out.")
    measures = args.confidence_measure or ["tail"]
    unknown = next((name for name in measures if not any(_measured(one, name) for one in problems)), None)
    if unknown and asked and not unsure:
        raise UserError(f"{args.file}: no `confidence` has the figure of {unknown}, which {asked[0]} needs; give "
                        "another --confidence-measure, or leave that out.")  # fmt: skip
    entries = _entries(rules, aggregations, scored=not without)
    entries += [] if unsure or unknown else _confident_entries(rules, measures, keep)
    if not entries:
        raise UserError("no rule can be applied to these rows; give another --rule.")
    summary = report(problems, entries, stops, args.subsets, args.seed)
    if args.plot:
        _plot(summary, args.plot)
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        _show(summary, f"{without} has no `scores`: rules that read scores are left out" if without else "")


def _rows(path: Path, keys: Keys) -> Iterable:
    """Problems with their attempts; rows of one attempt each are put together by problem."""
    from openrlhf_math.data.problems import completion_rows
    from openrlhf_math.evaluation.outside import read_completions
    from openrlhf_math.evaluation.recorded import read_recorded

    first = next((keys.renamed(row) for _, row in completion_rows(str(path))), {})
    if {"gold", "responses"} <= first.keys():
        return read_recorded(path, keys)
    return read_completions(path, keys, flag="")


def _entries(rules: dict, aggregations: dict, scored: bool) -> list:
    from openrlhf_math.evaluation.voting import Entry

    entries = []
    for name, rule in rules.items():
        if needs_confidence(rule):
            continue
        if not needs_scores(rule):
            entries.append(Entry(name, rule, None))
        elif scored:
            entries += [Entry(f"{name}, {how}", rule, function) for how, function in aggregations.items()]
    return entries


def _confident_entries(rules: dict, measures: list[str], keep: Iterable[float]) -> list:
    from openrlhf_math.evaluation.voting import Entry

    return [
        Entry(f"{name}, {measure}" + (f", top {share:.4g}" if share < 1 else ""), rule, None, measure, share)
        for name, rule in rules.items()
        if needs_confidence(rule)
        for measure in dict.fromkeys(measures)
        for share in dict.fromkeys(keep)
    ]


def _measured(judged: "Judged", measure: str) -> bool:
    """Whether the confidence in an attempt is known."""
    return any(number is not None for number in measured(judged.confidence or (), measure))


def _judged(rows: Iterable, config: RewardConfig) -> list:
    from openrlhf_math.evaluation.recorded import judge_all

    judged = []
    with closing(GradingPool(config)) as pool, counted("problems graded") as advance:
        for one in judge_all(rows, pool):
            judged.append(one)
            advance()
    return judged


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot {path} must end in .png, .svg or .pdf.")
    if not path.parent.is_dir():
        raise UserError(f"--plot {path}: there is no directory {path.parent}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("--plot needs matplotlib; install it, or leave --plot out.") from None


def _plot(summary: dict, path: Path) -> None:
    from openrlhf_math.evaluation.voting import draw

    try:
        draw(summary, path)
    except OSError as error:
        raise UserError(f"--plot {path} cannot be written: {error.strerror}.") from None
    print(f"accuracy against k is drawn in {path}", file=sys.stderr)


def _show(summary: dict, note: str) -> None:
    from rich.console import Console

    console = Console()
    console.print(_accuracy_table(summary))
    if paired := _paired_table(summary):
        console.print(paired)
    console.print(_early_stop_table(summary))
    for line in [*_notes(summary), *([note] if note else [])]:
        console.print(line, highlight=False, markup=False)


def _accuracy_table(summary: dict) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    ks = summary["ks"]
    title = f"Accuracy in %, {summary['problems']:,} problems, k attempts take part"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("k", no_wrap=True)
    for heading in [*map(str, ks), f"95% at {ks[-1]}"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in [("pass@1", summary["pass@1"]), *summary["rules"].items(), ("pass@k", summary["pass@k"])]:
        low, high = row["interval"]
        shares = [f"{100 * share:.1f}" for share in row["accuracy"]]
        blanks = [""] * (len(ks) - len(shares))
        table.add_row(Text(name), *shares, *blanks, f"{100 * low:.1f} to {100 * high:.1f}")
    return table


def _paired_table(summary: dict) -> "Table | None":
    """None where nothing is compared."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    ks = summary["ks"]
    title = f"Points from the majority, the same problems; *: p < {SIGNIFICANT}"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("k", no_wrap=True)
    for heading in map(str, ks):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in summary["rules"].items():
        if against := row["from_majority"]:
            pairs = zip(against["difference"], against["p"], strict=True)
            points = [f"{100 * moved:+.1f}{'*' if p < SIGNIFICANT else ' '}" for moved, p in pairs]
            table.add_row(Text(name), *points)
    return table if table.row_count else None


def _early_stop_table(summary: dict) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="A majority vote that stops early", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("when the leader")
    for heading in ("accuracy", "attempts made", "of", "tokens saved"):
        table.add_column(heading, justify="right")
    for name, row in summary["early_stop"].items():
        numbers = f"{row['accuracy']:.1%}", f"{row['attempts']:.1f}", f"{row['planned']:.1f}", f"{row['saved']:.1%}"
        table.add_row(name, *numbers)
    return table


def _notes(summary: dict) -> list[str]:
    """What the reader must know to trust the numbers."""
    of_all = f"of {summary['attempts']:,} attempts"
    notes = {
        "unanswered": f"{of_all} have no answer: they are in no cluster and are never chosen",
        "ungraded": f"{of_all} could not be graded within the limits, or against their gold: they count as wrong",
        "unscored": f"{of_all} have a score that is not a number: they count as the lowest of their problem",
        "kept_apart": "pairs of answers could not be compared within the limits: they vote apart",
    }
    lines = [f"{summary[name]:,} {text}" for name, text in notes.items() if summary[name]]
    if summary["fewest_attempts"] < summary["ks"][-1]:
        lines.append("problems with fewer attempts than k take all they have")
    return lines
