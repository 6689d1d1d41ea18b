"""A curriculum of one's own: problems whose pass rate is near a half, each once before any comes twice.

PYTHONPATH=examples openrlhf-math grpo ... --math.curriculum own_curriculum.around_half
"""

import numpy as np

from openrlhf_math.grpo.curriculum import Known, in_turn
from openrlhf_math.grpo.curriculum_settings import CurriculumSettings

WIDTH = 0.25  # in pass rate


def around_half(known: Known, settings: CurriculumSettings) -> np.ndarray:
    """w = e + (1 - e) exp(-((p - 1/2) / WIDTH)^2), e being --math.curriculum_explore. float64 [problems]."""
    near = np.exp(-(((known.pass_rate - 0.5) / WIDTH) ** 2))
    everyone = np.zeros(len(near), dtype=np.int64)
    return in_turn(known.seen, everyone) * (settings.explore + (1 - settings.explore) * near)
