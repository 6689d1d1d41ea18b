"""`openrlhf-math sft`: check everything, then fine-tune."""

import argparse


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.distill.sft_settings import build_parser

    return build_parser(prog)


def run(flat: argparse.Namespace) -> None:
    from openrlhf_math.distill.sft_settings import prepare, resolve

    args = resolve(flat)
    prepare(args)

    from openrlhf_math.distill.sft import train

    train(args)
    print(f"done: {args.math.run_dir} (model in {args.ckpt.output_dir})")
