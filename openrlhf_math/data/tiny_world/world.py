"""Writing the tiny world to disk."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.data.tiny_world.products import products, traces
from openrlhf_math.data.tiny_world.raw import problem_row, raw_rows
from openrlhf_math.data.tiny_world.teacher import write_trace


def write_tiny_world(
    directory: Path, seed: int = 0, raw: int = 7200, train: int = 2000, heldout: int = 300, larger: bool = False
) -> None:
    """Write `model/`, `raw.jsonl`, `train.jsonl` and `heldout.jsonl` into `directory`.

    raw, train, heldout: numbers of problems; no text is in two of them. Rows have the columns problem, answer and
    difficulty (steps, 2 to 4). raw.jsonl, from which the teacher's problems are to be curated, also has duplicates,
    problems of heldout.jsonl and rows without a gold (`raw.py`). The same seed gives the same bytes. larger: whether
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
    from openrlhf_math.data.tiny_world.model import build_model
    from openrlhf_math.data.tiny_world.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(texts)
    tokenizer.save_pretrained(directory)
    # A multiple of 16, which vector instructions like.
    vocabulary = -(-len(tokenizer) // 16) * 16
    build_model(vocabulary, tokenizer.eos_token_id, tokenizer.pad_token_id, seed, larger).save_pretrained(directory)
    return tokenizer
