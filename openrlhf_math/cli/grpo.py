"""`openrlhf-math grpo`: check everything, then train."""

import argparse
import sys


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.grpo.flags import build_parser

    return build_parser(prog)


def run(flat: argparse.Namespace) -> int:
    from openrlhf_math.grpo import inputs
    from openrlhf_math.grpo.advantages import find_estimator
    from openrlhf_math.grpo.curriculum import find_curriculum
    from openrlhf_math.grpo.difficulty import read_labels
    from openrlhf_math.grpo.plan import print_plan
    from openrlhf_math.grpo.settings import as_json, resolve

    args = resolve(flat)
    find_estimator(args.algo.advantage.estimator)
    find_curriculum(args.math.curriculum.name)
    inputs.check_model("--actor.model_name_or_path", args.actor.model_name_or_path)
    if flat.dry_run:
        print_plan(args)
        return 0
    inputs.claim_run_dir(args.math.run_dir, resume=args.ckpt.load_enable)
    sets = inputs.load_problem_sets(args)
    inputs.check_prompt_lengths(args, sets)
    labels = read_labels(args, sets)
    args.math.run_dir.mkdir(parents=True, exist_ok=True)
    inputs.write_prompts(args, sets, labels)
    (args.math.run_dir / "config.json").write_text(as_json(args) + "\n")

    from openrlhf_math.grpo.driver import train

    try:
        train(args)
    except RuntimeError as error:
        print(f"openrlhf-math grpo: {error}", file=sys.stderr)
        return 1
    print(f"done: {args.math.run_dir} (model in {args.ckpt.output_dir})")
    return 0
