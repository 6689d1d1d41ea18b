"""vLLM's rotary kernel on the CPU turns every head, whatever the shape that queries come in."""

import pytest
import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.platforms import current_platform

from openrlhf_math.colocation import cpu_kernels

TOKENS, HEADS, SIZE, THETA = 24, 4, 64, 10_000.0


def turned(values: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """The definition: pairs as complex numbers, times exp(i * position * theta^(-2j / size)). [tokens, heads, size]."""
    frequencies = THETA ** (-torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    angles = torch.arange(TOKENS, dtype=torch.float64)[:, None] * frequencies
    values = values.double()
    pairs = values.unflatten(-1, (-1, 2)) if interleaved else torch.stack(values.chunk(2, dim=-1), dim=-1)
    product = torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles)[:, None]
    parts = torch.view_as_real(product)
    return parts.flatten(-2) if interleaved else torch.cat([parts[..., 0], parts[..., 1]], dim=-1)


@pytest.fixture(params=[True, False], ids=["interleaved", "halves"])
def rotary(request):
    current_platform.import_kernels()
    cpu_kernels.install_rotary()
    with set_current_vllm_config(VllmConfig()):
        layer = get_rope(
            SIZE, max_position=64, rope_parameters={"rope_type": "default", "rope_theta": THETA},
            is_neox_style=not request.param, dtype=torch.float32,
        )  # fmt: skip
    return layer, request.param


@pytest.mark.parametrize("wider", [0, 32], ids=["contiguous", "part of a wider head"])
@pytest.mark.parametrize("flat", [True, False], ids=["a row a token", "a row a head"])
def test_every_head_of_every_token_is_turned(rotary, wider, flat):
    layer, interleaved = rotary
    torch.manual_seed(0)
    query, key = torch.randn(TOKENS, HEADS, SIZE + wider), torch.randn(TOKENS, 1, SIZE + wider)
    query, key = query[..., wider:], key[..., wider:]
    expected = turned(query, interleaved), turned(key, interleaved)
    given = [each.flatten(1) for each in (query, key)] if flat else [query, key]
    results = layer.forward_cpu(torch.arange(TOKENS), *given)
    for result, tensor, want in zip(results, given, expected, strict=True):
        torch.testing.assert_close(result.double().view(want.shape), want, rtol=0, atol=1e-5)
        assert torch.equal(result, tensor), "in place"
