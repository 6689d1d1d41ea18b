"""`openrlhf-math eval`: pass@1 and token cost of a model on a problem set."""

import argparse
from pathlib import Path

from openrlhf_math.errors import UserError
from openrlhf_math.rewards import RewardConfig


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.grpo.flags import INSTRUCTION

    parser = argparse.ArgumentParser(
        prog=prog,
        description="Sample completions of every problem with vLLM, grade them, and report pass@1 with a 95% interval "
        "and what the answers cost in tokens. Leaves summary.json and completions.jsonl.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="directory or hub name")
    parser.add_argument("--benchmark", required=True, help="JSONL, JSON, CSV or Parquet file, or hub name[@config]")
    parser.add_argument("--output", type=Path, required=True, help="directory for the results; must not hold any yet")
    parser.add_argument("--split", default="test", help="of a hub set")
    parser.add_argument("--problem-key", default="problem", help="column of the problem")
    parser.add_argument("--answer-key", default="answer", help="column of the gold answer")
    parser.add_argument("--max-problems", type=int, help="only the first so many")
    parser.add_argument("--samples", type=int, default=1, help="completions a problem")
    parser.add_argument("--max-tokens", type=int, default=1024, help="token limit of one completion")
    parser.add_argument("--max-context", type=int, help="tokens of prompt and completion the engine is sized for")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus sampling")
    parser.add_argument("--seed", type=int, default=0, help="of sampling and the bootstrap")
    parser.add_argument("--instruction", default=INSTRUCTION, help="appended to every problem; '' for none")
    parser.add_argument("--no-chat-template", action="store_true", help="give the model the bare problem")
    parser.add_argument("--style", choices=("boxed", "think"), default="boxed", help="what correct format is")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the engine runs")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="devices one engine is spread over")
    return parser


def run(args: argparse.Namespace) -> None:
    from openrlhf_math.colocation.layout import enter_environment, find_device
    from openrlhf_math.data.problems import read_problems
    from openrlhf_math.evaluation.settings import EvalSettings
    from openrlhf_math.grpo.inputs import check_model
    from openrlhf_math.grpo.settings import count_parameters

    try:
        settings = EvalSettings(
            model=args.model,
            output=args.output,
            samples=args.samples,
            max_tokens=args.max_tokens,
            temperature=args.temperature,
            top_p=args.top_p,
            seed=args.seed,
            instruction=args.instruction,
            chat_template=not args.no_chat_template,
            device=find_device() if args.device == "auto" else args.device,
            tensor_parallel=args.tensor_parallel,
            max_context=args.max_context,
            rewards=RewardConfig(style=args.style),
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    if (args.output / "summary.json").exists():
        raise UserError(f"--output {args.output} holds another evaluation; choose a new directory or remove it")
    check_model("--model", args.model)
    keys = ("--problem-key", "--answer-key")
    problems = read_problems(args.benchmark, args.problem_key, args.answer_key, args.split, keys)[: args.max_problems]
    if not problems:
        raise UserError(f"--max-problems {args.max_problems} leaves no problem; give 1 or more")

    enter_environment(settings.device, count_parameters(settings.model))
    from openrlhf_math.evaluation.evaluate import evaluate

    show(evaluate(problems, settings), args.output)


def show(summary: dict, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    low, high = summary["ci95"]
    cost = summary["tokens_per_correct"]
    table = Table(title=f"{summary['problems']} problems, {summary['samples']} samples each", show_header=False)
    table.add_row("pass@1", f"{summary['pass_at_1']:.1%}  (95%: {low:.1%} to {high:.1%})")
    table.add_row("tokens a completion", f"{summary['completion_tokens']:.1f}")
    table.add_row("tokens a correct answer", f"{cost:.1f}" if cost else "-")
    table.add_row("cut off at the limit", f"{summary['truncation_rate']:.1%}")
    table.add_row("correct format", f"{summary['format_rate']:.1%}")
    table.add_row("undecided gradings", str(summary["undecided"]))
    table.add_row("sampling, grading", f"{summary['seconds_sampling']:.1f} s, {summary['seconds_grading']:.1f} s")
    console = Console()
    console.print(table)
    for name in ("summary.json", "completions.jsonl"):
        console.print(f"  {output / name}", soft_wrap=True, highlight=False)
