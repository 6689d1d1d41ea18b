r"""`openrlhf-math distill`: a teacher writes reasoning traces; those that pass the checks are kept."""

import argparse
import json
import shlex
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.model_flags import (
    add_engine_count,
    add_engine_flags,
    add_request_flags,
    add_tool_flags,
    asked_endpoint,
    check_date_used,
    check_temperature,
    check_template_variables,
    drawn,
    engine_args,
    tool_settings,
    with_tool,
)
from openrlhf_math.errors import UserError
from openrlhf_math.runs.records import read_objects

if TYPE_CHECKING:
    from openrlhf_math.data.prompts import Tokenizer
    from openrlhf_math.distill.settings import DistillSettings

EPILOG = r"""teachers:
  endpoint   any OpenAI-compatible server at --base-url: DeepSeek's, vLLM's, ...
  engine     vLLM on this machine, or --engines of them on the Ray cluster
  recorded   no model is asked: --model is a file or folder of recorded completions, such as runs/grpo/rollouts
  pkg.mod.f  your own: from DistillSettings to a teacher (openrlhf_math.distill.teachers.Teacher)

refused, whatever the answer:
  truncated; no closed <think> (--style think), or other tags than --thinking-tags; no \boxed{} after the thinking,
  or two different ones; text that is repeated over and over; an end-of-sequence token in the middle (at the end
  it is cut off); anything else that `openrlhf-math grade --style` does not call correct format

keep rules, among a problem's correct traces, no text twice; at most --keep-n of them:
  verified   every one
  shortest   the shortest (1)
  longest    the longest (1)
  best       the best (2): fewest flaws of form (the answer boxed twice, <answer> tags, a script the problem is
             not written in), then the shortest
  all        every trace that is not refused, also with a wrong answer; see the column `outcome`
  pkg.mod.f  your own: from (list of Attempt, keep_n or None) to those to keep (openrlhf_math.distill.keep)
`openrlhf-math experiments rules` compares rules at equal training tokens.

what --output holds:
  dataset/       data/train.parquet and README.md, the data card: `datasets.load_dataset` reads the folder
  report.json    counts at each step, yields by source, difficulty and number of attempts
  yield.png      problems solved by the number of attempts, where matplotlib is installed
  verdicts.jsonl every attempt and its verdict
  rejects.jsonl  attempts without a reply, with the reason; asked again by the next run
  journal.jsonl  every reply. Rerun the same command after a kill: recorded replies are not asked again. Replies are
                 written in batches, 0.05 s apart; a kill loses those of the last batch and those in flight
  runs.jsonl     one line a run: what it found, what it asked, failed tries by kind
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.data.prompts import INSTRUCTION

    parser = argparse.ArgumentParser(
        prog=prog,
        description="A teacher writes reasoning traces for problems, several attempts each. They are verified against\n"
        "the gold answers, and the good ones kept as Parquet that `openrlhf-math sft` reads.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--problems", required=True, metavar="SET", help="file, folder or hub name[@config][:split], see docs/data.md")
    add("--output", type=Path, required=True, metavar="DIR", help="directory of the run; give the same one to resume")
    add("--teacher", default="endpoint", metavar="NAME", help="the source of traces, see below (%(default)s)")
    add(
        "--model", required=True, metavar="NAME", help="its name at the endpoint, or for engine a directory or hub name"
    )
    add("--attempts", "--samples", type=int, default=4, metavar="N", help="traces a problem (%(default)s)")
    add("--max-attempts", type=int, metavar="N", help="double the attempts while none is correct, up to N (off)")
    add("--keep", default="verified", metavar="RULE", help="which traces are kept, see below (%(default)s)")
    add("--keep-n", type=int, metavar="N", help="at most N traces of a problem (the rule's own number)")
    add("--questions", default="all", metavar="all|longest:N", help="only the N problems with the longest traces")
    add("--style", choices=("think", "boxed"), default="think", help="the format a trace must have (%(default)s)")
    add(
        "--thinking-tags", default="think", metavar="TAGS",
        help="the teacher's tags in the content: think, thinking, mistral ([THINK]), thought (<|begin_of_thought|>), "
        "or 'OPEN...CLOSE' (%(default)s)",
    )  # fmt: skip
    add("--json", action="store_true", help="print the report as JSON instead of tables")
    add("--dry-run", action="store_true", help="check everything, print what would be asked, ask nothing")

    add = parser.add_argument_group("problems").add_argument
    add("--split", default="train", help="of a folder or hub set (%(default)s)")
    add("--max-problems", type=int, metavar="N", help="only the first N")
    add("--problem-key", metavar="COLUMN", help="of the problem; a field as column.field (by the set's layout)")
    add("--answer-key", metavar="COLUMN", help="of the gold answer (by the set's layout)")
    add("--source-key", default="source", metavar="COLUMN", help="of the source, may be missing (%(default)s)")
    add("--difficulty-key", default="difficulty", metavar="COLUMN", help="may be missing (%(default)s)")
    add(
        "--license-key", "--licence-key", default="license", metavar="COLUMN",
        help="of the licence, may be missing (%(default)s)",
    )  # fmt: skip
    add(
        "--license", "--licence", action="append", default=[], metavar="SOURCE=LICENCE", help="for the card; repeatable"
    )

    add = parser.add_argument_group("sampling").add_argument
    add("--max-tokens", type=int, default=16384, metavar="N", help="token limit of one trace (%(default)s)")
    add("--temperature", type=float, default=0.6, help="0 is greedy (%(default)s)")
    add("--top-p", type=float, default=0.95, help="nucleus sampling (%(default)s)")
    add("--seed", type=int, default=0, help="the seed of every attempt is derived from it (%(default)s)")
    add("--no-seed", action="store_true", help="send none, for endpoints that refuse it")
    add("--instruction", default=INSTRUCTION, help="appended to every problem; '' for none ('%(default)s')")

    add = parser.add_argument_group("endpoint").add_argument
    add("--base-url", metavar="URL", help="up to and with /v1")
    add("--api-key-env", metavar="VARIABLE", help="environment variable that holds the key (OPENAI_API_KEY)")
    add("--concurrency", type=int, metavar="N", help="attempts under way at once (32; 256 an engine)")
    add_request_flags(add)

    add = parser.add_argument_group("engine").add_argument
    add_engine_count(add)
    add("--tensor-parallel", type=int, default=1, metavar="N", help="devices one engine is spread over (%(default)s)")
    add("--max-context", type=int, metavar="N", help="tokens of prompt and completion (the model's)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where engines run (%(default)s)")
    add_tool_flags(parser)
    add_engine_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from openrlhf_math.cli.distill_display import describe, display, show
    from openrlhf_math.distill.distill import distill, plain
    from openrlhf_math.distill.keep import find_rule
    from openrlhf_math.distill.questions import Columns, read_tasks
    from openrlhf_math.distill.teachers import find_teacher
    from openrlhf_math.runs.journal import open_journal

    make_teacher, rule = find_teacher(args.teacher), find_rule(args.keep)
    try:
        settings = read_settings(args)
    except ValueError as error:
        raise UserError(str(error)) from None
    columns = Columns(args.problem_key, args.answer_key, args.source_key, args.difficulty_key, args.license_key)
    tasks = read_tasks(args.problems, args.split, columns, read_licences(args.license), args.max_problems)
    if args.dry_run:
        print(describe(tasks, settings))
        return 0
    with closing(open_journal(settings.output, settings.identity())) as journal:
        command = shlex.join(["openrlhf-math", *sys.argv[1:]])
        teacher = make_teacher(settings)
        with display(len(tasks.asked) * settings.attempts, teacher) as shown:
            report = distill(tasks, settings, rule, teacher, journal, command, shown)
    draw(report, args.output)
    if args.json:
        print(json.dumps(plain(report), indent=2))
    else:
        show(report, args.output)
    lost = report["counts"]["set aside without a reply"]
    if lost:
        print(f"openrlhf-math distill: {lost} attempts have no reply; {reason_of_most(args.output)}", file=sys.stderr)
    if not report["total"].kept:
        print("openrlhf-math distill: no trace was kept; the table says where they were lost", file=sys.stderr)
    return 0 if report["total"].kept else 1


def read_settings(args: argparse.Namespace) -> "DistillSettings":
    """Raises ValueError or UserError for values that cannot work."""
    from openrlhf_math.colocation.layout import find_device
    from openrlhf_math.data.chat_date import checked_date, settle_for
    from openrlhf_math.data.trace import find_tags
    from openrlhf_math.distill.settings import DistillSettings, EngineSettings
    from openrlhf_math.modeling.model_folder import check_chat_model, load_tokenizer

    tool = tool_settings(args)
    if tool and args.teacher != "engine":
        raise UserError("--tool python goes with --teacher engine; add it, or leave --tool out")
    if tool and tool.form == "template":
        raise UserError("--tool-form template: a trace is one turn of the assistant; choose --tool-form block")
    check_date_used(args)
    endpoint = None
    if args.teacher == "endpoint" and not args.base_url:
        raise UserError("--base-url is missing: give the endpoint's address, such as http://127.0.0.1:8000/v1")
    if args.base_url:
        endpoint = asked_endpoint(args, args.base_url, args.api_key_env)
    engine = EngineSettings(
        device=find_device() if args.device == "auto" else args.device,
        engines=args.engines,
        tensor_parallel=args.tensor_parallel,
        max_context=args.max_context,
        concurrency=256 if args.concurrency is None else args.concurrency,
        engine_args=engine_args(args),
    )
    settle_for(args.chat_date, args.output, args.output / "config.json")
    tokenizers: list[Tokenizer] = []
    if args.teacher == "engine":
        check_temperature(args.temperature)
        check_chat_model("--model", args.model, engine.device, args.max_context)
        tokenizers.append(load_tokenizer("--model", args.model, True, "choose a chat model"))
        check_template_variables(args, tokenizers[0])
    if args.teacher == "recorded" and (args.chat_template_kwargs or args.reasoning_effort):
        raise UserError("--chat-template-kwargs and --reasoning-effort: --teacher recorded asks none; leave them out")
    return DistillSettings(
        output=args.output,
        teacher=args.teacher,
        model=args.model,
        attempts=args.attempts,
        most_attempts=args.attempts if args.max_attempts is None else args.max_attempts,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=None if args.no_seed else args.seed,
        instruction=with_tool(args.instruction, tool),
        style=args.style,
        thinking_tags=find_tags(args.thinking_tags),
        keep=args.keep,
        keep_n=args.keep_n,
        questions=read_questions(args.questions),
        endpoint=endpoint,
        engine=engine,
        tool=tool,
        drawn=drawn(args),
        chat_date=checked_date(args.chat_date, args.model, *tokenizers),
    )


def read_licences(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if not all(pair.partition("=")):
            raise UserError(f"--license {pair}: give SOURCE=LICENCE, such as gsm8k=mit")
    return dict(pair.split("=", 1) for pair in pairs)


def read_questions(text: str) -> int | None:
    """How many questions are kept, those with the longest traces; None for all."""
    if text == "all":
        return None
    name, _, number = text.partition(":")
    if name != "longest" or not (number.isascii() and number.isdigit()) or int(number) < 1:
        raise UserError(f"--questions {text}: give all, or longest:N with N of 1 or more")
    return int(number)


def reason_of_most(output: Path) -> str:
    """Why most of the attempts without a reply have none."""
    reasons = Counter(row["reason"] for row in read_objects(output / "rejects.jsonl") if "attempt" in row)
    ((reason, count),) = reasons.most_common(1)
    return f"{count} of them: {reason}"


def draw(report: dict, output: Path) -> None:
    """Draw the yield curve, if that can be done here."""
    from openrlhf_math.distill.yields import plot_yield

    try:
        plot_yield(report["by_attempts"], output / "yield.png")
    except ImportError:
        print("openrlhf-math distill: no yield.png, matplotlib is not installed", file=sys.stderr)
