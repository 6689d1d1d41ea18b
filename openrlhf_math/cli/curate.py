"""`openrlhf-math curate`: problem sets into one dataset without duplicates or benchmark problems."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.model_flags import add_judge_flags, given_judge
from openrlhf_math.errors import UserError

if TYPE_CHECKING:
    from openrlhf_math.curation.base_rates import BaseRates
    from openrlhf_math.curation.settings import Judge
    from openrlhf_math.curation.summary import Summary
    from openrlhf_math.data.sources import Source

ABOUT = """\
Read problem sets into one schema, filter them, remove duplicates and benchmark problems, and write Parquet with
a data card. OUTPUT/reports lists each removed row. Rerunning the same command continues an interrupted run;
the output is byte-identical."""

PLACES = """\
SET is [NAME=]PLACE:
  PLACE  a file (JSONL, JSON, CSV, TSV, Parquet, Arrow, also .gz or .zst), a folder of them FOLDER[:split],
         or a hub name owner/name[@config][:split]; the split is train if none is named
  NAME   a known set, package.module.function for a reader of your own (a row as a dict -> data.schema.Row),
         or any name for the set
  A known set's NAME alone is its place on the hub. Without NAME, a file is read by its columns.
known sets, with the licence that their cards state:
{sets}
filters, in their order:
{filters}
  A filter of your own is package.module.function (data.schema.Row -> reason to drop it, or "").
of duplicates the first is kept: sets in the order given, files by name, rows in their order.
pass rates of a model, for `grpo --math.curriculum`:
  openrlhf-math eval --model MODEL --benchmark problems.jsonl --samples 8 --temperature 1 --output runs/base
  openrlhf-math curate --source problems.jsonl --pass-rate runs/base --output data/rated"""


def _known(source: "Source") -> str:
    place = f"{source.hub} ({source.licence})" if source.hub else f"a layout: give {source.name}=PLACE"
    return f"  {source.name:<24}  {place}"


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.curation.decontaminate import Overlap
    from openrlhf_math.curation.filters import FILTERS, Limits
    from openrlhf_math.curation.settings import JUDGE_CONCURRENCY, JUDGE_TIMEOUT, NEAR
    from openrlhf_math.data.sources import SOURCES

    limits, overlap = Limits(), Overlap()
    parser = argparse.ArgumentParser(
        prog=prog,
        description=ABOUT,
        epilog=PLACES.format(
            sets="\n".join(_known(one) for one in SOURCES.values()),
            filters="  " + ", ".join(FILTERS),
        ),
    )
    add = parser.add_argument
    add(
        "--source", "--problems", action="append", required=True, metavar="SET",
        help="problems to take; may be repeated",
    )  # fmt: skip
    add("--against", action="append", default=[], metavar="SET", help="drop what is in this set; may be repeated")
    add("--benchmark", action="append", default=[], metavar="SET", help="drop this set's problems and report each")
    add("--output", type=Path, required=True, metavar="DIR", help="directory of the dataset")
    add("--filters", default=",".join(FILTERS), metavar="LIST", help="filters, separated by commas; '' for none (all)")
    for what in ("problem", "answer", "solution", "trace", "difficulty"):
        add(f"--{what}-key", metavar="COLUMN", help=f"column of the {what}, or a field as column.field")
    add("--min-chars", type=int, default=limits.min_chars, metavar="N", help="of a problem (%(default)s)")
    add("--max-chars", type=int, default=limits.max_chars, metavar="N", help="of a problem (%(default)s)")
    add("--language", default=limits.language, choices=("en", "any"), help="of the problems (%(default)s)")
    add(
        "--near",
        type=float,
        default=NEAR,
        metavar="SHARE",
        help="problems with equal golds that differ in more than synonyms, names and spelling are duplicates if at "
        "least this share of their words is equal, 0.7 to 1; 1 merges none of these (%(default)s)",
    )
    add("--ngram", type=int, default=overlap.ngram, metavar="N", help="words a shared run must have (%(default)s)")
    add(
        "--ngram-share",
        type=float,
        default=overlap.share,
        metavar="SHARE",
        help="of a benchmark problem's words that shared runs must cover (%(default)s)",
    )
    add(
        "--drop-other-numbers",
        action="store_true",
        help="also drop rows that share the words of a benchmark problem but have other numbers or opposites",
    )
    add("--keep-duplicates", action="store_true", help="remove no duplicates, within the sources or of --against")
    add(
        "--pass-rate",
        type=Path,
        metavar="RUN",
        help="only add the columns pass_rate and attempts, from this output of `openrlhf-math eval`, to the rows of "
        "one set: OUTPUT/problems.jsonl",
    )
    add("--licence", "--license", action="append", default=[], metavar="NAME=LICENCE", help="of a set, for the card")
    add("--workers", type=int, metavar="N", help="processes through Ray Data; 0 for none (all cores)")
    add("--json", action="store_true", help="print the counts as JSON")
    what = "whether a row like a benchmark problem is that problem, and is dropped"
    add_judge_flags(parser, what, JUDGE_CONCURRENCY, JUDGE_TIMEOUT)
    return parser


def run(args: argparse.Namespace) -> None:
    if args.pass_rate:
        add_pass_rates(args)
        return
    from openrlhf_math.curation.decontaminate import Overlap
    from openrlhf_math.curation.filters import Limits
    from openrlhf_math.curation.pipeline import Workers
    from openrlhf_math.curation.pipeline import run as run_plan
    from openrlhf_math.curation.plan import find
    from openrlhf_math.curation.settings import CurationSettings
    from openrlhf_math.data.sources import Columns
    from openrlhf_math.runs.progress import progress as show_progress

    if args.workers is not None and args.workers < 0:
        raise UserError(f"--workers is {args.workers}, it must be 0 or more")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file; give the name of a directory")
    try:
        settings = CurationSettings(
            sources=tuple(args.source),
            against=tuple(args.against),
            benchmarks=tuple(args.benchmark),
            filters=tuple(name for name in args.filters.split(",") if name),
            columns=Columns(args.problem_key, args.answer_key, args.solution_key, args.trace_key, args.difficulty_key),
            limits=Limits(args.min_chars, args.max_chars, args.language),
            overlap=Overlap(args.ngram, args.ngram_share, args.drop_other_numbers),
            licences=tuple(_licence(one) for one in args.licence),
            keep_duplicates=args.keep_duplicates,
            near=args.near,
            judge=read_judge(args),
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    workers = Workers(args.workers)
    try:
        with show_progress() as progress:
            plan = find(settings, progress)
            summary = run_plan(plan, args.output, workers, progress)
    except OSError as error:
        raise UserError(f"--output {args.output} cannot be written: {error.strerror or error}") from error
    finally:
        workers.close()
    for broken in plan.broken:
        if broken["row"] is None:
            _warn(f"{broken['file']} was set aside: {broken['reason']}")
    if args.json:
        print(json.dumps(summary.result() | {"seconds": summary.seconds, "elapsed": summary.elapsed}))
    else:
        show(summary, args.output, args.judge_model)


def read_judge(args: argparse.Namespace) -> "Judge | None":
    """The settings of the judge, None for none. Raises UserError for values that cannot work."""
    given = given_judge(args)
    if given is None:
        return None
    from openrlhf_math.curation.judge import endpoint_settings
    from openrlhf_math.curation.settings import Judge

    judge = Judge(**given)
    endpoint_settings(judge)
    return judge


def add_pass_rates(args: argparse.Namespace) -> None:
    from openrlhf_math.curation.base_rates import add_base_rates

    if len(args.source) > 1 or args.against or args.benchmark or args.judge_base_url:
        raise UserError("--pass-rate adds a column to the rows of one --source and changes nothing else; curate before")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file; give the name of a directory")
    try:
        added = add_base_rates(args.pass_rate, args.source[0], args.problem_key, args.output)
    except OSError as error:
        raise UserError(f"--output {args.output} cannot be written: {error.strerror or error}") from error
    if args.json:
        result = {"rated": len(added.rates), "missing": added.missing, "ungraded": added.ungraded}
        print(json.dumps(result | {"pass_rates": dict(added.histogram()), "path": str(added.path)}))
        return
    show_rates(added)


def show_rates(added: "BaseRates") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("solved", "problems")
    table.columns[1].justify = "right"
    for name, count in added.histogram():
        table.add_row(name, f"{count:,}" if count else "")
    console.print(table)
    if added.missing:
        _warn(f"{added.missing:,} problems are not in the run: their pass_rate is null")
    if added.ungraded:
        _warn(f"{added.ungraded:,} completions could not be graded and count as wrong")
    console.print(f"  {added.path}", soft_wrap=True, highlight=False)


def _licence(text: str) -> tuple[str, str]:
    name, equals, licence = text.partition("=")
    if not (name and equals and licence):
        raise ValueError(f"--licence is '{text}', it must be NAME=LICENCE")
    return name, licence


def _warn(text: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def show(summary: "Summary", output: Path, judge: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from openrlhf_math.curation.summary import benchmark_table

    console = Console()
    table = Table("step", "dropped", "left")
    for column in table.columns[1:]:
        column.justify = "right"
    before = summary.rows
    for name, left in summary.steps:
        table.add_row(name, f"{before - left:,}" if before - left else "", f"{left:,}")
        before = left
    console.print(table)
    if summary.benchmarks:
        head, rows = benchmark_table(summary.benchmarks, summary.contaminated, summary.judged)
        benchmarks = Table(*head)
        for column in benchmarks.columns[1:]:
            column.justify = "right"
        for row in rows:
            benchmarks.add_row(*row)
        console.print(benchmarks)
    if judged := summary.judged:
        console.print(
            f"{judged['pairs']:,} suspects were judged by {judge}: {judged['same']:,} dropped, "
            f"{judged['different']:,} are another problem, {judged['unjudged']:,} have no verdict",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if summary.suspects:
        like = "1 row is" if summary.suspects == 1 else f"{summary.suspects:,} rows are"
        console.print(f"{like} like a benchmark problem and stayed: suspects.jsonl")
    if summary.elapsed:
        rate = summary.rows / summary.elapsed
        console.print(f"{summary.rows:,} rows in {summary.elapsed:.1f} s, {rate:,.0f} a second", highlight=False)
        steps = [(name, taken) for name, taken in summary.seconds.items() if not name.startswith("stage: ")]
        rates = ", ".join(f"{name} {summary.rows / taken:,.0f}" for name, taken in steps if taken > 0)
        console.print(f"rows a second of one worker: {rates}", highlight=False, soft_wrap=True)
    else:
        console.print("it was complete already")
    for name in ("README.md", "data", "reports"):
        console.print(f"  {output / name}", soft_wrap=True, highlight=False)
