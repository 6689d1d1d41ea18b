"""Process reward models over any family: loss and gradient against Transformers' own class, one sequence at a time."""

import json
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForTokenClassification

sys.path.append(str(Path(__file__).parents[1]))

import families
import tiny_scorers
from wrong_attention import leaky

from openrlhf_math.cli import main
from openrlhf_math.errors import UserError
from openrlhf_math.modeling import attention, shared_prefix_attention
from openrlhf_math.prm.forms import QwenMathForm, TokenClassifierForm, find_form
from openrlhf_math.prm.rows import read_solution
from openrlhf_math.rerank.scorers import SCORERS

SHARED = [
    "llama3", "llama-biases", "mistral", "mistral-window", "ministral", "ministral3", "qwen2", "qwen2-window", "qwen3",
    "qwen3-window", "qwen3-moe", "qwen2-moe", "mixtral", "mixtral-window", "gemma", "gemma2", "phi", "phi3-window",
    "deepseek-v3", "gpt-oss", "glm4", "smollm3", "starcoder2", "exaone4", "nemotron", "stablelm", "seed-oss", "helium",
    "arcee", "apertus", "diffllama", "persimmon",
]  # fmt: skip
# Recurrent layers; frequencies that a longer row in the batch changes.
ALONE = ["qwen3-next", "minimax", "llama-dynamic", "phi3-longrope"]
LONGEST = 48

# Three solutions behind one beginning, and one alone: tokens, places that are read, labels of them (None: not known).
SHAPES = [
    (9, [12, 20, 30], [1.0, 0.3, None]),
    (9, [12, 25], [None, 0.0]),
    (9, [40], [0.7]),
    (5, [6, 7, 15], [0.0, 1.0, 1.0]),
]


def solutions() -> list[tuple[list[int], list[int], list[float | None]]]:
    generator = torch.Generator().manual_seed(0)

    def words(count: int) -> list[int]:
        return torch.randint(families.FIRST_WORD, families.VOCABULARY, (count,), generator=generator).tolist()

    prompts = {length: words(length) for length in (9, 5)}
    return [(prompts[prompt] + words(read[-1] + 1 - prompt), read, labels) for prompt, read, labels in SHAPES]


def build(name: str, directory: Path, head: bool = True) -> Path:
    """A family's tiny model with a head of two labels whose scores differ, or without one."""
    families.build(name, directory)
    if head:
        model = AutoModelForTokenClassification.from_pretrained(directory, num_labels=2, dtype=torch.float32)
        with torch.no_grad():
            model.score.weight.normal_(std=0.4)
            model.score.bias.normal_()
            for parameter in model.score.parameters():
                parameter.copy_(parameter.bfloat16())
        model.save_pretrained(directory)
    return directory


def judge(directory: Path, longest: int = LONGEST):
    from openrlhf_math.prm.trainer import StepJudge

    with mock.patch("openrlhf.utils.utils.convert_to_torch_dtype", families.DTYPES.get):
        made = StepJudge(str(directory), param_dtype="fp32", form=TokenClassifierForm(), longest=longest)
    return made.train()


def naive(directory: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean cross entropy of labelled steps, and its gradient by the names of parameters."""
    known = sum(label is not None for _, _, labels in solutions() for label in labels)
    total, gradient = 0.0, {}
    for ids, read, labels in solutions():
        # A fresh one each time: with dynamic rotary frequencies it would remember the length of the one before.
        model = AutoModelForTokenClassification.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        logits = model(torch.tensor([ids])).logits[0]
        for at, label in zip(read, labels, strict=True):
            if label is not None:
                loss = cross_entropy(logits[at], torch.tensor([1.0 - label, label])) / known
                loss.backward(retain_graph=True)
                total += loss.item()
        for name, one in model.named_parameters():
            if one.grad is not None:
                gradient[name] = gradient.get(name, 0) + one.grad
    return total, gradient


def ours(made) -> tuple[float, dict[str, torch.Tensor]]:
    """Through OpenRLHF's loss, as its trainer calls both."""
    from openrlhf.models import SFTLoss

    from openrlhf_math.prm.trainer import StepDataset, tensors
    from openrlhf_math.rerank.steps import Encoded

    rows = [tensors(Encoded(ids, read), labels) for ids, read, labels in solutions()]
    dataset = StepDataset([], tiny_scorers.build_tokenizer("trl-prm"), LONGEST, None, form=TokenClassifierForm())
    ids, labels, mask = (part.squeeze(1) for part in dataset.collate_fn(rows))
    likelihoods, _ = made(ids, attention_mask=labels, return_output=True)
    loss = SFTLoss()(likelihoods, mask[:, :-1])
    loss.backward()
    return loss.item(), {name: one.grad for name, one in made.model.named_parameters() if one.grad is not None}


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Of gradients, relative to the norm of the second."""
    assert found.keys() == expected.keys()
    apart = sum((found[name] - expected[name]).square().sum().item() for name in expected)
    return (apart / sum(one.square().sum().item() for one in expected.values())) ** 0.5


@pytest.mark.parametrize("name", SHARED + ALONE)
def test_loss_and_gradient_match_the_transformers_class(name, tmp_path):
    build(name, tmp_path)
    loss, gradient = naive(tmp_path)
    made = judge(tmp_path)
    note = made.choose_path()
    assert (made.path, note is None) == (("rows", False) if name in ALONE else ("shared", True)), note
    found_loss, found_gradient = ours(made)
    assert found_loss == pytest.approx(loss, abs=1e-5)
    assert distance(found_gradient, gradient) < 1e-5
    assert found_gradient["score.weight"].abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llama3", "qwen3", "gemma2", "mixtral-window"])
def test_checkpointing_changes_nothing(name, tmp_path):
    build(name, tmp_path)
    loss, gradient = naive(tmp_path)
    made = judge(tmp_path)
    made.gradient_checkpointing_enable()
    found_loss, found_gradient = ours(made.train())
    assert found_loss == pytest.approx(loss, abs=1e-5) and distance(found_gradient, gradient) < 1e-5


def test_unused_rotary_frequencies_allow_packing(tmp_path):
    build("phi3-longrope-short", tmp_path)
    made = judge(tmp_path)
    assert made.choose_path() is None and made.path == "shared"
    assert judge(tmp_path, longest=65).path == "rows"


def scaled(query, key, value, layout, seen, scores):
    return attention.attend(query, key, value, layout, seen, type(scores)(0.9 * scores.scaling))


@pytest.mark.parametrize("wrong", [leaky, scaled])
def test_wrong_row_is_detected_with_a_new_head(wrong, tmp_path, monkeypatch):
    build("llama3", tmp_path, head=False)
    monkeypatch.setattr(shared_prefix_attention, "attend", wrong)
    made = judge(tmp_path)
    assert "a packed row differs" in made.choose_path() and made.path == "rows"


def test_nan_weights_are_refused(tmp_path):
    from openrlhf_math.modeling.probe import WrongPath

    made = judge(build("llama3", tmp_path))
    made.model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(WrongPath, match="not finite"):
        made.choose_path()


def test_solution_is_written_as_the_scorer_writes_it(tmp_path):
    tokenizer = tiny_scorers.build_tokenizer("trl-prm")
    config = AutoConfig.for_model("llama", architectures=["LlamaForTokenClassification"], step_separator="\n\n")
    config.save_pretrained(tmp_path)
    scorer = SCORERS["trl-prm"](tokenizer, AutoConfig.from_pretrained(tmp_path))
    assert scorer.separator == "\n\n"
    problem, steps = "Leo has 9 <|im_end|> pens.", ["9-3=6.\nSo 6", "It is 6."]
    encoded = TokenClassifierForm("\n\n").encode(tokenizer, problem, steps)
    assert encoded == scorer.encode(problem, steps)
    assert encoded != TokenClassifierForm("\n").encode(tokenizer, problem, steps)


@pytest.mark.parametrize("separator", ["", 7, ["\n"]])
def test_model_separator_must_be_text(separator):
    config = AutoConfig.for_model("llama", architectures=["LlamaForTokenClassification"], step_separator=separator)
    with pytest.raises(ValueError, match="step_separator"):
        SCORERS["trl-prm"](tiny_scorers.build_tokenizer("trl-prm"), config)


@pytest.mark.parametrize(
    "separator, steps, fits",
    [
        ("\n", ["one", "two"], True),
        ("\n", ["one\ntwo", "three"], False),
        ("\n\n", ["one\ntwo", "three"], True),
        ("\n\n", ["one\ntwo"], False),  # without a blank line the scorer takes every line for a step
        (";", ["one\ntwo"], True),
        (";", ["a; b", "c"], False),
        ("\n", ["<think>one", "two"], False),
    ],
)
def test_steps_invisible_to_the_scorer_are_errors(separator, steps, fits):
    assert (TokenClassifierForm(separator).fault(steps) is None) == fits


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "p", "steps": [" a\n", "b"], "labels": [1.0, 0.0]},
        {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]},
    ],
)
def test_rows_may_be_ours_or_trls(row):
    found = read_solution(row)
    assert (found.problem, list(found.steps), list(found.labels)) == ("p", ["a", "b"], [1.0, 0.0])


CONFIGS = {
    "qwen2": ("qwen2", "Qwen2ForCausalLM", {}, None, QwenMathForm()),
    "qwen2 as a classifier": ("qwen2", "Qwen2ForCausalLM", {}, "trl-prm", TokenClassifierForm()),
    "a classifier": ("qwen2", "Qwen2ForTokenClassification", {}, None, TokenClassifierForm()),
    "a PRM": ("qwen2", "Qwen2ForProcessRewardModel", {}, None, QwenMathForm()),
    "llama": ("llama", "LlamaForCausalLM", {}, None, TokenClassifierForm()),
    "continues": ("llama", "LlamaForTokenClassification", {"step_separator": ";"}, None, TokenClassifierForm(";")),
    "llama as Qwen's": ("llama", "LlamaForCausalLM", {}, "qwen2.5-math-prm", "give --math.scorer trl-prm"),
    "no classifier": ("gemma3_text", "Gemma3ForCausalLM", {}, None, "no token classifier over this family"),
    "head of another name": ("gpt_neox", "GPTNeoXForCausalLM", {}, None, "no token classifier over this family"),
    "no causal class": ("gpt2", "GPT2LMHeadModel", {}, None, "no token classifier over this family"),
    "encoder": ("roberta", "RobertaForCausalLM", {}, None, "no token classifier over this family"),
    "reward model": ("llama", "LlamaForSequenceClassification", {}, None, "is a LlamaForSequenceClassification"),
    "three labels": ("llama", "LlamaForTokenClassification", {"num_labels": 3}, None, "3 labels"),
    "separator": ("llama", "LlamaForCausalLM", {"step_separator": 3}, None, "step_separator"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_form_comes_from_the_base_or_the_flag(name, tmp_path):
    kind, architecture, settings, scorer, expected = CONFIGS[name]
    AutoConfig.for_model(kind, architectures=[architecture], **settings).save_pretrained(tmp_path)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            find_form(str(tmp_path), scorer, None)
    else:
        assert find_form(str(tmp_path), scorer, None) == expected


def test_tag_has_no_separator(tmp_path):
    AutoConfig.for_model("qwen2", architectures=["Qwen2ForCausalLM"]).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="--math.separator"):
        find_form(str(tmp_path), None, "\n")


ROWS = [{"problem": "p", "steps": ["a", "b"], "labels": [1.0, 0.0]}] * 8


def base(directory: Path) -> Path:
    families.build("llama3", directory)
    config = json.loads((directory / "config.json").read_text())
    tokenizer = tiny_scorers.build_tokenizer("trl-prm")
    tokenizer.save_pretrained(directory)
    if config["vocab_size"] < len(tokenizer):
        model = families.load("llama3", directory)
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(directory)
    return directory


BAD = {
    "Qwen's form": (ROWS, ["--scorer", "qwen2.5-math-prm"], "--scorer qwen2.5-math-prm: "),
    "an unknown form": (ROWS, ["--scorer", "x"], "invalid choice: 'x'"),
    "an empty separator": (ROWS, ["--separator", ""], "--separator is empty"),
    "other steps": ([row | {"steps": ["a\nc", "b"]} for row in ROWS], [], "give another --math.separator than"),
    "lora": (ROWS, ["--ds.lora.rank", "8"], "--ds.lora.rank has no meaning"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_writing(name, tmp_path, capsys):
    rows, flags, sentence = BAD[name]
    model, file = base(tmp_path / "model"), tmp_path / "steps.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["prm", "train", "--model", str(model), "--problems", str(file), "--output", str(tmp_path / "run")]
    try:
        code = main([*command, "--train.batch_size", "8", "--train.micro_batch_size", "8", *flags])
    except SystemExit as end:
        code = end.code
    assert code == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_dry_run_reports_the_model_conversion(tmp_path, capsys):
    model, file = base(tmp_path / "model"), tmp_path / "steps.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = ["prm", "train", "--model", str(model), "--problems", str(file), "--output", str(tmp_path / "run")]
    assert main([*command, "--train.batch_size", "8", "--dry-run", "--separator", "\\n\\n"]) == 0
    said = capsys.readouterr().out
    assert "scorer: trl-prm, read at '\\n\\n' behind every step" in said and "packed into one" in said
