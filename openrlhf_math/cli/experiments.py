"""`openrlhf-math experiments`: the poster's figures in miniature, on the embedded default.

An experiment writes its figure, its tables in Markdown and JSON, and the commands that made it.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.files import atomic_write, write_json
from openrlhf_math.errors import UserError, at_least
from openrlhf_math.report.table import as_markdown
from openrlhf_math.runs.records import finite

if TYPE_CHECKING:
    from openrlhf_math.experiments.settings import Settings

WHAT = {
    "kl": "KL coefficients: learning curve, held-out accuracy, peak memory, seconds a step",
    "efficiency": "accuracy, completion length and inference speed before and after GRPO",
    "curriculum": "tokens and steps to an accuracy, by the order of the problems",
    "rerank": "pass@1, maj@k, weighted@k and best-of-k by the number of attempts k",
    "rules": "held-out accuracy by the rule that keeps a teacher's traces, at equal training tokens",
    "mismatch": "GRPO with perturbed weights in the engine, with and without rollout correction",
    "tool": "GRPO with Python as a tool and without, on products that the model cannot compute itself",
    "teacher": "on-policy distillation from a larger tiny model, compared with GRPO and SFT on its traces",
}
# What each does without flags, and with --quick: enough to see that all works, too little to show anything.
FULL: dict[str, dict[str, Any]] = {
    "kl": {"seeds": 3, "steps": 25, "coefficients": [0.0, 0.001, 0.01, 0.1]},
    "efficiency": {"seeds": 3, "steps": 80, "repeats": 3},
    "curriculum": {"seeds": 3, "steps": 80},
    "rerank": {"seeds": 3, "steps": 60, "attempts": 16},
    "rules": {"seeds": 3, "problems": 2000, "attempts": 8},
    "mismatch": {"seeds": 3, "steps": 25, "noise": 0.2},
    "tool": {"seeds": 3, "steps": 24},
    "teacher": {"seeds": 3, "steps": 24},
}
QUICK: dict[str, dict[str, Any]] = {
    "kl": {"seeds": 1, "steps": 4, "coefficients": [0.0, 0.1]},
    "efficiency": {"seeds": 1, "steps": 4, "repeats": 1},
    "curriculum": {"seeds": 1, "steps": 8},
    "rerank": {"seeds": 1, "steps": 4, "attempts": 4},
    "rules": {"seeds": 1, "problems": 300, "attempts": 4},
    "mismatch": {"seeds": 1, "steps": 4, "noise": 0.2},
    "tool": {"seeds": 1, "steps": 4},
    "teacher": {"seeds": 1, "steps": 4},
}
HELP = {
    "seeds": "how many, from 0 on; each has its own problems, student and runs",
    "steps": "of every GRPO run",
    "coefficients": "of KL; 0 has no reference model",
    "repeats": "how often completions are timed before and after, alternately",
    "attempts": "at each held-out problem; of `rules`, the teacher's at each training problem",
    "problems": "training problems that the teacher is asked",
    "noise": "standard deviation of the engine's weights around the trainer's, relative",
}
EPILOG = """examples:
  openrlhf-math experiments kl
  openrlhf-math experiments efficiency --seeds 5 --run-dir runs/five
  openrlhf-math experiments rerank --attempts 32
  openrlhf-math experiments kl --quick --run-dir runs/quick                    a quick check
  openrlhf-math experiments speed --model MODEL --benchmark problems.jsonl --samples 4 --temperature 1 \\
      --output speed.json

--run-dir has, for each experiment, a folder with its name:
  NAME.png, NAME.svg    the figure
  NAME.md, NAME.json    the table, and all data of the figure
  commands.txt          the exact commands, one after the other
and seed_N/ with their files. Finished stages are not repeated: a killed experiment resumes, and experiments in
one directory share students and runs.
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Repeat the poster's experiments with a tiny Qwen and synthetic problems, several seeds each, on\n"
        "a CPU: one command from random weights to a figure and a table with intervals.",
        epilog=EPILOG,
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="EXPERIMENT")
    for name, what in WHAT.items():
        _add_experiment(modes.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}."), name)
    _add_speed(modes)
    return parser


def _add_experiment(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--run-dir", "--output", type=Path, default=Path("runs/experiments"), help="where its files go (%(default)s)"
    )
    for setting, value in FULL[name].items():
        several = isinstance(value, list)
        default = " ".join(f"{one:g}" for one in value) if several else value
        parser.add_argument(
            f"--{setting.replace('_', '-')}", type=type(value[0] if several else value),
            nargs="+" if several else None, metavar="KL" if several else "N", help=f"{HELP[setting]} ({default})",
        )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="one seed and few steps: a smoke test whose figures mean nothing"
    )


def run(args: argparse.Namespace) -> int:
    if args.mode == "speed":
        _measure(args)
        return 0
    from openrlhf_math.experiments.settings import Settings

    given = {name: getattr(args, name) for name in FULL[args.mode] if getattr(args, name) is not None}
    values = (QUICK if args.quick else FULL)[args.mode] | given
    if "coefficients" in values:
        values["coefficients"] = tuple(values["coefficients"])
    settings = Settings(run_dir=args.run_dir, **values)
    _check_drawing()
    return _experiment(args.mode, settings)


def _experiment(name: str, settings: "Settings") -> int:
    import importlib

    from openrlhf_math.cli import experiment_runs
    from openrlhf_math.cli.stages import Stages, failed_command

    stages = Stages(settings.run_dir)
    try:
        summary = getattr(experiment_runs, f"run_{name}")(stages, settings)
    except subprocess.CalledProcessError as error:
        print(
            f"openrlhf-math experiments: '{failed_command(error)}' failed, its message is above; the same command "
            "resumes from what is done",
            file=sys.stderr,
        )
        return 1
    finally:
        stages.close()
    experiment = importlib.import_module(f"openrlhf_math.experiments.{name}")
    folder = settings.run_dir / name
    write_results(folder, experiment, summary, [_command(name, settings), *stages.commands], stages.seconds)
    _show(experiment.tables(summary), folder, stages.seconds)
    return 0


def _command(name: str, settings: "Settings") -> list[str]:
    """The experiment itself, with what was left to defaults written out."""
    words = ["experiments", name]
    for setting in ("run_dir", *FULL[name]):
        value = getattr(settings, setting)
        texts = [f"{one:g}" for one in value] if isinstance(value, tuple) else [str(value)]
        words += [f"--{setting.replace('_', '-')}", *texts]
    return words


def _show(tables: list, folder: Path, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for table in tables:
        shown = Table(title=Text(table.title))
        for column in table.header:
            shown.add_column(Text(column))
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
        console.print(Text(table.note))
    console.print(f"{seconds / 60:.1f} minutes of commands", highlight=False)
    for file in sorted(folder.iterdir()):
        console.print(f"  {file}", soft_wrap=True, highlight=False)


def _check_drawing() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("the figures need matplotlib; install it: pip install matplotlib") from None


COMMANDS = "commands.txt"
ABOUT_COMMANDS = "# In the order they ran; tiny-teacher serves, at the address of --base-url, while distill runs.\n"


def write_results(
    folder: Path, experiment: ModuleType, found: Any, commands: Sequence[Sequence[str]], seconds: float
) -> None:
    """Write NAME.png, .svg, .md, .json and commands.txt into `folder`, where NAME is the folder's.

    experiment: kl, efficiency, ...; found: its `Findings`. commands: arguments of ours, first the
    experiment itself, then what it ran. seconds: that all of them took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / folder.name
    experiment.draw(found, stem)
    with atomic_write(stem.with_suffix(".md")) as file:
        file.write(as_markdown(experiment.TITLE, experiment.tables(found)))
        file.write(f"\n![{experiment.TITLE}]({stem.name}.png)\n")
    write_json(stem.with_suffix(".json"), finite(asdict(found)) | {"seconds_of_all_commands": round(seconds)})
    with atomic_write(folder / COMMANDS) as file:
        file.write(ABOUT_COMMANDS)
        file.writelines(f"{shlex.join(['openrlhf-math', *command])}\n" for command in commands)


# `experiments speed`: the timing of `experiments efficiency` alone.
SPEED_EPILOG = """All completions of the problems are generated once, after 32 that are not counted. Starting
the engine, writing and grading are not in the seconds. --output has model, completions, tokens and seconds.
"""


def _add_speed(modes: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = modes.add_parser(
        "speed",
        help="seconds that vLLM takes for all completions of a problem set, as `efficiency` measures them",
        description="Time the completions of a model.",
        epilog=SPEED_EPILOG,
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


def _measure(args: argparse.Namespace) -> None:
    from openrlhf_math.colocation.layout import enter_environment, find_device
    from openrlhf_math.evaluation.problem_sets import Reading, read_set, sampled
    from openrlhf_math.evaluation.prompts import find_prompt, style_of
    from openrlhf_math.evaluation.settings import EvalSettings
    from openrlhf_math.modeling.model_folder import check_model, count_parameters
    from openrlhf_math.rewards import RewardConfig

    at_least(0, args, "seed")
    at_least(1, args, "tensor_parallel")
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
    asked = {name: getattr(args, name) for name in ("samples", "max_tokens", "temperature", "top_p")}
    asked = {name: value for name, value in asked.items() if value is not None}
    problems = sampled(read_set(args.benchmark, Reading(split=args.split)), {}, asked)
    enter_environment(settings.device, count_parameters(settings.model))
    from openrlhf_math.evaluation.evaluate import time_completions

    summary = time_completions(problems, settings)
    with atomic_write(args.output) as file:
        file.write(json.dumps(summary) + "\n")
    print(json.dumps(summary))
