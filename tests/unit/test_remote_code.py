"""Python code of a model runs only where the user asks for it, through our calls and through upstream's."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import openrlhf_math
from openrlhf_math.cli import main
from openrlhf_math.patches.remote_code import VARIABLE

PACKAGE = Path(openrlhf_math.__file__).parent
AUTO = ("AutoConfig", "AutoTokenizer", "AutoProcessor", "AutoModel", "AutoModelForCausalLM")

CALLS = {
    "openrlhf's tokenizer": "from openrlhf.utils.utils import get_tokenizer; get_tokenizer({model!r}, None)",
    "openrlhf's question whether it sees": "from openrlhf.utils.utils import is_vlm_model; is_vlm_model({model!r})",
    "openrlhf's actor": "from openrlhf.models.actor import Actor; Actor({model!r})",
    "openrlhf's reward model": "from openrlhf.models.model import get_llm_for_sequence_regression as get; "
    "get({model!r}, 'reward')",
    "the size of a cache": "from openrlhf_math.colocation.layout import cache_bytes; cache_bytes({model!r}, 1, 32)",
    "vLLM's configuration": "from vllm.engine.arg_utils import EngineArgs; "
    "from openrlhf_math.colocation.layout import inference_arguments as a; "
    "EngineArgs({model!r}, trust_remote_code=a('cpu')['trust_remote_code']).create_model_config()",
}


def write_model(folder: Path) -> Path:
    """A model whose configuration is a custom class; its code leaves a file when it runs."""
    folder.mkdir(parents=True)
    auto_map = dict.fromkeys(AUTO, "code_of_its_own.Config")
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto_map}))
    auto_map = {"AutoTokenizer": ["code_of_its_own.T", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    (folder / "code_of_its_own.py").write_text(
        f"open({str(folder / 'mark')!r}, 'w').close()\n"
        "from transformers import PretrainedConfig\n"
        "class Config(PretrainedConfig):\n    model_type = 'own'\n"
    )
    return folder


@pytest.fixture(scope="module")
def what_ran(tmp_path_factory) -> dict[str, set[str]]:
    """The calls that ran their model's code, "plain" and "asked for". One process, since imports are most of the time;
    every call has a different model, and fails."""
    folder = tmp_path_factory.mktemp("models")
    code, models = "import os\nimport openrlhf_math", {}
    for when in ("plain", "asked for"):
        code += f"\nos.environ[{VARIABLE!r}] = {str(int(when == 'asked for'))!r}"
        for number, (name, call) in enumerate(CALLS.items()):
            models[when, name] = write_model(folder / when / str(number))
            load = call.format(model=str(models[when, name]))
            code += f"\ntry:\n    {load}\nexcept Exception as error:\n    print(error)"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stderr
    ran = [key for key, model in models.items() if (model / "mark").exists()]
    return {when: {name for at, name in ran if at == when} for when in ("plain", "asked for")}


def test_remote_code_is_not_run(what_ran):
    assert what_ran["plain"] == set()


def test_remote_code_runs_with_the_flag(what_ran):
    assert what_ran["asked for"] == set(CALLS)


def test_command_names_the_model_and_the_fix(tmp_path, capsys, monkeypatch):
    model = write_model(tmp_path / "model")
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "p.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n' * 20)
    flags = ["--actor.model_name_or_path", str(model), "--data.prompt_dataset", str(tmp_path / "p.jsonl")]
    assert main(["grpo", *flags, "--math.run_dir", str(tmp_path / "run")]) == 2
    output = capsys.readouterr().err
    assert str(model) in output and f"set {VARIABLE}=1 if you trust it" in output
    assert not (model / "mark").exists() and not (tmp_path / "run").exists()


def test_every_auto_load_passes_trust_remote_code():
    silent = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "from_pretrained"
            ):
                loader = ast.unparse(node.func.value)
                if loader.startswith("Auto") and "trust_remote_code" not in [key.arg for key in node.keywords]:
                    silent.append(f"{path.name}:{node.lineno}")
    assert not silent
