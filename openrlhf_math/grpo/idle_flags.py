"""Flags of a command line that nothing in the run reads: they are named, since a script has them for a reason."""

from collections.abc import Callable, Iterable

from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.training.flag_checks import CRITIC_FLAG, HAS_CRITIC

Condition = Callable[[GRPOArguments], bool]


def _has_reference(args: GRPOArguments) -> bool:
    teacher = args.math.teacher
    return args.algo.kl.init_coef > 0 or teacher is not None and not teacher.url


# Beginnings of flags, when they are read, and what must be there for it.
RULES: tuple[tuple[tuple[str, ...], Condition, str], ...] = (
    (
        ("critic.", "algo.advantage.lambd", "train.colocate_critic_reward"),
        lambda args: args.algo.advantage.estimator == HAS_CRITIC,
        f"only {CRITIC_FLAG} has a critic (--math.recipe none keeps OpenRLHF's defaults, {HAS_CRITIC} among them)",
    ),
    (
        ("math.format_reward", "math.grading_"),
        lambda args: bool(args.train.agent_func_path),
        "rewards do not come from the grader",
    ),
    (
        ("reward.normalize_enable", "reward.offload", "reward.num_"),
        lambda args: bool(args.reward.model_name_or_path),
        "there is no --reward.model_name_or_path",
    ),
    (
        ("algo.kl.target", "algo.kl.horizon", "algo.kl.estimator", "algo.kl.use_loss", "algo.kl.unbiased_gradient"),
        lambda args: args.algo.kl.init_coef > 0,
        "--algo.kl.init_coef is 0",
    ),
    (("ref.", "train.colocate_actor_ref"), _has_reference, "there is no reference model: --algo.kl.init_coef is 0"),
    (
        ("eval.", "math.eval_", "ckpt.best_metric_key"),
        lambda args: bool(args.eval.dataset),
        "there is no --eval.dataset",
    ),
    (
        ("math.curriculum_explore", "math.learn_pass_rates", "math.pass_rate_half_life"),
        lambda args: args.math.curriculum.name not in ("uniform", "staged"),
        "--math.curriculum takes no weights from pass rates",
    ),
    (
        ("algo.dynamic_filtering_range",),
        lambda args: args.algo.dynamic_filtering_enable,
        "--algo.dynamic_filtering_enable is off",
    ),
    (
        ("reward.overlong_penalty_factor",),
        lambda args: args.reward.overlong_buffer_len is not None,
        "there is no --reward.overlong_buffer_len",
    ),
    (("actor.muon.",), lambda args: args.actor.optim == "muon", "--actor.optim is not muon"),
    (("train.ema_beta",), lambda args: args.train.enable_ema, "--train.enable_ema is off"),
    (
        ("vllm.sync_backend", "vllm.sync_with_ray"),
        lambda args: False,
        "weights go to the engines by shared memory, CUDA IPC or NCCL, whichever fits",
    ),
    (
        ("data.max_samples", "algo.dynamic_filtering_"),
        lambda args: not args.math.replay,
        "the files of --math.replay are the batches",
    ),
    (("data.image_key",), lambda args: False, "problems are text"),
    (
        ("ds.attn_implementation", "ds.packing_samples", "train.dynamic_batch_enable"),
        lambda args: not args.math.shared_prefix,
        "rows without padding use another attention and other batches (--math.shared_prefix off)",
    ),
    (
        ("logger.wandb.org", "logger.wandb.group", "logger.wandb.project"),
        lambda args: bool(args.logger.wandb.key),
        "there is no --logger.wandb.key",
    ),
)


def without_effect(given: Iterable[str], args: GRPOArguments) -> dict[str, list[str]]:
    """Flags that were given and that nothing reads, by the reason. given: as they were typed. args: resolved."""
    found: dict[str, list[str]] = {}
    for flag in dict.fromkeys(given):
        name = flag.removeprefix("--no-").removeprefix("--")
        for beginnings, is_read, reason in RULES:
            if name.startswith(beginnings) and not is_read(args):
                found.setdefault(reason, []).append(flag)
                break
    return found
