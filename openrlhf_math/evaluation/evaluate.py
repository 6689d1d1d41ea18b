"""One evaluation: prompts, completions, grades, and what is written of them."""

import asyncio
import json
import time

import numpy as np

from openrlhf_math.data.files import written_whole
from openrlhf_math.data.problems import Problem
from openrlhf_math.evaluation.estimates import bootstrap_interval, pass_at_1, tokens_per_correct
from openrlhf_math.evaluation.sampler import Completion, sample
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.grpo.inputs import chat, load_tokenizer
from openrlhf_math.rewards import Grade, GradingPool


def evaluate(problems: list[Problem], settings: EvalSettings) -> dict:
    """Sample and grade. Returns the summary; it and every completion are written to `settings.output`.

    Raises UserError if the model cannot serve the prompts.
    """
    begun = time.time()
    completions = sample(_prompt_ids(problems, settings), settings)
    sampled = time.time()
    grades = asyncio.run(_grade(problems, completions, settings))
    summary = summarise(completions, grades, settings.seed) | {
        "seconds_sampling": round(sampled - begun, 3),
        "seconds_grading": round(time.time() - sampled, 3),
    }
    settings.output.mkdir(parents=True, exist_ok=True)
    with written_whole(settings.output / "completions.jsonl") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(problems, completions, grades))
    with written_whole(settings.output / "summary.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    return summary


def summarise(completions: list[list[Completion]], grades: list[list[Grade]], seed: int) -> dict:
    """The figures of an evaluation. completions, grades: one list a problem, one entry a sample.

    completion_tokens: mean. ci95: of pass_at_1. tokens_per_correct: None without a correct answer.
    """
    correct = np.array([[grade.outcome == "correct" for grade in group] for group in grades])
    tokens = np.array([[one.tokens for one in group] for group in completions])
    outcomes = [grade for group in grades for grade in group]
    return {
        "problems": correct.shape[0],
        "samples": correct.shape[1],
        "pass_at_1": pass_at_1(correct),
        "ci95": bootstrap_interval(correct, seed),
        "completion_tokens": float(tokens.mean()),
        "tokens_per_correct": tokens_per_correct(tokens, correct),
        "truncation_rate": float(np.mean([one.truncated for group in completions for one in group])),
        "format_rate": float(np.mean([grade.well_formed for grade in outcomes])),
        "undecided": sum(grade.outcome == "undecided" for grade in outcomes),
    }


def _prompt_ids(problems: list[Problem], settings: EvalSettings) -> list[list[int]]:
    tokenizer = load_tokenizer("--model", settings.model, settings.chat_template, "add --no-chat-template")
    messages = [chat(problem, settings.instruction) for problem in problems]
    if settings.chat_template:
        texts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        texts = [dialogue[-1]["content"] for dialogue in messages]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


async def _grade(
    problems: list[Problem], completions: list[list[Completion]], settings: EvalSettings
) -> list[list[Grade]]:
    pool = GradingPool(settings.rewards)
    try:
        return [
            await asyncio.gather(*(pool.grade(one.text, problem.answer, problem.text) for one in group))
            for problem, group in zip(problems, completions, strict=True)
        ]
    finally:
        pool.close()


def _rows(problems: list[Problem], completions: list[list[Completion]], grades: list[list[Grade]]):
    for number, (problem, group, marks) in enumerate(zip(problems, completions, grades, strict=True)):
        for index, (one, grade) in enumerate(zip(group, marks, strict=True)):
            yield {
                "problem_index": number,
                "sample": index,
                "problem": problem.problem,
                "gold": problem.answer,
                "response": one.text,
                "tokens": one.tokens,
                "truncated": one.truncated,
                "outcome": grade.outcome,
                "reward": grade.reward,
                "answer": grade.answer,
            } | ({"reason": grade.reason} if grade.reason else {})
