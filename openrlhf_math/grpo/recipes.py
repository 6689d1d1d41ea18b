"""`--math.recipe`: the flags of the objective by the name of a paper. No torch here: flags are settled before it loads.

A recipe gives values to flags that the command line leaves out. What makes it that recipe is in `fixed`: another value
of such a flag, given together with the recipe's name, is refused.
"""

from dataclasses import dataclass, field
from typing import Any

from openrlhf_math.errors import UserError

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
