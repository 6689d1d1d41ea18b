"""Unit tests check the shapes in the signatures of these modules at each call (jaxtyping, beartype)."""

from jaxtyping import _import_hook, install_import_hook

from openrlhf_math.patches.patch import without_collection

MODULES = [
    "grpo.advantages", "grpo.bad_steps", "grpo.engine_gap", "grpo.experience", "grpo.group_rewards", "grpo.importance",
    "grpo.kept_rollouts", "grpo.loss", "grpo.losses", "grpo.micro_batches", "grpo.teacher_endpoint",
    "modeling.attention", "modeling.fused_attention", "modeling.log_prob_head", "modeling.packed_actor",
    "modeling.packing", "modeling.probe", "modeling.shared_prefix_attention", "modeling.visibility",
    "prm.actor", "prm.dataset", "prm.model", "prm.trainer", "sft.trainer",
]  # fmt: skip
install_import_hook([f"openrlhf_math.{module}" for module in MODULES], "shapes.check_shapes")

_compile = _import_hook._call_with_frames_removed


def _compile_without_collection(*args, **kwargs):
    with without_collection():
        return _compile(*args, **kwargs)


_import_hook._call_with_frames_removed = _compile_without_collection
