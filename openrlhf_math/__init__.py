"""openrlhf_math: distillation, GRPO and reranking for mathematics, on OpenRLHF.

Importing the package registers the import-time patches of OpenRLHF (see `openrlhf_math.patches`).
That is cheap: a patch runs only when its target module is imported.
"""

__version__ = "0.1.0"

from openrlhf_math.patches import install as _install_patches

_install_patches()
