"""What a run minimises, as settings: recipe, loss, aggregation, clip, KL, correction of rollouts. No torch here.

A recipe gives values to flags that the command line leaves out. What makes it that recipe is in `fixed`: another value
of such a flag, given together with the recipe's name, is refused.
"""

from dataclasses import dataclass, field
from typing import Any

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.update.rollout_correction import AUTO, DEFAULT_ESS, GATING, LEVEL, MODE, OFF, settle_correction

CONSTANT_LENGTH = "seq-mean-token-sum-norm"
AGGREGATIONS = ("token-mean", "seq-mean-token-mean", CONSTANT_LENGTH)
DEFAULT = "poster"

UPSTREAM_ESTIMATORS = ("gae", "reinforce", "rloo", "reinforce_baseline", "group_norm", "dr_grpo", "flash_reinforce")

# OpenRLHF's own defaults, which the recipe `none` keeps.
UPSTREAM: dict[str, Any] = {
    "algo.advantage.estimator": "gae",
    "actor.policy_loss_type": "ppo",
    "actor.loss_agg_mode": "token-mean",
    "actor.eps_clip_low_high": (0.2, 0.2),
    "algo.kl.init_coef": 0.01,
    "algo.kl.use_loss": False,
    "algo.kl.estimator": "k1",
    "algo.dynamic_filtering_enable": False,
}
REFERENCE_FREE = UPSTREAM | {
    "algo.advantage.estimator": "grpo",
    "actor.loss_agg_mode": "seq-mean-token-mean",
    "algo.kl.init_coef": 0.0,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """values: of every flag in `UPSTREAM`. fixed: the values a flag may have without contradicting the recipe."""

    what: str
    values: dict[str, Any]
    fixed: dict[str, tuple] = field(default_factory=dict)


GROUP_NORMALISED = {"algo.advantage.estimator": ("grpo", "group_norm")}
BY_SEQUENCE = {"actor.loss_agg_mode": ("seq-mean-token-mean",)}
BY_TOKEN = {"actor.loss_agg_mode": ("token-mean",)}


def _loss(name: str) -> dict[str, tuple]:
    return {"actor.policy_loss_type": (name,)}


RECIPES = {
    "poster": Recipe(
        "reference-free GRPO: each completion's loss averaged over its own tokens, no KL",
        REFERENCE_FREE,
        _loss("ppo") | GROUP_NORMALISED | BY_SEQUENCE | {"algo.kl.init_coef": (0.0,)},
    ),
    "grpo": Recipe(
        "DeepSeekMath: as poster, with a KL loss to a reference model",
        REFERENCE_FREE | {"algo.kl.init_coef": 0.04, "algo.kl.use_loss": True, "algo.kl.estimator": "k3"},
        _loss("ppo") | GROUP_NORMALISED | BY_SEQUENCE | {"algo.kl.use_loss": (True,)},
    ),
    "dr_grpo": Recipe(
        "no standard deviation, no length in the denominator",
        REFERENCE_FREE | {"algo.advantage.estimator": "grpo_no_std", "actor.loss_agg_mode": CONSTANT_LENGTH},
        _loss("ppo")
        | {"algo.advantage.estimator": ("grpo_no_std", "dr_grpo"), "actor.loss_agg_mode": (CONSTANT_LENGTH,)},
    ),
    "dapo": Recipe(
        "mean over tokens, higher upper clip, groups without a gradient replaced",
        REFERENCE_FREE
        | {
            "actor.loss_agg_mode": "token-mean",
            "actor.eps_clip_low_high": (0.2, 0.28),
            "algo.dynamic_filtering_enable": True,
        },
        _loss("ppo") | GROUP_NORMALISED | BY_TOKEN,
    ),
    "gspo": Recipe(
        "one ratio for a whole completion",
        REFERENCE_FREE | {"actor.policy_loss_type": "gspo", "actor.eps_clip_low_high": (3e-4, 4e-4)},
        _loss("gspo") | GROUP_NORMALISED | BY_SEQUENCE,
    ),
    "cispo": Recipe(
        "MiniMax-M1: clipped weights, every token keeps a gradient",
        REFERENCE_FREE
        | {
            "actor.policy_loss_type": "cispo",
            "actor.loss_agg_mode": "token-mean",
            "actor.eps_clip_low_high": (1.0, 4.0),
        },
        _loss("cispo") | GROUP_NORMALISED | BY_TOKEN,
    ),
    "sapo": Recipe(
        "a soft gate in place of the clip",
        REFERENCE_FREE | {"actor.policy_loss_type": "sapo"},
        _loss("sapo") | GROUP_NORMALISED | BY_SEQUENCE,
    ),
    "none": Recipe("OpenRLHF's defaults of these flags", UPSTREAM),
}
FLAGS = tuple(UPSTREAM)
HELP = "values of the flags of the objective that are not given: " + "; ".join(
    f"{name}: {recipe.what}" for name, recipe in RECIPES.items()
)


def settle_recipe(flags: dict, name: str | None) -> str:
    """Fill in the flags of `FLAGS` that are None. flags: by dotted name, changed in place. name: of a recipe, or None.

    Returns the recipe's name. Raises UserError for a flag that contradicts the recipe that was named.
    """
    one_range = flags["actor.eps_clip"]
    if one_range is not None:
        if flags["actor.eps_clip_low_high"] is not None:
            raise UserError("--actor.eps_clip and --actor.eps_clip_low_high are both given; give one of them")
        flags["actor.eps_clip_low_high"] = (one_range, one_range)
    recipe = RECIPES[name or DEFAULT]
    for flag, allowed in recipe.fixed.items() if name else ():
        if flags[flag] is not None and flags[flag] not in allowed:
            value = f"--no-{flag}" if flags[flag] is False else f"--{flag} {flags[flag]}"
            raise UserError(
                f"{value} contradicts --math.recipe {name}, whose value is {allowed[0]}; leave one of the two out"
            )
    for flag, default in recipe.values.items():
        if flags[flag] is None:
            flags[flag] = list(default) if isinstance(default, tuple) else default
    flags["actor.eps_clip"] = flags["actor.eps_clip_low_high"][0] if one_range is None else one_range
    return name or DEFAULT


SAPO_TAU = (1.0, 1.05)
# Losses whose gradient is proportional to the advantage, so that a completion with advantage 0 need not be computed.
PROPORTIONAL = ("ppo", "gspo", "cispo", "sapo")
UNCLIPPED = ("cispo", "sapo")  # for which OpenRLHF's second clip has no meaning


@dataclass(frozen=True)
class Objective:
    """What OpenRLHF's flags do not say of the objective.

    rollout_correction: the name of a preset, `auto`, or `off`, with which OpenRLHF's flags hold. correct_below_ess: the
    bound of `auto`. sapo_tau: temperatures for advantages above 0 and below. loss_length: tokens that a completion's
    loss is divided by with `seq-mean-token-sum-norm`, else None.
    """

    recipe: str = "none"
    rollout_correction: str = OFF
    correct_below_ess: float = DEFAULT_ESS
    sapo_tau: tuple[float, float] = SAPO_TAU
    loss_length: int | None = None


def settle_objective(flags: dict, ours: dict) -> Objective:
    """Fill in OpenRLHF's flags of the objective that are None. flags: in place, ours: --math.*.

    Raises UserError for flags that contradict each other.
    """
    if ours["math.router_replay"]:
        raise UserError(
            "--math.router_replay: vLLM's CPU backend does not say which experts it took, and on a GPU the trainer "
            "cannot replay them yet; leave it out, --math.rollout_correction weighs what differs"
        )
    recipe = settle_recipe(flags, ours["math.recipe"])
    loss = flags["actor.policy_loss_type"]
    if loss == "gspo" and flags[LEVEL] not in (None, "off"):
        for flag in (MODE, GATING):
            if flags[flag] is not None:
                raise UserError(
                    f"--{flag} {flags[flag]}: with --actor.policy_loss_type gspo OpenRLHF's correction has no gate; "
                    "give --math.rollout_correction instead"
                )
    below = ours["math.correct_below_ess"]
    wanted = ours["math.rollout_correction"]
    if wanted is None and flags[LEVEL] is None and ours["math.overlap"]:
        wanted = AUTO
    correction = settle_correction(flags, wanted, below)
    tau = ours["math.sapo_tau"]
    if tau is not None and loss != "sapo":
        raise UserError(f"--math.sapo_tau is for --actor.policy_loss_type sapo, this is {loss}")
    if flags["actor.dual_clip"] is not None and loss in UNCLIPPED:
        raise UserError(
            f"--actor.dual_clip {flags['actor.dual_clip']:g}: {loss} has no clip of this kind; leave it out"
        )
    if flags["actor.loss_agg_mode"] == CONSTANT_LENGTH and loss == "gspo":
        raise UserError(
            f"--actor.loss_agg_mode {CONSTANT_LENGTH}: gspo averages over the tokens of each completion; leave it out"
        )
    return Objective(recipe, correction, DEFAULT_ESS if below is None else below, tuple(tau or SAPO_TAU))


def loss_length(flags: dict, given: int | None, limit: int | None) -> int | None:
    """Tokens that a completion's loss is divided by, None where it is not a constant.

    given: `--math.loss_length`. limit: the last completion limit of the run, None if only the context bounds it.
    """
    if flags["actor.loss_agg_mode"] != CONSTANT_LENGTH:
        if given is not None:
            raise UserError(
                f"--math.loss_length {given} is for --actor.loss_agg_mode {CONSTANT_LENGTH}, this is "
                f"{flags['actor.loss_agg_mode']}"
            )
        return None
    return given or limit or flags["data.max_len"]


def described(args: GRPOArguments, steps_a_batch: int) -> dict[str, str]:
    """The objective of a run in one block, for the dry run and config.json."""
    ours, actor, kl, corrects = args.math.objective, args.actor, args.algo.kl, args.algo.advantage
    low, high = actor.eps_clip_low_high
    ranges = {"sapo": f"none, tau {' and '.join(f'{tau:g}' for tau in ours.sapo_tau)}"}
    aggregation = actor.loss_agg_mode if actor.policy_loss_type != "gspo" else "seq-mean-token-mean"
    if ours.loss_length:
        aggregation += f", {ours.loss_length} tokens"
    words = "none, no reference model"
    if kl.init_coef > 0:
        words = f"{kl.init_coef:g} of {kl.estimator}, in the {'loss' if kl.use_loss else 'reward'}"
    taught = {"teacher": f"{teacher.named()}; {teacher.weights()}"} if (teacher := args.math.teacher) else {}
    correction = "off"
    if corrects.is_correction_level != "off":
        bounds = " to ".join(f"{bound:g}" for bound in corrects.is_correction_threshold)
        correction = (
            f"{corrects.is_correction_level} {corrects.is_correction_mode}, {corrects.is_correction_gating} {bounds}"
        )
    if ours.rollout_correction == AUTO and steps_a_batch == 1:
        late = "for batches that older weights wrote, and " if args.math.overlap else ""
        correction += f", {late}below an effective sample size of {ours.correct_below_ess:g}"
    return {
        "recipe": ours.recipe,
        "estimator": args.algo.advantage.estimator,
        "loss": actor.policy_loss_type,
        "aggregation": aggregation,
        "clip range": ranges.get(actor.policy_loss_type, f"{max(0.0, 1 - low):g} to {1 + high:g}"),
        "KL": words,
        **taught,
        "rollout correction": correction,
        "optimizer steps a batch": str(steps_a_batch)
        + (": the ratio is 1, so nothing is clipped" if steps_a_batch == 1 else ""),
    }
