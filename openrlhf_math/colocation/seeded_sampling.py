"""Drawing the next token on the CPU for requests with seeds of their own: one random number a completion.

vLLM draws one a token of the vocabulary from each request's generator: more than the last layer costs, see
`cpu_sampling`, which does the same for requests without seeds.
"""

import torch
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler, apply_top_k_top_p

Tensor = torch.Tensor


def draw(logits: Tensor, generators: dict[int, torch.Generator]) -> Tensor:
    """A token of each row from softmax(logits), by inverse transform sampling as in `cpu_sampling.draw`.

    logits: [batch, vocabulary], -inf where excluded. generators: by row; a row without one takes the global one.
    Returns int64 [batch]. A row's token depends on its logits and its generator alone.
    """
    cumulative = logits.softmax(dim=-1, dtype=torch.float32).cumsum(dim=-1)
    total = cumulative[:, -1:]
    numbers = [torch.rand((), generator=generators.get(row)).item() for row in range(len(logits))]
    uniform = torch.tensor(numbers, dtype=torch.float32)[:, None]
    # Rounded up to the total it would be beyond the last token.
    threshold = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


def install() -> None:
    """Let vLLM's sampler in this process use `draw` for batches in which requests have seeds of their own."""
    theirs = TopKTopPSampler.forward_cpu

    def forward_cpu(self, logits, generators, k, p):
        if not generators or self.logprobs_mode.startswith("processed"):
            return theirs(self, logits, generators, k, p)
        return draw(apply_top_k_top_p(logits, k, p), generators), None

    TopKTopPSampler.forward_cpu = forward_cpu
