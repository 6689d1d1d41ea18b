"""`openrlhf-math experiments speed`: the timing of `experiments efficiency` alone."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.errors import UserError

if TYPE_CHECKING:
    from openrlhf_math.evaluation.problem_sets import ProblemSet

EPILOG = """All completions of the problems are generated once, after 32 that are not counted. Starting the engine,
writing and grading are not in the seconds. --output has model, completions, tokens and seconds.
"""


def add_speed(modes: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = modes.add_parser(
        "speed",
        help="seconds that vLLM takes for all completions of a problem set, as `efficiency` measures them",
        description="Time the completions of a model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="directory or hub name")
    add("--benchmark", "--problems", required=True, metavar="SET", help="as `openrlhf-math eval` takes it")
    add("--output", type=Path, required=True, metavar="FILE.json", help="where the figures go")
    add("--split", default="test", help="of a hub set that is not a known benchmark (%(default)s)")
    add("--samples", "--attempts", type=int, metavar="N", help="completions a problem (the benchmark's; 1)")
    add("--max-tokens", type=int, metavar="N", help="token limit of one completion (the context, at most 32768)")
    add("--temperature", type=float, help="0 is greedy (the benchmark's; 0)")
    add("--top-p", type=float, help="nucleus sampling (the benchmark's; 1)")
    add("--prompt", default="chat", metavar="NAME", help="as of `openrlhf-math eval` (%(default)s)")
    add("--instruction", help="appended to every problem; '' for none (the prompt's)")
    add("--seed", type=int, default=0, help="of sampling (%(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the engine runs (%(default)s)")
    add("--tensor-parallel", type=int, default=1, metavar="N", help="devices it is spread over (%(default)s)")


def measure(args: argparse.Namespace) -> None:
    from openrlhf_math.colocation.layout import enter_environment, find_device
    from openrlhf_math.data.files import written_whole
    from openrlhf_math.evaluation.problem_sets import Reading, read_set
    from openrlhf_math.evaluation.prompts import find_prompt, style_of
    from openrlhf_math.evaluation.settings import EvalSettings
    from openrlhf_math.modeling.model_folder import check_model, count_parameters
    from openrlhf_math.rewards import RewardConfig

    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give 0 or more")
    if args.tensor_parallel < 1:
        raise UserError(f"--tensor-parallel {args.tensor_parallel}: give 1 or more")
    if not args.output.parent.is_dir():
        raise UserError(f"--output {args.output}: there is no directory {args.output.parent}")
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a directory; name a file in it")
    style = style_of(find_prompt(args.prompt))
    check_model("--model", args.model)
    settings = EvalSettings(
        model=args.model,
        output=args.output,
        seed=args.seed,
        prompt=args.prompt,
        instruction=style.instruction if args.instruction is None else args.instruction,
        device=find_device() if args.device == "auto" else args.device,
        tensor_parallel=args.tensor_parallel,
        max_context=None,
        parquet=False,
        rewards=RewardConfig(),
    )
    problems = _sampled(read_set(args.benchmark, Reading(split=args.split)), args)
    enter_environment(settings.device, count_parameters(settings.model))
    from openrlhf_math.experiments.speed import time_completions

    summary = time_completions(problems, settings)
    with written_whole(args.output) as file:
        file.write(json.dumps(summary) + "\n")
    print(json.dumps(summary))


def _sampled(problems: "ProblemSet", args: argparse.Namespace) -> "ProblemSet":
    """The problem set, sampled as the flags say."""
    asked = {name: getattr(args, name) for name in ("samples", "max_tokens", "temperature", "top_p")}
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        return replace(problems, sampling=replace(problems.sampling, **asked))
    except ValueError as error:
        raise UserError(str(error)) from None
