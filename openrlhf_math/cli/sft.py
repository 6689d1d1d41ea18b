"""`openrlhf-math sft`: check everything, then fine-tune."""

import argparse
import contextlib
import io
import os
from dataclasses import replace

from openrlhf_math.cli.parsing import shown


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.sft.settings import build_parser

    return build_parser(prog)


def translate(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    from openrlhf_math.training.upstream_flags import SFT, translated

    return shown(translated(arguments, parser, SFT))


def run(flat: argparse.Namespace) -> None:
    from functools import partial

    from openrlhf_math.colocation.layout import enter_environment, training_threads
    from openrlhf_math.data import chat_date
    from openrlhf_math.modeling.model_folder import check_model, check_weights
    from openrlhf_math.modeling.model_kind import check_language_model, checked_family
    from openrlhf_math.runs.progress import progress
    from openrlhf_math.sft.inputs import look, prepare
    from openrlhf_math.sft.render import MODEL_FLAG
    from openrlhf_math.sft.settings import is_first, resolve
    from openrlhf_math.training import lora

    args = resolve(flat)
    chat_date.of_run(args)
    model = args.model.model_name_or_path
    if flat.dry_run or args.ds.lora.rank:
        check_model(MODEL_FLAG, model)
    if flat.dry_run:
        from openrlhf_math.sft.launch import print_plan

        check_language_model(MODEL_FLAG, model)
        family = checked_family(MODEL_FLAG, model, args.ds.ring_attn_size)
        enter_environment(args.math.device, args.math.parameters)  # before torch is imported
        args.math = replace(args.math, lora=lora.look(model, args.ds.lora))
        check_weights(MODEL_FLAG, model, may_be_missing=True)
        with contextlib.redirect_stdout(io.StringIO()) as rows:  # a refusal is one sentence, without the plan
            look(args)
        print_plan(args, family)
        print(rows.getvalue(), end="")
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's
    threads = training_threads(args.math.parameters, processes)
    enter_environment(args.math.device, args.math.parameters, threads)
    if found := lora.look(model, args.ds.lora):
        args.math = replace(args.math, lora=replace(found, base=lora.base_digest(model) if is_first() else ""))
    prepare(args, partial(progress, "sft"))

    from openrlhf_math.sft.launch import train

    train(args)
    if is_first():
        print(f"done: {args.math.run_dir} (model in {args.ckpt.output_dir}, the loss in loss.png)")
