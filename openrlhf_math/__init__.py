"""openrlhf_math: distillation, GRPO and reranking for mathematics, on OpenRLHF.

Importing the package registers the import-time patches of OpenRLHF (see `openrlhf_math.patches`).
That is cheap: a patch runs only when its target module is imported. So is what a notebook imports from here (see
`docs/python.md`), which is loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING

from openrlhf_math.patches import install as _install_patches

__version__ = "0.1.0"

# By name, the module that has it.
_OFFERED = dict.fromkeys(("Vote", "compare", "curate", "grade", "vote"), "openrlhf_math.evaluation.notebook")
_OFFERED |= dict.fromkeys(("Grade", "RewardConfig"), "openrlhf_math.rewards")
_OFFERED |= {"UserError": "openrlhf_math.errors"}

if TYPE_CHECKING:  # the same for editors and type checkers, which do not call __getattr__
    from openrlhf_math.errors import UserError
    from openrlhf_math.evaluation.notebook import Vote, compare, curate, grade, vote
    from openrlhf_math.rewards import Grade, RewardConfig

__all__ = ["Grade", "RewardConfig", "UserError", "Vote", "compare", "curate", "grade", "vote"]

_install_patches()


def __getattr__(name: str) -> object:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
