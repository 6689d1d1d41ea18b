"""`openrlhf-math report`: one page and one Markdown file about runs."""

import argparse
from pathlib import Path

from openrlhf_math.errors import UserError, at_least

EPILOG = """examples:
  openrlhf-math report runs/demo                                        the demo's whole chain
  openrlhf-math report runs/kl0 runs/kl1 --output kl.html               two GRPO runs on the same axes
  openrlhf-math report runs/eval_before runs/grpo runs/eval_after       before and after, with a paired comparison
  openrlhf-math report runs/sft --output sft.html --markdown sft.md

A RUN is the output directory of `grpo`, `sft`, `prm train`, `eval` or `demo`, recognised by its files. Of several
evaluations the first is compared with each that follows. A running run is plotted up to its last step.

The page opens from disk in any browser: no script, nothing from the network. An older report of that name is replaced.
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Draw what runs have left: learning curves, time and memory by phase, evaluations with intervals,\n"
        "completions side by side with their grading, and the settings that differ.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=Path, help="a directory that a command of this project has written")
    add("--output", metavar="FILE.html", type=Path, default=Path("report.html"), help="the page (%(default)s)")
    add("--markdown", metavar="FILE.md", type=Path, help="the tables, too")
    add("--title", help="of the report (made of the runs' names)")
    add("--samples", type=int, default=8, metavar="N", help="problems shown of two evaluations (%(default)s)")
    return parser


def run(args: argparse.Namespace) -> None:
    from openrlhf_math.report.runs import find_runs, short_names

    for flag, path, suffix in (("--output", args.output, ".html"), ("--markdown", args.markdown, ".md")):
        _check_writable(flag, path, suffix)
    at_least(0, args, "samples")
    _check_drawing()
    found = find_runs(args.runs)

    from openrlhf_math.report.report import as_page, opening_of, sections_of, tables_of
    from openrlhf_math.report.table import as_markdown

    title = args.title or _title(short_names(args.runs))
    _write("--output", args.output, as_page(title, sections_of(found, args.samples), opening_of(found)))
    if args.markdown:
        _write("--markdown", args.markdown, as_markdown(title, tables_of(found), opening_of(found)))


def _title(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return "Report of " + ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _check_writable(flag: str, path: Path | None, suffix: str) -> None:
    if path is None:
        return
    if path.suffix != suffix:
        raise UserError(f"{flag} {path} must end in {suffix}")
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: there is no directory {path.parent}")
    if path.is_dir():
        raise UserError(f"{flag} {path} is a directory; name a file in it")


def _check_drawing() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(f"a report needs {error.name}; install it: pip install jinja2 matplotlib") from None


def _write(flag: str, path: Path, text: str) -> None:
    from openrlhf_math.data.files import atomic_write

    try:
        with atomic_write(path) as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{flag} {path} cannot be written: {error.strerror}") from None
    print(f"{path}  ({len(text.encode()) / 1000:,.0f} kB)")
