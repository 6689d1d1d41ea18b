"""Writing the tiny world to disk."""

import json
import random
from pathlib import Path

from openrlhf_math.data.tiny_world.problems import Story, distinct_stories
from openrlhf_math.data.tiny_world.teacher import write_trace


def write_tiny_world(directory: Path, seed: int = 0, sft: int = 4800, train: int = 2000, heldout: int = 300) -> None:
    """Write `model/`, `sft.jsonl`, `train.jsonl` and `heldout.jsonl` into `directory`.

    sft, train, heldout: numbers of problems; no problem is in two of them. sft.jsonl has the columns problem and
    response, the others problem, answer and difficulty (steps, 2 to 4). The same seed gives the same bytes.
    """
    stories = distinct_stories(sft + train + heldout, seed)
    rng = random.Random(seed)
    traces = [(story.text, write_trace(story, rng)) for story in stories[:sft]]
    directory.mkdir(parents=True, exist_ok=True)
    _write_jsonl(directory / "sft.jsonl", [{"problem": text, "response": trace} for text, trace in traces])
    _write_jsonl(directory / "train.jsonl", [_problem(story) for story in stories[sft : sft + train]])
    _write_jsonl(directory / "heldout.jsonl", [_problem(story) for story in stories[sft + train :]])
    _write_model(directory / "model", [text for pair in traces for text in pair], seed)


def _problem(story: Story) -> dict:
    return {"problem": story.text, "answer": str(story.answer), "difficulty": story.difficulty}


def _write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_model(directory: Path, texts: list[str], seed: int) -> None:
    from openrlhf_math.data.tiny_world.model import build_model
    from openrlhf_math.data.tiny_world.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(texts)
    tokenizer.save_pretrained(directory)
    # A multiple of 16, which vector instructions like.
    vocabulary = -(-len(tokenizer) // 16) * 16
    build_model(vocabulary, tokenizer.eos_token_id, tokenizer.pad_token_id, seed).save_pretrained(directory)
