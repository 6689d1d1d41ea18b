"""Unit tests check the shapes in the signatures of these modules at each call (jaxtyping, beartype)."""

from jaxtyping import install_import_hook

MODULES = [
    "modeling.attention", "modeling.fused_attention", "modeling.log_prob_head", "modeling.packed_actor",
    "modeling.packing", "modeling.probe", "modeling.shared_prefix_attention", "modeling.visibility",
    "prm.actor", "prm.dataset", "prm.model", "prm.trainer", "sft.trainer",
]  # fmt: skip
install_import_hook([f"openrlhf_math.{module}" for module in MODULES], "shapes.check_shapes")
