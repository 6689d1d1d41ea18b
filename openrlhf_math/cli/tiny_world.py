"""`openrlhf-math tiny-world`: write the embedded default to disk."""

import argparse
import os
from pathlib import Path

from openrlhf_math.data.files import claim_directory
from openrlhf_math.errors import UserError, at_least


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Write the synthetic problem set, the teacher's traces and a tiny Qwen2 with random weights.",
    )
    parser.add_argument("directory", type=Path, nargs="?", help="where to; must not exist or be empty")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the same, as in the other commands")
    parser.add_argument(
        "--problems",
        choices=("stories", "products"),
        default="stories",
        help="a running total below ten; or products of numbers of four digits, with traces that call a tool "
        "(%(default)s)",
    )
    parser.add_argument(
        "--size", choices=("tiny", "larger"), default="tiny", help="of the model, 0.8M or 2.2M weights (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of problems, traces and weights (%(default)s)")
    return parser


def run(args: argparse.Namespace) -> None:
    if (args.directory is None) is (args.output is None):
        raise UserError("give a directory, once")
    args.directory = args.directory or args.output
    if args.directory.exists() and (not args.directory.is_dir() or any(args.directory.iterdir())):
        raise UserError(f"{args.directory} is not an empty directory; choose a new one")
    at_least(0, args, "seed")
    claim_directory("--output", args.directory)
    os.environ["DS_ACCELERATOR"] = "cpu"  # Transformers imports DeepSpeed, which would say that it found no GPU
    from transformers.utils import logging

    from openrlhf_math.data.tiny_world import write_products, write_tiny_world

    logging.disable_progress_bar()
    write, first = {"stories": (write_tiny_world, "raw"), "products": (write_products, "traces")}[args.problems]
    write(args.directory, args.seed, larger=args.size == "larger")
    print(f"{args.directory}: model/, {first}.jsonl, train.jsonl, heldout.jsonl")
