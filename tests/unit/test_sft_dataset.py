"""What SFT learns from, in tensors and in the loss: the marked tokens, in every batch and wherever BPE merges."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from public_tokenizers import byte_level, wrapped
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_math.cli import main
from openrlhf_math.data.conversations import Layout
from openrlhf_math.data.tiny_world import write_tiny_world
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.packed_actor import PADDED, SHARED
from openrlhf_math.sft.render import Renderer
from openrlhf_math.sft.trainer import TraceActor, TraceDataset

EOS = "<|endoftext|>"


def merging_tokenizer():
    """Byte-level BPE that merges ":" with a space, two line ends, and "b" with a line end, wherever they meet."""
    _, vocabulary = byte_level([])
    merges = [(":", "Ġ"), ("Ċ", "Ċ"), ("b", "Ċ")]
    vocabulary |= {first + second: len(vocabulary) + number for number, (first, second) in enumerate(merges)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([EOS])
    template = (
        "{% for message in messages %}{{ 'Q:' if message['role'] == 'user' else 'A:' }}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
    )
    return wrapped(backend, None, EOS, template)


# Each conversation with the vocabulary's entries of its row, and with * what is learned. The template writes a line end
# behind a message; "A:" and an answer that begins with a space meet within a row, as do two line ends.
CONVERSATIONS = [
    ([("user", "a"), ("assistant", " 7")], "Q : a Ċ A : *Ġ *7 *E"),
    ([("user", "ab"), ("assistant", "\n7")], "Q : a bĊ A : *Ċ *7 *E"),
    ([("user", "a\n"), ("assistant", "b"), ("user", " c"), ("assistant", " b\n")],
     "Q : a ĊĊ A : *b *E Ċ Q :Ġ c Ċ A : *Ġ *bĊ *E"),
    ([("user", ":"), ("assistant", ": 8")], "Q : : Ċ A : *:Ġ *8 *E"),
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("model"), merging_tokenizer()
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    data = SimpleNamespace(apply_chat_template=True, input_template=None, tokenizer_chat_template=None)
    ours = {"thinking_tags": "think", "code_output": "mask", "template_variables": {}, "chat_date": None}
    math_args = SimpleNamespace(instruction="", thinking="keep", **ours)
    args = SimpleNamespace(data=data, model=SimpleNamespace(model_name_or_path=str(folder)), math=math_args)
    render, layout = Renderer(args), Layout(("messages",))
    rows = []
    for number, (turns, _) in enumerate(CONVERSATIONS, start=1):
        messages = [{"role": role, "content": content} for role, content in turns]
        pieces = render.pieces(layout.turns({"messages": messages}))
        for trace in render.rows("set", [(number, pieces)])[0]:
            rows.append({"ids": list(trace.ids), "learned": trace.learned})
    return TraceDataset(rows, render.tokenizer, 64, SimpleNamespace(args=args))


def by_hand(number: int) -> list[tuple[str, bool]]:
    entries = CONVERSATIONS[number][1].split()
    return [(entry.lstrip("*").replace("E", EOS), entry.startswith("*")) for entry in entries]


def read(tokenizer, ids, attention_mask, loss_mask) -> list[tuple[str, bool]]:
    """A row of a batch without its padding. The mask is 1 at i where token i + 1 is learned."""
    ids, learned = ids[attention_mask.bool()], [False, *loss_mask[:-1].bool().tolist()]
    assert not loss_mask[int(attention_mask.bool().sum()) - 1 :].any(), "nothing is learned in the padding"
    return list(zip(tokenizer.convert_ids_to_tokens(ids.tolist()), learned, strict=False))


def test_texts_as_a_whole_would_be_merged_over_the_boundaries():
    assert merging_tokenizer().tokenize("A: 7") == ["A", ":Ġ", "7"]
    assert merging_tokenizer().tokenize("\n\n7") == ["ĊĊ", "7"]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_every_batch_has_the_masks_of_its_rows(dataset, micro_batch):
    loader = torch.utils.data.DataLoader(dataset, micro_batch, collate_fn=dataset.collate_fn)
    found = [read(dataset.tokenizer, *row) for batch in loader for row in zip(*batch, strict=True)]
    assert found == [by_hand(number) for number in range(len(CONVERSATIONS))]


@pytest.mark.parametrize(("attention", "path"), [(SHARED_PREFIX, SHARED), ("sdpa", PADDED)])
def test_packed_rows_and_padded_ones_have_the_loss_of_each_row_alone(dataset, attention, path):
    """Against the model's own logits, a row at a time, over the tokens that are marked by hand."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=len(dataset.tokenizer), num_hidden_layers=2, **size)
    model = Qwen2ForCausalLM(config).float()
    expected = []
    for number in range(len(CONVERSATIONS)):
        entries = by_hand(number)
        ids = torch.tensor([dataset.tokenizer.convert_tokens_to_ids([entry for entry, _ in entries])])
        logits = model(ids).logits[0].double()
        expected.append(sum(
            -math.log(torch.softmax(logits[place - 1], 0)[ids[0, place]].item())
            for place, (_, learned) in enumerate(entries) if learned
        ))  # fmt: skip
    actor = TraceActor(model, attention)
    actor.packing_samples = False
    assert actor.choose_path() is None and actor.path == path
    inputs, attention_mask, loss_mask = dataset.collate_fn([dataset[number] for number in range(len(dataset))])
    log_probs = actor(inputs, attention_mask=attention_mask, return_logprobs=True)
    found = -(log_probs * loss_mask[:, :-1]).sum(-1)
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), atol=1e-4, rtol=1e-4)
    if path == SHARED:  # the head sees no other token
        assert torch.equal(log_probs != 0, loss_mask[:, :-1] != 0)
    plain = actor(inputs, attention_mask=attention_mask.clamp(max=1), return_logprobs=True)
    torch.testing.assert_close(plain * loss_mask[:, :-1], log_probs * loss_mask[:, :-1], atol=1e-5, rtol=1e-5)
    assert bool((plain[attention_mask[:, 1:] > 0] != 0).all())


def test_template_that_rows_were_rendered_with_is_saved_with_the_model():
    tokenizer = merging_tokenizer()
    args = SimpleNamespace(data=SimpleNamespace(tokenizer_chat_template="{{ messages[0]['content'] }}"))
    TraceDataset([], tokenizer, 64, SimpleNamespace(args=args))
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "world"
    write_tiny_world(folder, raw=100, train=10, heldout=10)
    return folder / "model"


def sft(model, folder, *words: str, batch: int = 9) -> int:
    return main([
        "sft", "--model.model_name_or_path", str(model), "--data.max_len", "128", "--train.batch_size", str(batch),
        "--train.micro_batch_size", str(batch), "--math.run_dir", str(folder / "run"), *words,
    ])  # fmt: skip


def written(path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


GOOD = {"problem": "1+1?", "response": r"\boxed{2}"}


def test_rows_that_are_too_long_are_skipped_and_reported(model, tmp_path, capsys):
    rows = written(tmp_path / "rows.jsonl", [GOOD] * 8 + [{"problem": "1+1?", "response": "7" * 500}])
    code = sft(model, tmp_path, "--data.dataset", rows)
    result = capsys.readouterr()
    assert code == 2 and "has 8 rows, fewer than one batch" in result.err
    assert "left out: 1 of 9 rows are longer than --data.max_len 128" in result.out and "row 9 of" in result.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize(("share", "allowed"), [("0.05", False), ("0.1", True)])
def test_bad_rows_are_skipped_up_to_a_fraction(model, tmp_path, capsys, share, allowed, more):
    bad = [{"problem": "1+1?", "response": "2<|im_start|>3"}, {"problem": None, "response": "2"}]
    rows = written(tmp_path / "rows.jsonl", [GOOD] * 18 + bad)
    batch = 19 if not more else 9  # one more than are left, so that no run begins
    code = sft(model, tmp_path, "--data.dataset", rows, "--math.max_bad_rows", share, *more, batch=batch)
    result = capsys.readouterr()
    assert code == (0 if allowed and more else 2)
    assert ("2 of 20 conversations" in result.err and f"{rows}, line 19" in result.err) != allowed
    assert (f"{rows}, line 19" in result.out and f"{rows}, line 20" in result.out) == allowed


@pytest.mark.parametrize(
    ("rows", "words", "sentence"),
    [
        ([{"q": "1", "a": "2"}] * 3, (), "no column of messages"),
        ([GOOD] * 3, ("--data.output_key", "trace"), "no column 'trace'"),
        ([{"messages": [{"role": "user", "content": "1?"}]}] * 3, (), "3 of 3 conversations"),
        ([], (), "is empty"),
    ],
)
def test_dry_run_refuses_what_training_would(model, tmp_path, capsys, rows, words, sentence):
    data = written(tmp_path / "rows.jsonl", rows)
    for more in (("--dry-run",), ()):
        assert sft(model, tmp_path, "--data.dataset", data, *words, *more, batch=1) == 2
        printed = capsys.readouterr()
        assert sentence in printed.err and printed.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("count", "batch", "code"), [(8, 9, 2), (9, 9, 0), (150, 151, 2), (150, 101, 0)])
def test_dry_run_counts_the_rows_of_a_batch(model, tmp_path, capsys, count, batch, code):
    data = written(tmp_path / "rows.jsonl", [GOOD] * count)
    assert sft(model, tmp_path, "--data.dataset", data, "--dry-run", batch=batch) == code
    assert (f"has {count} rows, fewer than one batch" in capsys.readouterr().err) == (code == 2)


def test_dry_run_counts_the_rows_of_all_sets(model, tmp_path):
    paths = [written(tmp_path / f"{name}.jsonl", [GOOD] * 5) for name in "ab"]
    few = written(tmp_path / "few.jsonl", [GOOD])
    assert sft(model, tmp_path, "--data.dataset", ",".join(paths), "--eval.dataset", few, "--dry-run") == 0
    assert sft(model, tmp_path, "--data.dataset", few, "--eval.dataset", ",".join(paths), "--dry-run") == 2


def test_dry_run_shows_what_is_learned(model, tmp_path, capsys):
    rows = written(tmp_path / "rows.jsonl", [{"prompt": "1+1?", "completion": "2"}] * 9)
    assert sft(model, tmp_path, "--data.dataset", rows, "--math.instruction", "Be brief.", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "<|im_start|>user\n1+1?\nBe brief.<|im_end|>\n<|im_start|>assistant\n[[2<|im_end|>]]" in shown
    assert not (tmp_path / "run").exists()
