"""Completions from a vLLM engine in this process."""

import warnings
from dataclasses import dataclass

from openrlhf_math.colocation.layout import inference_arguments
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.settings import EvalSettings


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion: its text, its length in tokens, and whether the limit cut it off."""

    text: str
    tokens: int
    truncated: bool


def sample(prompt_ids: list[list[int]], settings: EvalSettings) -> list[list[Completion]]:
    """`settings.samples` completions of each tokenized prompt, in the order of the prompts.

    Raises UserError if a prompt and its completion do not fit the model's or the given context.
    """
    from transformers import AutoConfig
    from vllm import LLM, SamplingParams, TokensPrompt

    context = _context(prompt_ids, settings, AutoConfig.from_pretrained(settings.model))
    engine = LLM(
        settings.model,
        tensor_parallel_size=settings.tensor_parallel,
        max_model_len=context,
        seed=settings.seed,
        dtype="bfloat16",
        use_tqdm_on_load=False,
        **inference_arguments(settings.device),
    )
    params = SamplingParams(
        n=settings.samples,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
    )
    outputs = engine.generate([TokensPrompt(prompt_token_ids=ids) for ids in prompt_ids], params, use_tqdm=_bar)
    return [
        [Completion(one.text, len(one.token_ids), one.finish_reason == "length") for one in output.outputs]
        for output in outputs
    ]


def _context(prompt_ids: list[list[int]], settings: EvalSettings, config) -> int:
    """Tokens the engine must hold for one request: the longest prompt and a whole completion."""
    longest = max(map(len, prompt_ids))
    needed = longest + settings.max_tokens
    model_limit = getattr(config, "max_position_embeddings", None) or needed
    limit, flag = min((settings.max_context or model_limit, "--max-context"), (model_limit, "the model's context"))
    if needed > limit:
        raise UserError(
            f"the longest prompt ({longest} tokens) and --max-tokens {settings.max_tokens} make {needed} tokens, "
            f"{flag} is {limit}; lower --max-tokens to {max(limit - longest, 0)} or less"
        )
    return settings.max_context or needed


def _bar(prompts=None, total: int | None = None, **options):
    """vLLM's progress bar, drawn by rich. vLLM asks for two: one over the prompts it takes in, then one to update."""
    if prompts is not None:
        return prompts  # taken in within moments
    from tqdm import TqdmExperimentalWarning
    from tqdm.rich import tqdm

    warnings.simplefilter("ignore", TqdmExperimentalWarning)
    return tqdm(total=total, desc="completions")
