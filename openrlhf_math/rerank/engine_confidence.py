"""Log-probabilities as vLLM's engine gives them, for a `Meter`."""

from typing import TYPE_CHECKING

import numpy as np

from openrlhf_math.rerank.confidence import Meter, Watch

if TYPE_CHECKING:
    from vllm.logprobs import FlatLogprobs


def asked(watch: Watch | None) -> dict[str, object]:
    """Arguments of vLLM's SamplingParams. The log-probabilities are the model's own: before temperature and top-p."""
    return {"logprobs": watch.candidates, "flat_logprobs": True} if watch else {}


def read(logprobs: "FlatLogprobs | None", meter: Meter) -> None:
    """logprobs: vLLM's FlatLogprobs, for each token the drawn one and then the most likely ones; None for no tokens.

    The drawn one may stand among the most likely ones again, or, where the engine has put tokens together, may not.
    """
    if logprobs is None or not len(logprobs):
        return
    starts, ends = logprobs.start_indices, logprobs.end_indices
    rows = [
        dict(zip(logprobs.token_ids[start:end], logprobs.logprobs[start:end], strict=True))
        for start, end in zip(starts, ends, strict=True)
    ]
    rows = [row for row in rows if row]
    if not rows:
        return
    candidates = np.full((len(rows), max(map(len, rows))), np.nan)
    for place, row in enumerate(rows):
        candidates[place, : len(row)] = list(row.values())
    meter.extend(candidates[:, 0].copy(), candidates)
