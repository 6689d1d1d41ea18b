"""How long vLLM takes for all completions of a problem set: generation alone, after a warm-up."""

import time
from dataclasses import replace

from openrlhf_math.evaluation.evaluate import tokenized
from openrlhf_math.evaluation.problem_sets import ProblemSet
from openrlhf_math.evaluation.prompts import find_prompt, style_of
from openrlhf_math.evaluation.sampler import Request, Sampler, context_needed, fitted
from openrlhf_math.evaluation.settings import EvalSettings

WARM_UP = 32  # completions made before the clock runs: the first ones compile and allocate


def time_completions(problems: ProblemSet, settings: EvalSettings) -> dict:
    """Generate all completions once. Returns completions, tokens, and seconds.

    They are those that `evaluate` would grade: the same prompts, seeds and limits. Starting the engine, reading
    prompts, writing and grading are not in the seconds. Raises UserError if the model cannot serve the prompts.
    """
    prompts = tokenized(problems, settings)
    problems = replace(problems, sampling=fitted(problems.sampling, prompts, settings))
    context = context_needed({problems.name: (prompts, problems.sampling.max_tokens)}, settings)
    sampler = Sampler(settings, context)
    stop = style_of(find_prompt(settings.prompt)).stop
    requests = [
        Request(number, sample, ids)
        for number, ids in enumerate(prompts)
        for sample in range(problems.sampling.samples)
    ]
    for _ in sampler.complete(requests[:WARM_UP], problems.sampling, stop):
        pass
    begun = time.perf_counter()
    tokens = sum(completion.tokens for _, completion in sampler.complete(requests, problems.sampling, stop))
    seconds = time.perf_counter() - begun
    return {"model": settings.model, "completions": len(requests), "tokens": tokens, "seconds": round(seconds, 4)}
