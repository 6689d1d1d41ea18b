"""`openrlhf-math sft`: check everything, then fine-tune."""

import argparse


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.distill.sft_settings import build_parser

    return build_parser(prog)


def run(flat: argparse.Namespace) -> None:
    from openrlhf_math.colocation.layout import enter_environment
    from openrlhf_math.distill.sft_settings import prepare, resolve
    from openrlhf_math.grpo.settings import count_parameters

    args = resolve(flat)
    enter_environment(args.math.device, count_parameters(args.model.model_name_or_path))
    prepare(args)

    from openrlhf_math.distill.sft import train

    train(args)
    print(f"done: {args.math.run_dir} (model in {args.ckpt.output_dir})")
