"""Log-probabilities that vLLM gives the tokens of a file, from a model alone or with an adapter. One engine a process.

Usage: lora_in_vllm.py MODEL ADAPTER|- TOKENS.json RANK; prints one JSON list a sequence.
"""

import json
import sys
from pathlib import Path

import openrlhf_math  # noqa: F401
from openrlhf_math.colocation.layout import enter_environment

enter_environment("cpu", 1_000_000)

from vllm import LLM, SamplingParams  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402

from openrlhf_math.colocation.layout import inference_arguments  # noqa: E402

model, adapter, tokens, rank = sys.argv[1:]
rows = json.loads(Path(tokens).read_text())
more = {} if adapter == "-" else {"enable_lora": True, "max_lora_rank": int(rank)}
arguments = inference_arguments("cpu") | {"kv_cache_memory_bytes": 2**26, "max_model_len": 128, "dtype": "float32"}
engine = LLM(model, **arguments | more)
request = None if adapter == "-" else LoRARequest("trained", 1, adapter)
ask = SamplingParams(max_tokens=1, prompt_logprobs=0)
for row, output in zip(
    rows,
    engine.generate([{"prompt_token_ids": row} for row in rows], ask, lora_request=request, use_tqdm=False),
    strict=True,
):
    print(json.dumps([each[token].logprob for token, each in zip(row[1:], output.prompt_logprobs[1:], strict=True)]))
