"""`openrlhf-math grpo`: check everything, then train."""

import argparse
import json
import os
import sys
from dataclasses import replace

from openrlhf_math.cli.parsing import shown
from openrlhf_math.colocation import preloaded
from openrlhf_math.errors import UserError

MODEL_FLAG = "--actor.model_name_or_path"
GIVEN = "flags that were given"  # not a flag: what `translate` found


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.cli.model_flags import add_judge_flags
    from openrlhf_math.grpo.flags import build_parser

    parser = build_parser(prog)
    add_judge_flags(parser, "whether an answer is the gold one, where the grader cannot")
    return parser


def translate(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    from openrlhf_math.grpo.flags import keep_upstream_defaults
    from openrlhf_math.training.upstream_flags import GRPO, given_flags, translated, wants_upstream

    words = shown(translated(arguments, parser, GRPO))
    parser.set_defaults(**{GIVEN: given_flags(words)})
    if wants_upstream(words):
        keep_upstream_defaults(parser)
    return words


def run(flat: argparse.Namespace) -> int:
    try:
        return _run(flat)
    finally:
        preloaded.end()


def _run(flat: argparse.Namespace) -> int:
    from openrlhf_math.cli.model_flags import judge_settings
    from openrlhf_math.data import chat_date
    from openrlhf_math.grpo.idle_flags import without_effect
    from openrlhf_math.grpo.rollout.tool_turns import isolation_of
    from openrlhf_math.grpo.settings import as_json, resolve

    given = vars(flat).pop(GIVEN, ())
    judge = judge_settings(flat)
    for flag in [name for name in vars(flat) if name.startswith("judge_")]:
        delattr(flat, flag)
    args = resolve(flat)  # first: it needs no torch, whose import takes seconds
    if judge and (args.reward.remote_url != ["agent"]):
        raise UserError("--judge-base-url: another reward than this package's grades here; leave one of them out")
    args.math = replace(args.math, judge=judge)
    chat_date.of_run(args)  # before the first process that imports for the workers
    for reason, idle in without_effect(given, args).items():
        print(f"No effect: {', '.join(idle)}: {reason}.", file=sys.stderr)
    if args.math.tool:
        isolation_of(args.math.tool)

    from openrlhf_math.checkpoints.folder import CheckpointError
    from openrlhf_math.colocation.layout import check_engine_args, enter_environment
    from openrlhf_math.data.files import write_json
    from openrlhf_math.grpo import inputs
    from openrlhf_math.grpo.advantages import check_estimator
    from openrlhf_math.grpo.curriculum import check_curriculum
    from openrlhf_math.grpo.estimate import print_phases
    from openrlhf_math.grpo.faults import resume
    from openrlhf_math.grpo.faults.stopping import Stopped
    from openrlhf_math.grpo.generation import ENGINE_FLAG, OURS, with_model_defaults
    from openrlhf_math.grpo.inputs import check_plugin_files
    from openrlhf_math.grpo.losses import find_policy_loss
    from openrlhf_math.grpo.plan import print_plan, print_prompt
    from openrlhf_math.grpo.problems.difficulty import read_labels
    from openrlhf_math.grpo.reward_parts import find_part
    from openrlhf_math.grpo.rollout.replay import check_problems, replay_files
    from openrlhf_math.grpo.rollout.teacher import checked_teacher
    from openrlhf_math.modeling.model_folder import check_model, check_weights, recommended_sampling
    from openrlhf_math.modeling.model_kind import check_engine, check_language_model, check_positions, checked_family
    from openrlhf_math.runs.process import claim_run_dir, resume_command, working
    from openrlhf_math.training import lora
    from openrlhf_math.training.flag_checks import check_installed

    environment = enter_environment(args.math.device, args.math.parameters)  # before torch is imported
    if not flat.dry_run:
        preloaded.begin(environment)  # it imports what Ray's workers need while this process checks and reads
    check_estimator(args.algo.advantage.estimator)
    find_policy_loss(args.actor.policy_loss_type)
    for name, _ in args.math.reward_parts.weights if args.math.reward_parts else ():
        find_part(name)
    check_curriculum(args.math.curriculum)
    model = args.actor.model_name_or_path
    check_model(MODEL_FLAG, model)
    check_language_model(MODEL_FLAG, model)
    max_len = args.data.max_len
    check_positions(MODEL_FLAG, model, f"--data.max_len {max_len}", max_len)
    ring, shared_prefix = args.ds.ring_attn_size, args.math.wants_shared_prefix
    family = checked_family(MODEL_FLAG, model, ring, shared_prefix)
    inputs.check_other_models(args)
    check_engine_args(ENGINE_FLAG, args.math.generation.engine_args, OURS)
    with_model_defaults(args, recommended_sampling(MODEL_FLAG, model))
    args.math = replace(args.math, teacher=checked_teacher(args))
    args.math = replace(args.math, lora=lora.look(model, args.ds.lora))
    check_plugin_files(args)
    if args.math.replay:
        replayed = replay_files(args)
        print(f"replay: {len(replayed)} steps of {args.math.replay}, without an engine")
    if flat.dry_run:
        check_weights(MODEL_FLAG, model, may_be_missing=True)
        claim_run_dir(args)
        sets = inputs.load_problem_sets(args) if inputs.can_be_counted(args) else None
        prompts = inputs.render_prompts(args, sets) if sets and os.path.isdir(model) else None
        if sets and prompts:
            inputs.check_rewards(args, sets, prompts)
        if prompts and args.math.replay:
            check_problems(replayed, inputs.training_prompts(args, prompts))
        print_plan(args, inputs.count_prompts(args, sets) if sets else None, family)
        if args.math.device == "cuda":
            print_phases(args, flat.plan_gpu)
        if prompts:
            print_prompt(next(iter(prompts.values()))[0])
        else:
            unread = {model: not os.path.isdir(model), args.data.prompt_dataset: not sets}
            names = [name for name, missing in unread.items() if missing]
            print(f"Note: not read here: {', '.join(names)}; the run checks hub names before Ray starts")
        try:
            resume.check_room(args)
        except UserError as error:  # the run may be for another machine
            print(f"Note: on this machine {error}")
        return 0
    check_installed(args)
    claim_run_dir(args)
    if args.math.lora:
        args.math = replace(args.math, lora=replace(args.math.lora, base=lora.base_digest(model)))
    sets = inputs.load_problem_sets(args)
    prompts = inputs.render_prompts(args, sets)
    inputs.check_rewards(args, sets, prompts)
    if args.math.replay:
        check_problems(replayed, inputs.training_prompts(args, prompts))
    labels = read_labels(args, sets)
    checked_family(MODEL_FLAG, model, ring, shared_prefix, ask_hub=True)
    check_positions(MODEL_FLAG, model, f"--data.max_len {max_len}", max_len, ask_hub=True)
    check_engine(MODEL_FLAG, model, args.math.device)
    args.math = replace(args.math, teacher=checked_teacher(args, ask_hub=True))
    check_weights(MODEL_FLAG, model)
    problems = resume.identity({spec: sets[spec] for spec in resume.training_sets(args)}, labels)
    if args.ckpt.load_enable:
        resume.take_up(args, problems)
    resume.check_room(args)
    args.math.run_dir.mkdir(parents=True, exist_ok=True)
    inputs.write_prompts(args, sets, prompts, labels)
    write_json(args.math.run_dir / "config.json", json.loads(as_json(args)) | {resume.ROWS: problems})

    from openrlhf_math.grpo.driver import train

    command, stops = resume_command(), (KeyboardInterrupt, Stopped)
    try:
        with working("--math.run_dir", args.math.run_dir, command, stops) as beat:
            train(args, beat, go_on=f"resume with: {command}")
    except Stopped as stopped:
        verb = "resume" if stopped.saved else "start again"
        print(f"openrlhf-math grpo: {stopped}; {verb} with: {command}", file=sys.stderr)
        return 128 + stopped.number
    except CheckpointError as error:
        print(f"openrlhf-math grpo: {error}; make room, then: {command}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"openrlhf-math grpo: {error}\nresume with: {command}", file=sys.stderr)
        return 1
    print(f"done: {args.math.run_dir} (model in {args.ckpt.output_dir})")
    return 0
