"""Writing the tiny world to disk, with a small tokenizer in Qwen2's form: byte-level, one token a digit, ChatML."""

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

from openrlhf_math.data.tiny_world.problems import Story, distinct_stories, products, traces, write_trace

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NO_GOLDS = ("", "notfound")


def write_tiny_world(
    directory: Path, seed: int = 0, raw: int = 7200, train: int = 2000, heldout: int = 300, larger: bool = False
) -> None:
    """Write `model/`, `raw.jsonl`, `train.jsonl` and `heldout.jsonl` into `directory`.

    raw, train, heldout: numbers of problems; no text is in two of them. Rows have the columns problem, answer and
    difficulty (steps, 2 to 4). raw.jsonl, from which the teacher's problems are to be curated, also has duplicates,
    problems of heldout.jsonl and rows without a gold (`raw_rows`). The same seed gives the same bytes. larger: whether
    the model has 2.2M weights and not 0.8M.
    """
    stories = distinct_stories(raw + train + heldout, seed)
    raw_stories, train_stories, heldout_stories = stories[:raw], stories[raw : raw + train], stories[raw + train :]
    rng = random.Random(seed)
    unclean = raw_rows(
        raw_stories, heldout_stories, rng, duplicates=raw // 20, contaminated=heldout // 5, no_golds=raw // 100
    )
    directory.mkdir(parents=True, exist_ok=True)
    _write_jsonl(directory / "raw.jsonl", unclean)
    _write_jsonl(directory / "train.jsonl", map(problem_row, train_stories))
    _write_jsonl(directory / "heldout.jsonl", map(problem_row, heldout_stories))
    words = [text for story in raw_stories[:1000] for text in (story.text, write_trace(story, rng))]
    _write_model(directory / "model", words, seed, larger)


def write_products(
    directory: Path, seed: int = 0, taught: int = 7000, train: int = 2000, heldout: int = 100, larger: bool = False
) -> None:
    """Write `model/`, `traces.jsonl`, `train.jsonl` and `heldout.jsonl` into `directory`.

    taught, train, heldout: numbers of products; none is in two of them. Rows of traces.jsonl have problem and response,
    the problem as the chat template renders it with what was written so far; the others problem and answer. The same
    seed gives the same bytes.
    """
    rng = random.Random(seed)
    kept = products(heldout, rng)
    met = products(train, rng, set(kept))
    pairs = [(one, *pair) for one in products(taught, rng, {*kept, *met}) for pair in traces(one, rng)]
    directory.mkdir(parents=True, exist_ok=True)
    words = [text for one, so_far, response in pairs[:1000] for text in (one.text, so_far, response)]
    tokenizer = _write_model(directory / "model", words, seed, larger)
    rows = []
    for one, so_far, response in pairs:
        question = [{"role": "user", "content": one.text}]
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        rows.append({"problem": prompt + so_far, "response": response})
    _write_jsonl(directory / "traces.jsonl", rows)
    _write_jsonl(directory / "train.jsonl", (one.row() for one in met))
    _write_jsonl(directory / "heldout.jsonl", (one.row() for one in kept))


def _write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_model(directory: Path, texts: list[str], seed: int, larger: bool) -> "PreTrainedTokenizerFast":
    """Returns the tokenizer, whose merges are learned from `texts`."""
    tokenizer = build_tokenizer(texts)
    tokenizer.save_pretrained(directory)
    # A multiple of 16, which vector instructions like.
    vocabulary = -(-len(tokenizer) // 16) * 16
    build_model(vocabulary, tokenizer.eos_token_id, tokenizer.pad_token_id, seed, larger).save_pretrained(directory)
    return tokenizer


def problem_row(story: Story) -> dict:
    return {"problem": story.text, "answer": str(story.answer), "difficulty": story.difficulty}


def raw_rows(
    stories: list[Story], heldout: list[Story], rng: random.Random, duplicates: int, contaminated: int, no_golds: int
) -> list[dict]:
    """Rows of `stories`, and behind them what must go: so many of them said otherwise, so many problems of `heldout`
    said otherwise, and so many without a gold answer."""
    rows = [problem_row(story) for story in stories]
    for again in (*rng.sample(stories, duplicates), *rng.sample(heldout, contaminated)):
        rows.append(problem_row(again) | {"problem": otherwise(again.text, rng)})
    for number, story in enumerate(rng.sample(stories, no_golds)):
        # Another problem by its thing, so that it does not go as a duplicate.
        text = story.text.replace(story.thing, f"red {story.thing}")
        rows.append(problem_row(story) | {"problem": text, "answer": NO_GOLDS[number % len(NO_GOLDS)]})
    return rows


def otherwise(text: str, rng: random.Random) -> str:
    """The same problem: numbers in words, or other spaces, or both."""
    ways = rng.choice(("numbers", "spaces", "both"))
    if ways != "spaces":
        text = re.sub(r"\d", lambda digit: DIGITS[int(digit[0])], text)
    return text.replace(" ", "  ") if ways != "numbers" else text


def build_model(vocabulary: int, eos: int, pad: int, seed: int, larger: bool = False) -> "PreTrainedModel":
    """A `Qwen2ForCausalLM` of about 0.8M parameters, the larger of 2.2M, bf16, the same weights for the same seed."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=192 if larger else 128,
        intermediate_size=528 if larger else 352,
        num_hidden_layers=5 if larger else 4,
        num_attention_heads=6 if larger else 4,  # of 32, the smallest head vLLM's CPU attention serves
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config).to(torch.bfloat16)


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 512


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def build_tokenizer(texts: list[str]) -> "PreTrainedTokenizerFast":
    """A `PreTrainedTokenizerFast` whose merges are learned from `texts`; the same for the same texts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\d|</?think>|\\boxed| ?[^\sA-Za-z\d]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )
