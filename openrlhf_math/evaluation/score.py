"""An evaluation without a model: completions made elsewhere are graded, and the same figures made of them."""

import time
from collections.abc import Callable
from pathlib import Path

from openrlhf_math.distill.journal import told_if_unwritable
from openrlhf_math.evaluation.figures import figures
from openrlhf_math.evaluation.marking import mark
from openrlhf_math.evaluation.recorded import Row, in_order
from openrlhf_math.evaluation.results import write_completions, write_summary
from openrlhf_math.rewards import GradingPool, RewardConfig


def score(
    rows: list[Row],
    name: str,
    output: Path,
    rewards: RewardConfig,
    seed: int,
    parquet: bool,
    advance: Callable[[], None],
) -> dict:
    """Grade and write. Returns the figures; `advance` is called after each problem."""
    begun = time.time()
    pool = GradingPool(rewards)

    def marked():
        for one in in_order(lambda row: mark(row, pool), rows, pool.config.workers + 1):
            advance()
            yield one

    try:
        with told_if_unwritable(output):
            tallies = write_completions(output, marked(), parquet)
            told = {"benchmark": name, "style": rewards.style, "seed": seed, **figures(tallies, seed)}
            told["seconds_grading"] = round(time.time() - begun, 3)
            write_summary(output, told)
    finally:
        pool.close()
    return told
