"""Curricula: what is known of the problems in, how likely each is to be drawn next out.

A user's own is given by its dotted path, `package.module.function`, with the signature of `window`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.curriculum_settings import UNIFORM, CurriculumSettings
from openrlhf_math.grpo.problems.completion_limit import value_at
from openrlhf_math.registry import Registry

# How much less likely a problem is than those of its class that were drawn once less: they come first.
AFTER_THE_OTHERS = 1e-6


@dataclass(frozen=True)
class Known:
    """What is known when a batch is drawn. Arrays are [problems], in the order of the run's problem set.

    step: steps done. difficulty: float64, higher is harder, NaN if unknown. pass_rate: float64, 0 to 1, how often the
    policy solves it by the running estimate. seen: int64, how often it was drawn.
    """

    step: int
    difficulty: np.ndarray
    pass_rate: np.ndarray
    seen: np.ndarray


FLAG = "--math.curriculum"
Curriculum = Callable[[Known, CurriculumSettings], np.ndarray]
_REGISTRY: Registry[Curriculum] = Registry()
# Of a function from what is known to weights: float64 [problems], 0 for a problem that must not come. A batch is drawn
# by these weights without a problem twice.
register_curriculum = _REGISTRY.register


def find_curriculum(name: str) -> Curriculum:
    """The curriculum called `name`. Raises UserError if there is none, or a dotted path leads to no function."""
    return _REGISTRY.find(FLAG, name)


def weights_of(choose: Curriculum, known: Known, settings: CurriculumSettings) -> np.ndarray:
    """float64 [problems]. Raises UserError if these are no weights that problems can be drawn by."""
    try:
        weights = np.asarray(choose(known, settings), dtype=np.float64)
    except Exception as error:  # a user's code may raise anything
        raise UserError(
            f"{FLAG} {settings.name}: it fails with {len(known.seen)} problems in step {known.step + 1}: {error!r}"
        ) from error
    if weights.shape != known.seen.shape:
        raise UserError(
            f"{FLAG} {settings.name}: it must return {len(known.seen)} weights, one for each problem, and returns an "
            f"array of shape {weights.shape}"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise UserError(
            f"{FLAG} {settings.name}: it returns weights from {weights.min():g} to {weights.max():g} in step "
            f"{known.step + 1}; they must be finite, not negative, and not all 0"
        )
    return weights


def check_curriculum(settings: CurriculumSettings) -> None:
    """Raise UserError unless there is such a curriculum and, if it is a user's own, it works for six problems.

    Their difficulties are made up, so all six weights may be 0.
    """
    choose, few = find_curriculum(settings.name), 6
    if settings.name in _REGISTRY:
        return
    is_known = settings.difficulty_key or settings.pass_rate_key
    difficulty = np.linspace(0, 1, few) if is_known else np.full(few, np.nan)
    known = Known(0, difficulty, np.linspace(0.9, 0.1, few), np.zeros(few, dtype=np.int64))
    weights_of(lambda *given: 1e-9 + np.asarray(choose(*given)), known, settings)


@register_curriculum(UNIFORM)
def uniform(known: Known, settings: CurriculumSettings) -> np.ndarray:
    """Every problem once an epoch. A run does not call it: OpenRLHF's own shuffled order stays as it is."""
    return in_turn(known.seen, np.zeros(len(known.seen), dtype=np.int64))


@register_curriculum("staged")
def staged(known: Known, settings: CurriculumSettings) -> np.ndarray:
    """Problems up to the difficulty of the stage, each class in turn: none a second time before all had their first."""
    unlocked = known.difficulty <= value_at(settings.stages, known.step)
    classes = np.unique(known.difficulty, return_inverse=True)[1].reshape(-1)
    return np.where(unlocked, in_turn(known.seen, classes), 0.0)


@register_curriculum("window")
def window(known: Known, settings: CurriculumSettings) -> np.ndarray:
    """Most weight where a group is neither all right nor all wrong, w = (1 - e) p (1 - p) / mean + e.

    p (1 - p) is the variance of a reward of 0 or 1, and with it the size of the policy gradient; a group of equal
    rewards teaches nothing. The window slides by itself: as the policy learns, p rises. The share e explores, so that
    no estimate is final. DAPO, https://arxiv.org/abs/2503.14476, section 3.2, drops such groups after generating them;
    this draws fewer of them in the first place.
    """
    spread = known.pass_rate * (1 - known.pass_rate)
    mean = spread.mean()
    if mean == 0:
        return np.ones(len(spread))
    return (1 - settings.explore) * spread / mean + settings.explore


def in_turn(seen: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Weights with which no problem comes again before all of its class have come as often."""
    fewest = np.full(classes.max() + 1, seen.max())
    np.minimum.at(fewest, classes, seen)
    return AFTER_THE_OTHERS ** np.minimum(seen - fewest[classes], 40)


def drawn_order(weights: np.ndarray, generator: np.random.Generator) -> list[int]:
    """All problems of positive weight, drawn one after the other in proportion to their weights, none twice.

    Ascending by E_i / w_i with E_i exponential: Efraimidis and Spirakis, Weighted random sampling with a reservoir
    (Information Processing Letters 97, 2006).
    """
    clocks = generator.exponential(size=len(weights))
    with np.errstate(divide="ignore"):
        order = np.argsort(clocks / weights, kind="stable")
    return order[: np.count_nonzero(weights)].tolist()
