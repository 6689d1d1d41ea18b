"""The process reward model's tensors, its packed rows against one row at a time, and its command's inputs."""

import json
import math

import numpy as np
import pytest
import torch

from openrlhf_math.cli import main
from openrlhf_math.prm.forms import QwenMathForm
from openrlhf_math.prm.measures import auc, step_measures
from openrlhf_math.prm.training import plot_training

SOLUTIONS = [
    {"problem": "Leo has 9 pens.", "steps": ["Leo has 9 pens.", "9-3=6.", "It is 6."], "labels": [1.0, 0.3, 0.0]},
    {
        "problem": "Leo has 9 pens.",
        "steps": ["Leo has 9 pens.", "9-3=5.", "Hm.", "It is 6."],
        "labels": [1, None, 0, 1],
    },
    {"problem": "Mia has 4 books.", "steps": ["Mia <extra_0> x"], "labels": [0.5]},
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    from openrlhf_math.data.tiny_world import write_tiny_world

    world = tmp_path_factory.mktemp("world")
    write_tiny_world(world, seed=0, raw=100, train=10, heldout=10)
    return world / "model"


@pytest.fixture(scope="module")
def dataset(model_dir):
    from transformers import AutoTokenizer

    from openrlhf_math.prm.trainer import StepDataset

    return StepDataset(SOLUTIONS, AutoTokenizer.from_pretrained(model_dir), 512, strategy=None, form=QwenMathForm())


@pytest.fixture(scope="module")
def batch(dataset):
    return [part.squeeze(1) for part in dataset.collate_fn([dataset[n] for n in range(3)])]


def judge(model_dir, path: str):
    from openrlhf_math.prm.trainer import StepJudge

    torch.manual_seed(0)
    made = StepJudge(str(model_dir), form=QwenMathForm(), longest=512)
    made.model.float()
    assert made.path == "shared"
    made.path = path
    return made


def test_label_is_only_at_the_tag_after_its_step(dataset):
    ids, labels, mask = dataset[1]
    tag = dataset.tokenizer.convert_tokens_to_ids("<extra_0>")
    assert ids.shape == labels.shape == mask.shape
    assert (ids == tag).nonzero().tolist() == [[0, n] for n in range(ids.shape[1]) if ids[0, n] == tag]
    assert labels[ids == tag].tolist() == [1.0, -1.0, 0.0, 1.0]
    assert mask[ids == tag].tolist() == [1.0, 0.0, 1.0, 1.0] and mask.sum() == 3
    assert mask[0, -1] == 0, "OpenRLHF's trainer leaves the last column out"


def test_tag_in_model_text_is_escaped(dataset):
    ids, labels, _ = dataset[2]
    tag = dataset.tokenizer.convert_tokens_to_ids("<extra_0>")
    assert (ids == tag).sum() == (labels >= 0).sum() == 1


@pytest.mark.parametrize("path", ["shared", "rows"])
def test_packed_batch_gives_what_each_row_gives_alone(model_dir, batch, path):
    made, (ids, labels, mask) = judge(model_dir, path), batch
    likelihoods = made(ids, attention_mask=labels)
    assert likelihoods[mask[:, :-1] == 0].abs().sum() == 0
    for row, solution in enumerate(SOLUTIONS):
        alone = ids[row : row + 1, : int((labels[row] != -2).sum())]
        log_probs = made.model(alone).logits.log_softmax(dim=-1)[0]
        labelled = [label for label in solution["labels"] if label is not None]
        for at, label in zip(mask[row].nonzero()[:, 0], labelled, strict=True):
            expected = label * log_probs[at, 1] + (1 - label) * log_probs[at, 0]
            assert likelihoods[row, at].item() == pytest.approx(expected.item(), abs=1e-5)


def test_gradient_of_a_packed_batch_is_that_of_padded_rows(model_dir, batch):
    gradients = []
    for path in ("shared", "rows"):
        made = judge(model_dir, path)
        made(batch[0], attention_mask=batch[1]).sum().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in made.model.parameters()]))
    assert torch.allclose(*gradients, atol=1e-4) and gradients[0].abs().max() > 0.01


@pytest.mark.parametrize("added", [0, 20])
def test_tag_without_an_embedding_row_gets_one(model_dir, added):
    from transformers import AutoTokenizer

    from openrlhf_math.prm.model import Qwen2ForProcessRewardModel, add_step_tag

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = Qwen2ForProcessRewardModel.from_pretrained(model_dir)
    before = model.get_input_embeddings().num_embeddings
    tokenizer.add_tokens([f"word{n}" for n in range(added)])
    specials = tokenizer.all_special_tokens
    add_step_tag(tokenizer, model)
    add_step_tag(tokenizer, model)
    rows = model.get_input_embeddings().num_embeddings
    line_end, tag = tokenizer("\n<extra_0>", add_special_tokens=False)["input_ids"]
    assert torch.equal(*model.get_input_embeddings().weight[[line_end, tag]]), (
        "it starts as the embedding of a line's end"
    )
    assert rows == model.config.vocab_size >= len(tokenizer)
    assert rows == before if len(tokenizer) <= before else rows % 64 == 0
    assert len(tokenizer("a<extra_0>", add_special_tokens=False)["input_ids"]) == 2
    assert set(specials) <= set(tokenizer.all_special_tokens)


def test_measures_of_steps():
    found = step_measures([0.9, 0.8, 0.3, 0.6], [1.0, 1.0, 0.0, 0.2])
    expected = -np.mean([math.log(0.9), math.log(0.8), math.log(0.7), 0.2 * math.log(0.6) + 0.8 * math.log(0.4)])
    assert found.loss == pytest.approx(expected)
    assert (found.steps, found.accuracy, found.auc, found.right) == (4, 0.75, 1.0, 0.5)


@pytest.mark.parametrize(
    "scores, positive, expected",
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 1, 0, 1], 0.875),
        ([1, 2], [1, 1], float("nan")),
    ],
)
def test_auc_is_the_pairwise_win_rate(scores, positive, expected):
    assert auc(np.array(scores, dtype=float), np.array(positive, dtype=bool)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("evaluated", [False, True])
def test_training_is_plotted(tmp_path, evaluated):
    records = [{"step": step, "loss": 1 / step} for step in range(1, 60)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    if evaluated:
        (tmp_path / "eval.jsonl").write_text(
            json.dumps({"step": 20, "loss": 0.5, "accuracy": 0.8, "auc": None, "right": 0.6}) + "\n"
        )
    plot_training(tmp_path, "title")
    assert (tmp_path / "prm.png").read_bytes().startswith(b"\x89PNG")


def write(path, rows) -> str:
    path.write_text("".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in rows))
    return str(path)


ALL_RIGHT = [{"problem": "p", "steps": ["a"], "labels": [1.0]}] * 9
BAD_INPUT = {
    "no data": ([], ["--data.dataset", ""], "--data.dataset is missing"),
    "absent file": ([], ["--data.dataset", "absent.jsonl"], "absent.jsonl: "),
    "no row": (["{\n", {"problem": "p"}], [], "steps.jsonl has no row to use ("),
    "few rows": (SOLUTIONS, [], "has 3 rows, fewer than one batch (--train.batch_size 8)"),
    "long rows": (SOLUTIONS * 3, ["--data.max_len", "50"], "has no row to use ("),
    "nothing to tell": (ALL_RIGHT, [], "all its steps are right, so there is nothing to learn"),
    "lora": (ALL_RIGHT, ["--ds.lora.rank", "8"], "--ds.lora.rank has no meaning for a process reward model"),
    "multiturn": (ALL_RIGHT, ["--data.multiturn"], "--data.multiturn has no meaning"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_before_writing(name, model_dir, tmp_path, capsys):
    rows, flags, sentence = BAD_INPUT[name]
    file = write(tmp_path / "steps.jsonl", rows)
    command = ["prm", "train", "--model.model_name_or_path", str(model_dir), "--math.run_dir", str(tmp_path / "run")]
    command += ["--data.dataset", file, "--train.batch_size", "8", "--train.micro_batch_size", "8", *flags]
    assert main(command) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bad_and_long_rows_are_named_and_skipped(model_dir, tmp_path, capsys):
    from argparse import Namespace

    from openrlhf_math.prm.training_inputs import prepare
    from openrlhf_math.prm.training_settings import build_parser, resolve

    bad = [
        {"problem": "p", "steps": ["a"], "labels": [2]},
        "[]\n",
        {"problem": "p", "steps": ["a" * 600], "labels": [1]},
    ]
    file = write(tmp_path / "steps.jsonl", [*SOLUTIONS, *bad])
    parser, run_dir = build_parser("prm train"), tmp_path / "run"
    flags = [
        "--data.dataset",
        file,
        "--train.batch_size",
        "2",
        "--train.micro_batch_size",
        "2",
        "--data.max_len",
        "256",
    ]
    flags += ["--model.model_name_or_path", str(model_dir), "--math.run_dir", str(run_dir), "--math.device", "cpu"]
    args = resolve(Namespace(**vars(parser.parse_args(flags))), parser)
    prepare(args)
    rejects = [json.loads(line) for line in (run_dir / "rejects_train.jsonl").read_text().splitlines()]
    assert [one["place"] for one in rejects] == [f"{file}, line {n}" for n in (4, 5, 6)]
    assert "more than --data.max_len 256" in rejects[2]["reason"]
    assert "set aside: 3 of 6 rows" in capsys.readouterr().out
    kept = [json.loads(line) for line in (run_dir / "steps" / "train.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in kept] == [row["steps"] for row in SOLUTIONS]
    assert json.loads((run_dir / "config.json").read_text())["traces"]["rows"] == 3


@pytest.mark.parametrize(("source", "kept"), [(None, ""), (float("nan"), ""), ("", ""), ("math", "math"), (5.0, "5")])
def test_source_of_a_row_that_has_none(source, kept):
    from openrlhf_math.prm.rows import read_solution

    assert read_solution({"problem": "p", "steps": ["a"], "labels": [1], "source": source}).source == kept
