"""Unit tests check the shapes in the signatures of all modules that have them, at each call (jaxtyping, beartype)."""

import json
from pathlib import Path

import pytest
from jaxtyping import _import_hook, install_import_hook

import openrlhf_math
from openrlhf_math.patches.patch import without_collection

PACKAGE = Path(openrlhf_math.__file__).parent
SHAPED = [path for path in PACKAGE.rglob("*.py") if "\nfrom jaxtyping import" in path.read_text()]
MODULES = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in SHAPED]
install_import_hook(MODULES, "shapes.check_shapes")

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
