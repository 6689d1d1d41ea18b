"""Mistakes that users make, in every command, and what is printed for each: docs/mistakes.md.

python tests/mistakes.py    # writes the page; tests/unit/test_mistakes.py compares it
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "mistakes.md"

ENDPOINT = "--base-url http://127.0.0.1:9/v1"  # nobody listens there
GRPO = "grpo --model model --problems p.jsonl --output o --max-context 256"
SFT = "sft --model model --problems traces.jsonl --output o --train.batch_size 8"
PRM = "prm train --model model --problems steps.jsonl --output o --train.batch_size 8"
EVAL = "eval --model model --benchmark p.jsonl --output o"
DISTILL = f"distill --problems p.jsonl --model served --output o {ENDPOINT}"
LABEL = "prm label --source monte-carlo --model model --output o"

# What was typed, and what the sentence has to name.
MISTAKES: dict[str, list[tuple[str, str]]] = {
    "Commands": [
        ("nonsense", "nonsense"),
        ("grad p.jsonl", "grade"),
    ],
    "`grade`": [
        ("grade", "FILE"),
        ("grade missing.jsonl", "missing.jsonl"),
        ("grade folder", "folder"),
        ("grade empty.jsonl", "empty.jsonl"),
        ("grade binary.jsonl", "binary.jsonl"),
        ("grade text.jsonl", "text.jsonl, line 1"),
        ("grade list.jsonl", "list.jsonl, line 1"),
        ("grade columns.jsonl", "--gold-key"),
        ("grade types.jsonl", "types.jsonl, line 1"),
        ("grade broken.csv.gz", "broken.csv.gz"),
        ("grade p.jsonl --answer-key nope", "--answer-key"),
        ("grade p.jsonl --output folder", "--output folder"),
        ("grade p.jsonl --output none/x.jsonl", "--output none/x.jsonl"),
        ("grade p.jsonl --output /proc/x.jsonl", "--output /proc/x.jsonl"),
        ("grade p.jsonl --timeout nan", "--timeout"),
        ("grade p.jsonl --workers 0", "--workers"),
        ("grade p.jsonl --memory-mb 99999999999999", "--memory-mb"),
        ("grade p.jsonl --style other", "--style"),
        ("grade p.jsonl --correct-reward nan", "--correct-reward"),
        ("grade p.jsonl --model m", "--model"),
        ("grade p.jsonl stray", "stray"),
    ],
    "`vote`": [
        ("vote missing.jsonl", "missing.jsonl"),
        ("vote empty.jsonl", "empty.jsonl"),
        ("vote binary.parquet", "binary.parquet"),
        ("vote p.jsonl --rule nope", "--rule"),
        ("vote p.jsonl --rule weighted", "--rule weighted"),
        ("vote p.jsonl --subsets 0", "--subsets"),
        ("vote p.jsonl --keep-confident nan", "--keep-confident"),
        ("vote p.jsonl --plot x.gif", "--plot x.gif"),
        ("vote p.jsonl --plot none/x.png", "--plot none/x.png"),
        ("vote p.jsonl --temperature 1", "--temperature"),
    ],
    "`curate`": [
        ("curate --output o", "--source"),
        ("curate --source missing.jsonl --output o", "--source missing.jsonl"),
        ("curate --source folder --output o", "--source folder"),
        ("curate --source empty.jsonl --output o", "--source empty.jsonl"),
        ("curate --source binary.parquet --output o", "--source binary.parquet"),
        ("curate --source columns.jsonl --output o", "--problem-key"),
        ("curate --source p.jsonl --output p.jsonl", "--output p.jsonl"),
        ("curate --source p.jsonl --output p.jsonl/x", "--output p.jsonl/x"),
        ("curate --source p.jsonl --output o --near 2", "near"),
        ("curate --source p.jsonl --output o --min-chars 9 --max-chars 5", "chars"),
        ("curate --source p.jsonl --output o --filters nope", "nope"),
        ("curate --source p.jsonl --output o --benchmark missing.jsonl", "--benchmark missing.jsonl"),
        ("curate --source p.jsonl --output o --judge-model x", "--judge-model"),
    ],
    "`distill`": [
        ("distill --problems p.jsonl --model served --output o", "--base-url"),
        (f"distill --problems missing.jsonl --model m --output o {ENDPOINT}", "missing.jsonl"),
        (f"distill --problems types.jsonl --model m --output o {ENDPOINT}", "types.jsonl"),
        (f"{DISTILL} --attempts 0", "attempts"),
        (f"{DISTILL} --temperature nan", "temperature"),
        (f"{DISTILL} --top-p 2", "--top-p"),
        (f"{DISTILL} --keep nope", "--keep"),
        (f"{DISTILL} --extra-body []", "--extra-body"),
        (f"{DISTILL} --max-problems 0", "--max-problems"),
        (f"{DISTILL} --data.max_len 5", "--data.max_len"),
        ("distill --problems p.jsonl --model cut --teacher engine --output o", "model.safetensors"),
        ("distill --problems p.jsonl --model no_weights --teacher engine --output o", "--model no_weights"),
        ("distill --problems p.jsonl --model no_template --teacher engine --output o", "--model no_template"),
        ("distill --problems p.jsonl --model model --teacher engine --output o --max-context 9999", "--max-context"),
    ],
    "`sft`": [
        ("sft --problems traces.jsonl", "--model"),
        ("sft --model folder --problems traces.jsonl --output o", "folder"),
        (SFT.replace("model model", "model no_config"), "no_config"),
        (SFT.replace("model model", "model list_config"), "list_config"),
        (SFT.replace("model model", "model cut"), "cut"),
        (SFT.replace("model model", "model short_header"), "short_header"),
        (SFT.replace("model model", "model pointer"), "pointer"),
        (SFT.replace("model model", "model broken_tokenizer"), "broken_tokenizer"),
        (SFT.replace("model model", "model broken_template"), "broken_template"),
        (SFT.replace("traces.jsonl", "missing.jsonl"), "missing.jsonl"),
        (SFT.replace("traces.jsonl", "columns.jsonl"), "columns.jsonl"),
        (f"{SFT} --problem-key nope", "nope"),
        (f"{SFT} --adam.lr nan", "--adam.lr"),
        (f"{SFT} --train.micro_batch_size 0", "--train.micro_batch_size"),
        (f"{SFT} --data.max_len 2", "--data.max_len"),
        (f"{SFT} --ds.zero_stage 9", "--ds.zero_stage"),
        (f"{SFT} --rollout.batch_size 3", "--rollout.batch_size"),
        (f"{SFT} --output p.jsonl/run", "p.jsonl is not a directory"),
        (f"{SFT} --ckpt.output_dir p.jsonl", "--ckpt.output_dir p.jsonl"),
        (f"{SFT} --logger.tensorboard_dir p.jsonl", "--logger.tensorboard_dir p.jsonl"),
    ],
    "`grpo`": [
        (GRPO.replace("model model", "model cut"), "model.safetensors"),
        (GRPO.replace("model model", "model pointer"), "model.safetensors"),
        (GRPO.replace("model model", "model no_weights"), "no_weights"),
        (GRPO.replace("model model", "model no_tokenizer"), "tokenizer_config.json"),
        (GRPO.replace("model model", "model broken_template"), "broken_template"),
        (GRPO.replace("p.jsonl", "empty.jsonl"), "empty.jsonl"),
        (GRPO.replace("p.jsonl", "types.jsonl"), "types.jsonl"),
        (f"{GRPO} --answer-key nope", "nope"),
        (f"{GRPO} --max-context 99999", "--max-context 99999"),
        (f"{GRPO} --attempts 0", "--attempts 0"),
        (f"{GRPO} --temperature -1", "--temperature -1"),
        (f"{GRPO} --correct-reward nan", "--correct-reward nan"),
        (f"{GRPO} --max-problems 3", "--max-problems 3"),
        (f"{GRPO} --train.num_episodes 0", "--train.num_episodes"),
        (f"{GRPO} --train.agent_func_path broken.py", "broken.py"),
        (f"{GRPO} --reward.remote_url none.py", "--reward.remote_url none.py"),
        (f"{GRPO} --reward.remote_url broken.py", "--reward.remote_url broken.py"),
        (f"{GRPO} --reward.remote_url localhost:5000", "--reward.remote_url localhost:5000"),
        (f"{GRPO} --reward.remote_url http://127.0.0.1:9/score", "--reward.remote_url http://127.0.0.1:9"),
        (f"{GRPO} --reward.model_name_or_path model", "score.weight"),
        (f"{GRPO} --critic.model_name_or_path model", "--algo.advantage.estimator gae"),
        (f"{GRPO} --ckpt.path p.jsonl", "--ckpt.path p.jsonl"),
        (f"{GRPO} --learning-rate 5", "--learning-rate"),
    ],
    "`eval`": [
        ("eval --output o --benchmark p.jsonl", "--model"),
        ("eval --output o --model model", "--benchmark"),
        (EVAL.replace("model model", "model short_header"), "model.safetensors"),
        (EVAL.replace("model model", "model missing_shard"), "model-00002.safetensors"),
        (EVAL.replace("model model", "model no_template"), "no_template"),
        (EVAL.replace("p.jsonl", "binary.jsonl"), "binary.jsonl"),
        (EVAL.replace("model model", "model no_default"), "no_default"),
        (f"{EVAL} --chat-date 2024-02-30", "--chat-date"),
        (f"{EVAL} --chat-date 2024-07-26", "--chat-date 2024-07-26"),
        (f"{EVAL} --scorer verifier --scorer-model thinking", "--scorer-model thinking"),
        (f"{EVAL} --samples 0", "samples"),
        (f"{EVAL} --temperature nan", "temperature"),
        (f"{EVAL} --max-context 99999", "--max-context"),
        (f"{EVAL} --engine-args {{", "--engine-args"),
        (f"{EVAL} --scorer-model model", "--scorer"),
        (f"{EVAL} --input-template x", "--input-template"),
        (f"{EVAL} --output p.jsonl", "--output p.jsonl"),
        (f"{EVAL} --completions p.jsonl", "--model"),
        ("eval --completions p.jsonl --output o --base-url http://127.0.0.1:9/v1", "--base-url"),
        ("eval --completions empty.jsonl --output o", "empty.jsonl"),
        ("eval --completions p.jsonl", "--output"),
        ("eval --compare missing run", "missing"),
    ],
    "`solve` and `serve`": [
        ("solve 1+1?", "--model"),
        ("solve --model model", "PROBLEM"),
        ("solve --model folder 1+1?", "--model folder"),
        ("solve --model cut 1+1?", "model.safetensors"),
        ("solve --model no_weights 1+1?", "--model no_weights"),
        ("solve --model broken_template 1+1?", "--model broken_template"),
        ("solve --model model --problems missing.jsonl", "missing.jsonl"),
        ("solve --model model --problems p.jsonl --output none/x.jsonl", "--output none/x.jsonl"),
        ("solve --model model --problems p.jsonl --output traces.jsonl --resume", "traces.jsonl, line 1"),
        ("solve --model model --problems p.jsonl --resume", "--resume"),
        ("solve --model model --problems p.jsonl --max-problems -1", "--max-problems"),
        ("solve --model model 1+1? --attempts 0", "--attempts"),
        (f"solve --model model 1+1? --attempts {10**26}", "--attempts"),
        ("solve --model model 1+1? --strategy json.loads", "--strategy json.loads"),
        ("solve --model model 1+1? --strategy builtins.id", "--strategy builtins.id"),
        ("solve --model model 1+1? --agents missing.json", "missing.json"),
        ("solve --model model 1+1? --rule weighted", "--rule"),
        ("solve --model model 1+1? --confidence 2", "--confidence"),
        ("solve --model model 1+1? --max-context 99999", "--max-context"),
        ("solve --model model 1+1? --base-url nope", "--base-url"),
        ("serve --model cut", "model.safetensors"),
        ("serve --model model --port 99999", "--port 99999"),
        ("serve --model model --api-key-env NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE"),
        ("serve --model model --attempts 0", "--attempts"),
    ],
    "`prm`": [
        ("prm", "MODE"),
        ("prm lable", "lable"),
        ("prm label --source monte-carlo --output o p.jsonl", "--model"),
        ("prm label --source nope --output o p.jsonl", "nope"),
        (f"{LABEL} missing.jsonl", "missing.jsonl"),
        (f"{LABEL} empty.jsonl", "empty.jsonl"),
        (f"{LABEL} folder", "folder"),
        (f"{LABEL} p.jsonl --completions 0", "completions"),
        (f"{LABEL} p.jsonl --heldout 2", "heldout"),
        (f"{LABEL} p.jsonl --output p.jsonl", "--output p.jsonl"),
        (f"{LABEL} p.jsonl --model cut", "model.safetensors"),
        (PRM.replace("model model", "model cut"), "cut"),
        (PRM.replace("steps.jsonl", "columns.jsonl"), "columns.jsonl"),
        (PRM.replace("model model", "model gpt2"), "--model gpt2"),
        (PRM.replace("model model", "model gpt2") + " --scorer qwen2.5-math-prm", "--scorer qwen2.5-math-prm"),
        (f"{PRM} --separator x", "--separator"),
        (f"{PRM} --scorer verifier", "--scorer"),
        (f"{PRM} --adam.lr -1", "--adam.lr"),
        (f"{PRM} --ds.lora.rank 4", "--ds.lora.rank"),
        (f"{PRM} --ckpt.output_dir p.jsonl", "--ckpt.output_dir p.jsonl"),
        (f"{PRM} --answer-key x", "--answer-key"),
    ],
    "`report`, `status`, `doctor`": [
        ("report missing", "missing"),
        ("report p.jsonl", "p.jsonl"),
        ("report folder", "folder"),
        ("report run --output x.txt", "--output x.txt"),
        ("report run --samples -1", "--samples"),
        ("status missing", "missing"),
        ("status folder", "folder"),
        ("status run --watch nan", "--watch"),
        ("status run --watch 1 --json", "--json"),
        ("doctor --model missing", "--model missing"),
        ("doctor --modle x", "--model"),
    ],
    "Other commands": [
        ("demo --run-dir folder", "--run-dir folder"),
        ("demo --run-dir p.jsonl/x", "--run-dir p.jsonl/x"),
        ("demo --output o --steps 0", "--steps"),
        ("demo --output o --seed -1", "--seed"),
        ("tiny-world", "directory"),
        ("tiny-world run", "run"),
        ("tiny-world p.jsonl/x", "p.jsonl/x"),
        ("tiny-world o --output o2", "directory"),
        ("tiny-teacher --flawed 2", "--flawed"),
        ("patches nope", "nope"),
        ("completion fish", "fish"),
        ("experiments kl --seeds 0", "seeds"),
        ("experiments kl --run-dir p.jsonl", "--run-dir p.jsonl"),
        ("experiments speed --model model --benchmark p.jsonl --output folder", "--output folder"),
    ],
}


def make_world(world: Path) -> None:
    """A sound tiny model with damaged copies of it, and files of all kinds."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from openrlhf_math.data.tiny_world.world import build_tokenizer

    config = Qwen2Config(
        vocab_size=384, hidden_size=128, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    model = world / "model"
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(model)
    build_tokenizer([f"{n} + {n} = ?" for n in range(40)]).save_pretrained(model)
    whole = (model / "model.safetensors").read_bytes()

    def damaged(name, file, content):
        """Makes a copy of the model with another content of a file, or without it."""
        folder = shutil.copytree(model, world / name)
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
        return folder

    damaged("cut", "model.safetensors", whole[:-100])
    damaged("short_header", "model.safetensors", whole[:5])
    damaged("pointer", "model.safetensors", b"version https://git-lfs.github.com/spec/v1\nsize 3\n")
    damaged("no_weights", "model.safetensors", None)
    damaged("no_config", "config.json", None)
    damaged("list_config", "config.json", b"[]")
    damaged("no_tokenizer", "tokenizer_config.json", None)
    damaged("broken_tokenizer", "tokenizer.json", b"[1]")
    damaged("broken_template", "chat_template.jinja", b"{% for %}")
    damaged("no_template", "chat_template.jinja", None)
    damaged("thinking", "chat_template.jinja", b"{{ messages[0].content }}<think>")
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 384, "n_positions": 512}
    damaged("gpt2", "config.json", json.dumps(gpt2).encode())
    no_default = damaged("no_default", "chat_template.jinja", None) / "additional_chat_templates"
    no_default.mkdir()
    for name in ("tool_use", "rag"):
        (no_default / f"{name}.jinja").write_text("{{ messages }}")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    damaged("missing_shard", "model.safetensors.index.json", json.dumps(index).encode())

    row = {"problem": "{n} + 1 = ?", "answer": "{m}", "gold": "{m}", "response": "x\n\n\\boxed{{{m}}}"}
    rows = [{name: text.format(n=n, m=n + 1) for name, text in row.items()} for n in range(40)]
    rows = [one | {"responses": [one["response"]] * 2} for one in rows]
    wrong = {"problem": 5, "answer": {"a": 1}, "gold": [1], "response": 7, "responses": "x"}
    write_rows(world / "p.jsonl", rows)
    write_rows(world / "types.jsonl", [one | wrong for one in rows])
    write_rows(world / "columns.jsonl", [{"a": "1"}] * 40)
    write_rows(world / "traces.jsonl", [{"problem": one["problem"], "response": "\\boxed{1}"} for one in rows])
    write_rows(world / "steps.jsonl", [{"problem": "1", "steps": ["a", "b"], "labels": [1, 0]}] * 40)
    for name, content in {
        "empty.jsonl": b"", "text.jsonl": b"no JSON\n", "list.jsonl": b"[1]\n[2]\n", "broken.csv.gz": b"no gzip",
        "binary.jsonl": bytes(range(255, 0, -1)), "binary.parquet": bytes(range(255, 0, -1)), "broken.py": b"def f(:",
    }.items():  # fmt: skip
        (world / name).write_bytes(content)
    (world / "folder").mkdir()
    (world / "run").mkdir()
    (world / "run" / "config.json").write_text("{")


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(typed: str) -> tuple[int, list[str]]:
    """The exit code of a command line in the world, and the lines of its standard error."""
    from openrlhf_math.cli import main

    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        code = main(shlex.split(typed))
    # curate says first what it reads
    said = error.getvalue().replace(f"{os.getcwd()}/", "")
    return code, [line for line in said.splitlines() if not line.startswith("curate: ")]


@contextlib.contextmanager
def without_engines():
    """Fail if Ray is started or vLLM imported."""
    import ray

    def started(*args, **flags):
        raise AssertionError("Ray is started")

    init, vllm = ray.init, sys.modules.get("vllm")
    ray.init, sys.modules["vllm"] = started, None  # the import of None raises ModuleNotFoundError
    try:
        yield
    finally:
        ray.init = init
        del sys.modules["vllm"]
        if vllm:
            sys.modules["vllm"] = vllm


INTRODUCTION = """# Mistakes and what is printed

Each of these ends with exit code 2 before anything is written and before an engine starts. `python tests/mistakes.py`
writes this page, and a unit test makes each mistake and compares.

`model` is a working model with 512 tokens of context; `cut`, `short_header`, `pointer`, `missing_shard` and so on are
copies of it with the damage that their name says. `p.jsonl` is valid and has 40 problems; `types.jsonl` has numbers and
lists in place of texts, `columns.jsonl` has one column `a`, `binary.jsonl` is not text, `text.jsonl` is not JSON, and
`folder` is empty.
"""


def row(typed: str, said: str) -> str:
    """The row of the page's tables for a mistake. said: what was printed."""
    said = said.removeprefix("openrlhf-math ")
    code = f"`` {said} ``" if "`" in said else f"`{said}`"
    return f"| `{typed}` | {code} |".replace("\\", "\\\\")


def page() -> str:
    parts = [INTRODUCTION]
    for heading, mistakes in MISTAKES.items():
        rows = [row(typed, " ".join(run(typed)[1])) for typed, _ in mistakes]
        table = ["| `openrlhf-math ...` | prints |", "|---|---|", *rows]
        parts.append(f"## {heading}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def main() -> None:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, without_engines():
        make_world(Path(folder))
        os.chdir(folder)
        text = page()
        os.chdir(home)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
