"""The flags of `openrlhf-math grpo`: all of OpenRLHF's `train_ppo_ray`, with the recipe's defaults, and ours."""

import argparse
from typing import Any

from openrlhf_math.data.prompts import INSTRUCTION
from openrlhf_math.grpo.curriculum_settings import CurriculumSettings
from openrlhf_math.grpo.faults.watchdog import PHASE_SECONDS, FaultSettings
from openrlhf_math.grpo.generation import ENGINE_FLAG, MOST, STOP_FLAG
from openrlhf_math.grpo.generation import HELP as OVERLAP_HELP
from openrlhf_math.grpo.gpus import GPUS
from openrlhf_math.grpo.objective import AGGREGATIONS, CONSTANT_LENGTH, RECIPES, SAPO_TAU
from openrlhf_math.grpo.objective import FLAGS as OF_A_RECIPE
from openrlhf_math.grpo.objective import HELP as RECIPE_HELP
from openrlhf_math.grpo.problems.completion_limit import TRUNCATED, LimitSettings
from openrlhf_math.grpo.reward_parts import EACH, TOGETHER
from openrlhf_math.grpo.reward_parts import HELP as REWARD_HELP
from openrlhf_math.grpo.rollout import tool_turns
from openrlhf_math.grpo.rollout.tool_turns import RolloutTool
from openrlhf_math.grpo.update.rollout_correction import CHOICES as CORRECTIONS
from openrlhf_math.grpo.update.rollout_correction import DEFAULT_ESS
from openrlhf_math.grpo.update.rollout_correction import HELP as CORRECTION_HELP
from openrlhf_math.grpo.update.rollout_correction import UPSTREAM as OF_A_CORRECTION
from openrlhf_math.grpo.upstream_help import HELP
from openrlhf_math.patches.parsers import load_parser, recipe_parser
from openrlhf_math.tools.code_blocks import FORMS
from openrlhf_math.tools.isolation import WANTED
from openrlhf_math.training import short_help
from openrlhf_math.training.flag_checks import WANDB_FLAG, WANDB_HELP, add_template_flags, json_object

UPSTREAM_COMMAND = "openrlhf.cli.train_ppo_ray"
# What comes first in the help.
NEEDED = (
    "actor.model_name_or_path", "data.prompt_dataset", "data.input_key", "data.label_key", "math.run_dir",
    "math.device", "math.recipe", "rollout.batch_size", "rollout.n_samples_per_prompt", "rollout.max_new_tokens",
    "data.max_len", "actor.adam.lr", "train.num_episodes", "eval.dataset", "eval.steps", "ckpt.load_enable", "dry_run",
)  # fmt: skip

# Defaults of every recipe; those of the objective are in objective.py.
RECIPE = {
    "rollout.n_samples_per_prompt": 8,
    "rollout.batch_size": 16,
    "data.input_key": "problem",
    "data.label_key": "answer",
    "vllm.gpu_memory_utilization": 0.6,
}
SWITCHED_ON = ("train.colocate_all", "data.apply_chat_template", "vllm.enable_prefix_caching")

# Worked out from the others, the device and the run directory when the user does not give them.
COMPUTED = (
    "train.batch_size",
    "train.micro_batch_size",
    "rollout.micro_batch_size",
    "actor.num_gpus_per_node",
    "ref.num_nodes",
    "ref.num_gpus_per_node",
    "critic.num_nodes",
    "critic.num_gpus_per_node",
    "reward.num_nodes",
    "reward.num_gpus_per_node",
    "vllm.num_engines",
    "vllm.enable_sleep",
    "ds.enable_sleep",
    "ds.attn_implementation",
    "train.max_tokens_per_gpu",
    "ckpt.path",
    "ckpt.save_steps",
    "ckpt.output_dir",
    "logger.tensorboard_dir",
    "logger.wandb.run_name",
    "algo.dynamic_filtering_range",
    "actor.eps_clip",
    "eval.temperature",
    *OF_A_RECIPE,
    *OF_A_CORRECTION,
)
OF_A_SIZE = ("batch_size", "num_nodes", "num_gpus_per_node", "max_tokens_per_gpu", "ckpt.save_steps")
COMPUTED_SWITCHES = (
    "vllm.enable_sleep",
    "ds.enable_sleep",
    "algo.kl.use_loss",
    "algo.dynamic_filtering_enable",
)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """OpenRLHF's own parser, extended. Raises PatchError if upstream is missing or another version."""
    parser = recipe_parser(
        UPSTREAM_COMMAND,
        prog,
        "Train a policy with reference-free GRPO. Every flag of openrlhf.cli.train_ppo_ray keeps its name and "
        "meaning; the recipe's values are defaults, and --no-FLAG turns off what the recipe turns on. "
        "After a kill, the same command with --resume resumes. --help-all shows every flag of OpenRLHF's.",
        RECIPE | dict.fromkeys(COMPUTED),
        SWITCHED_ON,
        COMPUTED_SWITCHES,
    )
    actions = {action.dest: action for action in reversed(parser._actions)}
    for plugged in ("algo.advantage.estimator", "actor.policy_loss_type"):
        actions[plugged].choices = None  # a registry and dotted paths, checked when the run is set up
    actions["actor.loss_agg_mode"].choices = AGGREGATIONS
    actions[WANDB_FLAG].help = WANDB_HELP
    for action in parser._actions:
        if not action.option_strings[0].startswith("--no-"):
            action.help = HELP.get(action.dest, action.help)
    _add_ours(parser.add_argument_group("run and grading"))
    _add_objective(parser.add_argument_group("recipe"))
    _add_curriculum(parser.add_argument_group("curriculum"))
    _add_teacher(parser.add_argument_group("a teacher"))
    _add_lengths(parser.add_argument_group("completion lengths"))
    _add_tool(parser.add_argument_group("Python as a tool"))
    _add_generation(parser.add_argument_group("generation"))
    _add_faults(parser.add_argument_group("faults"))
    short_help.give_short_names(parser, short_help.GRPO)
    short_help.shorten_help(parser, NEEDED, "--model MODEL --problems SET [--output DIR] ...")
    return parser


def keep_upstream_defaults(parser: argparse.ArgumentParser) -> None:
    """Give `parser` OpenRLHF's defaults of its flags but those of paths, kernels and sleep, which follow the run."""
    upstream = load_parser(UPSTREAM_COMMAND)[0]()
    kept = [*RECIPE, *SWITCHED_ON, *(flag for flag in COMPUTED if flag.endswith(OF_A_SIZE))]
    parser.set_defaults(**{flag: upstream.get_default(flag) for flag in kept})


def _add_ours(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--math.run_dir", default="runs/grpo", help="directory of the run: config.json, metrics.jsonl, model, ..."
    )
    group.add_argument("--math.device", choices=("auto", "cpu", "cuda"), default="auto", help="where the actors run")
    group.add_argument("--math.instruction", default=INSTRUCTION, help="appended to every problem; empty for none")
    group.add_argument(
        "--math.answer_style",
        choices=("boxed", "think"),
        default="boxed",
        help="the format in which an answer is expected",
    )
    group.add_argument(
        "--math.format_reward", type=float, default=0.2, help="reward of a wrong answer in correct format"
    )
    group.add_argument("--math.correct_reward", type=float, default=1.0, help="reward of a correct answer")
    group.add_argument(
        "--math.rewards",
        metavar="NAME=WEIGHT,...",
        help="the reward as a weighted sum, in place of the two above, as in correct=1,format=0.2,length=-0.1: "
        + "; ".join(f"{name}: {what}" for name, what in REWARD_HELP.items())
        + "; or your own as package.module.function, from a grpo.reward_parts.Group to a number for each completion",
    )
    group.add_argument(
        "--math.normalise_rewards",
        choices=(TOGETHER, EACH),
        help="with --math.rewards: advantages of the sum, or of each part by itself, added with the weights and "
        "divided by the standard deviation over the batch (GDPO) (together)",
    )
    group.add_argument(
        "--math.majority_labels",
        action="store_true",
        help="where a problem has no gold answer, the answer of most completions of its group takes its place (TTRL); "
        "without, such a problem is an error",
    )
    group.add_argument("--math.grading_seconds", type=float, default=2.0, help="time limit for grading one completion")
    group.add_argument("--math.grading_gib", type=float, default=1.0, help="memory limit of a grading process, GiB")
    group.add_argument("--math.grading_workers", type=int, default=2, help="grading processes for each vLLM engine")
    group.add_argument(
        "--math.max_bad_golds", type=float, default=0.05, help="share of unparsable gold answers that is an error"
    )
    group.add_argument(
        "--math.max_logprob_gap",
        type=float,
        default=0.1,
        help="stop when the log-probabilities of trainer and engine differ by more than this, in nats a token: on "
        "average over all tokens or over a range of positions, or by 10 times as much at the 99th percentile",
    )
    group.add_argument(
        "--math.engine_noise",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="for experiments only: multiply the engine's weights by 1 + SHARE times normal noise, the same after "
        "every transfer (%(default)s)",
    )
    group.add_argument(
        "--math.shared_prefix",
        choices=("auto", "on", "off"),
        default="auto",
        help="train on the completions of a group after one copy of their prompt, in one row without padding; auto: "
        "where the model allows it and nothing needs a padded batch (ring attention, a critic, a reward model); off: "
        "OpenRLHF's padded batches",
    )
    group.add_argument(
        "--math.keep_rollouts",
        metavar="all|none|last:N|sample:K",
        help="which completions are kept, in rollouts/ and eval_rollouts/ of the run directory: of all steps, of "
        "none, of the last N steps, or of K groups of each step; `openrlhf-math rollouts` shows them (last:20)",
    )
    group.add_argument(
        "--math.replay",
        metavar="PATH",
        help="for debugging: train on stored rollouts, a file or a folder of them, one file a step, without an engine",
    )
    group.add_argument("--math.overlap", type=int, choices=range(MOST + 1), default=0, help=OVERLAP_HELP)
    group.add_argument("--math.verbose", action="store_true", help="print what the actors print")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration and what the run needs, without starting anything",
    )
    group.add_argument(
        "--plan-gpu",
        choices=tuple(GPUS),
        default="h100",
        help="the kind of GPU for which --dry-run shows memory, traffic and shortest time of each phase (%(default)s)",
    )


def _add_objective(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--math.recipe", choices=tuple(RECIPES), help=f"{RECIPE_HELP} (default: poster)")
    group.add_argument(
        "--math.loss_length",
        type=int,
        metavar="TOKENS",
        help=f"with --actor.loss_agg_mode {CONSTANT_LENGTH}: what sums over a completion are divided by (default: the "
        "last completion limit, or --data.max_len)",
    )
    group.add_argument(
        "--math.sapo_tau",
        type=float,
        nargs=2,
        metavar=("ABOVE", "BELOW"),
        help="with --actor.policy_loss_type sapo: temperatures of the gate, for advantages above 0 and below (default: "
        f"{' '.join(f'{tau:g}' for tau in SAPO_TAU)})",
    )
    group.add_argument(
        "--math.router_replay",
        action="store_true",
        help="train a mixture of experts with the engine's routes; refused for now, see docs/losses.md",
    )
    group.add_argument("--math.rollout_correction", choices=CORRECTIONS, help=f"{CORRECTION_HELP} (default: off)")
    group.add_argument(
        "--math.correct_below_ess",
        type=float,
        metavar="SHARE",
        help="with --math.rollout_correction auto: the effective sample size, as a share of the tokens, below which "
        f"the next batch is corrected (default: {DEFAULT_ESS:g})",
    )


def _add_curriculum(group: argparse._ArgumentGroup) -> None:
    defaults = CurriculumSettings()
    group.add_argument(
        "--math.curriculum",
        default=defaults.name,
        metavar="NAME",
        help="order of the problems: uniform (OpenRLHF's shuffle), staged (by difficulty, see "
        "--math.curriculum_stages), window (most weight where the policy is sometimes right), or your own as "
        "package.module.function, (grpo.curriculum.Known, CurriculumSettings) to weights (%(default)s)",
    )
    group.add_argument("--math.difficulty_key", metavar="COLUMN", help="difficulty of a problem; higher is harder")
    group.add_argument(
        "--math.pass_rate_key",
        metavar="COLUMN",
        help="the base model's pass rate, 0 to 1, as `curate --pass-rate` writes it; 1 minus it is the difficulty "
        "where no other is given",
    )
    group.add_argument(
        "--math.curriculum_stages",
        metavar="STEP:DIFFICULTY,...",
        help="staged: the hardest difficulty from each step on, as in 0:2,100:3,200:5",
    )
    group.add_argument(
        "--math.curriculum_explore",
        type=float,
        default=defaults.explore,
        help="window: share of the weight that is uniform over all problems (%(default)s)",
    )
    group.add_argument(
        "--math.learn_pass_rates",
        action=argparse.BooleanOptionalAction,
        default=defaults.learn,
        help="estimate pass rates from this run's rollouts; without it, the base model's are used throughout",
    )
    group.add_argument(
        "--math.pass_rate_half_life",
        type=float,
        default=defaults.half_life,
        help="steps after which the weight of an outcome is halved (%(default)s)",
    )


def _add_teacher(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--math.teacher",
        metavar="MODEL|URL",
        help="on-policy distillation: each token of a rollout also has the advantage log p(token) of this model minus "
        "that of the policy; a directory or a hub name with the policy's tokenizer, or a vLLM server, up to and with "
        "/v1; see docs/grpo-teacher.md",
    )
    group.add_argument(
        "--math.teacher_coef", type=float, metavar="WEIGHT", help="weight of the teacher's advantage (default: 1)"
    )
    group.add_argument(
        "--math.reward_coef",
        type=float,
        metavar="WEIGHT",
        help="with --math.teacher: weight of the reward's advantage; 0 for the teacher alone (default: 1)",
    )
    add = group.add_argument
    add("--math.teacher_model", metavar="NAME", help="what the server calls the teacher (default: its only model)")
    add(
        "--math.teacher_key_env",
        metavar="VARIABLE",
        help="environment variable that holds the server's key (default: OPENAI_API_KEY)",
    )
    add("--math.teacher_concurrency", type=int, metavar="N", help="requests to the server at once (default: 32)")
    add("--math.teacher_timeout", type=float, metavar="SECONDS", help="for one request to the server (default: 600)")
    add("--math.teacher_tries", type=int, metavar="N", help="maximum number of tries of a request (default: 6)")


def _add_lengths(group: argparse._ArgumentGroup) -> None:
    defaults = LimitSettings()
    group.add_argument(
        "--math.length_stages",
        metavar="STEP:TOKENS,...",
        help="limit of a completion from each step on, in place of --rollout.max_new_tokens: 0:512,200:1024",
    )
    group.add_argument(
        "--math.grow_at",
        type=float,
        metavar="RATE",
        help="raise the limit, from --rollout.max_new_tokens on, when more than this share of the completions of the "
        "last --math.grow_after steps was cut off",
    )
    group.add_argument("--math.grow_to", type=int, metavar="TOKENS", help="the highest limit")
    group.add_argument("--math.grow_by", type=float, default=defaults.grow_by, help="factor of one raise (%(default)s)")
    group.add_argument(
        "--math.grow_after",
        type=int,
        default=defaults.grow_after,
        metavar="STEPS",
        help="steps that are considered (%(default)s)",
    )
    group.add_argument(
        "--math.truncated",
        choices=TRUNCATED,
        default="keep",
        help="a completion that was cut off: "
        + "; ".join(f"{name}: {what}" for name, what in TRUNCATED.items())
        + " (%(default)s)",
    )


def _add_tool(group: argparse._ArgumentGroup) -> None:
    defaults = RolloutTool()

    def add(flag: str, what: str, **more: Any) -> None:
        default = getattr(defaults, tool_turns.FIELDS[flag]) or "as many as half of the node's memory has room for"
        group.add_argument(f"--{flag}", help=f"{what} ({default})", **more)

    group.add_argument(
        "--math.tool",
        choices=(tool_turns.PYTHON,),
        help="the model may run code in its rollouts; what the code prints goes into the context, and its tokens are "
        "left out of the loss; see docs/grpo-tool.md",
    )
    add(
        "math.tool_form",
        "how the model writes a call: block, a block ```python, or template, a call as its chat template writes it",
        choices=FORMS,
    )
    add("math.tool_calls", "calls that a completion may make", type=int, metavar="N")
    add("math.tool_seconds", "CPU time of a call; by the clock four times as much", type=float, metavar="SECONDS")
    add("math.tool_memory", "MiB of memory of a completion's programs", type=int, metavar="MIB")
    add("math.tool_output", "characters of a call's output that the model is shown", type=int, metavar="N")
    add("math.tool_kernels", "interpreters at once for each vLLM engine", type=int, metavar="N")
    add(
        "math.tool_isolation",
        "what keeps the code from this machine: auto takes the first that works, none runs the code as you",
        choices=WANTED,
    )


def _add_generation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        ENGINE_FLAG,
        type=json_object,
        default={},
        metavar="JSON",
        help="arguments of vLLM's engines, by vLLM's names, such as '{\"kv_cache_dtype\": \"fp8\"}'",
    )
    add_template_flags(group)
    group.add_argument(
        STOP_FLAG,
        action="append",
        metavar="TEXT",
        help="a text at which completions of rollouts and evaluations end, and which stays in them; may be repeated",
    )
    for name, default in (("top_p", 1), ("top_k", -1), ("min_p", 0)):
        group.add_argument(
            f"--math.eval_{name}",
            type=int if name == "top_k" else float,
            metavar="N" if name == "top_k" else "P",
            help=f"{name.replace('_', '-')} of evaluations (default: of the model's generation_config.json if it asks "
            f"for sampling, else {default})",
        )


def _add_faults(group: argparse._ArgumentGroup) -> None:
    defaults = FaultSettings()
    group.add_argument(
        "--math.max_bad_steps",
        type=int,
        default=defaults.max_bad_steps,
        metavar="STEPS",
        help="a step whose loss or gradient is NaN or infinite is skipped; stop, with the batch written to the run "
        "directory, after so many in a row (%(default)s)",
    )
    group.add_argument(
        "--math.engine_restarts",
        type=int,
        default=defaults.engine_restarts,
        metavar="TIMES",
        help="how often in a run a vLLM engine that died is started again, with the newest weights (%(default)s)",
    )
    group.add_argument(
        "--math.phase_timeout",
        metavar="PHASE=SECONDS,...",
        help="end the run when a phase takes longer, as in rollout=3600,train=1800; without: "
        + ", ".join(f"{phase}={seconds:g}" for phase, seconds in PHASE_SECONDS.items()),
    )
