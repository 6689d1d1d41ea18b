"""`openrlhf-math prm train` over models that are not Qwen2: trained, killed and resumed, and scored in vLLM."""

import asyncio
import json
import random
import subprocess

import pytest
import tiny_scorers
import torch
from test_prm import kill_when, lines, prm, run
from transformers import AutoModelForCausalLM as Causal
from transformers import AutoModelForTokenClassification, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

pytestmark = pytest.mark.slow

SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 1024, "head_dim": 32}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
FAMILIES: dict[str, dict] = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8, "query_pre_attn_scalar": 32, "attn_logit_softcapping": 5.0},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": EXPERTS,
}


def rows(count: int) -> list[dict]:
    """Sums of two steps, in which the second is right or wrong by chance."""
    draw = random.Random(0)
    found = []
    for _ in range(count):
        a, b, right = draw.randint(1, 9), draw.randint(1, 9), draw.random() < 0.5
        steps = [f"I add {a}\nand {b}.", f"{a}+{b}={a + b if right else a + b + 1}", "That is it."]
        found.append({"problem": f"What is {a}+{b}?", "steps": steps, "labels": [1.0, float(right), None]})
    return found


def training(model, file, output, *more) -> list[str]:
    return prm(
        "train", "--model", model, "--problems", file, "--output", output, "--eval.dataset", file, "--max-context", 128,
        "--train.batch_size", 8, "--train.micro_batch_size", 4, "--adam.lr", "2e-3", "--train.max_epochs", 1,
        "--separator", "\\n\\n", "--ckpt.save_steps", 5, "--device", "cpu", *more,
    )  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, tmp_path_factory):
    """The base, the file of rows and the run."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tiny_scorers.build_tokenizer("trl-prm")
    if request.param == "llama":
        tokenizer.bos_token = "<|endoftext|>"
    torch.manual_seed(0)
    size = -(-len(tokenizer) // 16) * 16
    config = CONFIG_MAPPING[request.param](
        vocab_size=size, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        **SHAPE | FAMILIES[request.param],
    )  # fmt: skip
    model = Causal.from_config(config, dtype=torch.bfloat16)
    for parameter in model.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    file = folder / "steps.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(160)))
    run(training(folder / "base", file, folder / "run"))
    return folder / "base", file, folder / "run"


def test_vllm_scores_match_transformers(trained):
    from openrlhf_math.colocation.layout import enter_environment

    enter_environment("cpu", 1_000_000)
    from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine

    saved = trained[2] / "model"
    tokenizer = AutoTokenizer.from_pretrained(saved)
    model, report = AutoModelForTokenClassification.from_pretrained(
        saved, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and model.config.num_labels == 2
    model.eval()

    def trls(row: dict) -> list[float]:
        """https://github.com/huggingface/trl, PRMTrainer.tokenize_row"""
        ids = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        ids, ends = ids + tokenizer(row["problem"], add_special_tokens=False)["input_ids"], []
        for step in row["steps"]:
            ids = ids + tokenizer(step, add_special_tokens=False)["input_ids"]
            ids = ids + tokenizer("\n\n", add_special_tokens=False)["input_ids"]
            ends.append(len(ids) - 1)
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0, ends].softmax(-1)[:, 1].tolist()

    asked = rows(24)
    engine = ScoringEngine(ScorerSettings("trl-prm", str(saved), "cpu", engine_args={"dtype": "float32"}))

    async def score():
        return [(await engine.score(row["problem"], ["\n\n".join(row["steps"])]))[0] for row in asked]

    try:
        scores = asyncio.run(score())
    finally:
        engine.shutdown()
    expected = [trls(row) for row in asked]
    for one, other in zip(scores, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    worst = max(
        abs(x - y) for one, other in zip(scores, expected, strict=True) for x, y in zip(one, other, strict=True)
    )
    flat = [each for one in expected for each in one]
    print(f"{model.config.model_type}: largest difference {worst:.1e}, of scores {min(flat):.3f} to {max(flat):.3f}")
    assert max(flat) - min(flat) > 0.05


def test_trained_model_records_its_scoring_form(trained):
    config = json.loads((trained[2] / "model" / "config.json").read_text())
    assert config["architectures"][0].endswith("ForTokenClassification") and config["step_separator"] == "\n\n"
    settings = json.loads((trained[2] / "config.json").read_text())["math"]
    assert (settings["scorer"], settings["separator"]) == ("trl-prm", "\n\n")
    evaluations = lines(trained[2] / "eval.jsonl")
    assert evaluations[-1]["steps"] == 320


def test_killed_training_resumes_with_the_same_losses(trained, tmp_path):
    base, file, whole = trained
    metrics = tmp_path / "run" / "metrics.jsonl"
    command = training(base, file, tmp_path / "run")
    kill_when(command, lambda: metrics.exists() and metrics.read_text().count("\n") >= 12)
    refused = [*command, "--resume"]
    refused[refused.index("\\n\\n")] = "\\n"
    other = subprocess.run(refused, capture_output=True, text=True, timeout=120)
    assert other.returncode == 2 and "Traceback" not in other.stderr
    run([*command, "--resume"])
    for resumed, one in zip(lines(metrics), lines(whole / "metrics.jsonl"), strict=True):
        assert resumed["step"] == one["step"] and resumed["loss"] == pytest.approx(one["loss"], rel=1e-3)


def test_two_processes_learn_the_same_sharded_and_not(trained, tmp_path):
    """Not compared with one process: rounding in bfloat16 can send a token to another expert."""
    base, file, _ = trained
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    losses = []
    for stage in ("2", "3"):
        python, *module = training(base, file, tmp_path / stage, "--ds.zero_stage", stage)
        run([python, *launcher, *module])
        losses.append([row["loss"] for row in lines(tmp_path / stage / "metrics.jsonl")])
        assert (tmp_path / stage / "model" / "model.safetensors").exists()
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
