"""Unit tests check the shapes in the signatures of these modules at each call (jaxtyping, beartype)."""

import json

import pytest
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


@pytest.fixture
def model_folder(request, tmp_path):
    """A model without weights, as far as commands read it before an engine starts. Its chat template is the test
    module's TEMPLATE."""
    from public_tokenizers import qwen25

    folder, tokenizer = tmp_path / "model", qwen25().tokenizer
    tokenizer.chat_template = request.module.TEMPLATE
    tokenizer.save_pretrained(folder)
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 4096,
              "vocab_size": len(tokenizer)}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def problem_file(tmp_path):
    """Stories with answers and traces, which every command reads."""
    from openrlhf_math.data.tiny_world.problems import distinct_stories

    path = tmp_path / "problems.jsonl"
    rows = [{"problem": one.text, "answer": str(one.answer), "response": "<think>\nIt.\n</think>\n\n2"}
            for one in distinct_stories(16, seed=3)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
