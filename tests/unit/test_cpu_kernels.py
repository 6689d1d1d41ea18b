"""Drawing tokens on the CPU: the distribution of the logits, never a token excluded."""

import pytest
import torch

from openrlhf_math.colocation.cpu_kernels import draw, uniform

INF = float("inf")


def test_token_frequencies_match_probabilities():
    torch.manual_seed(0)
    logits = torch.randn(50) * 2
    count, probabilities = 200_000, torch.softmax(logits, dim=-1)
    seen = torch.bincount(draw(logits.expand(count, -1), torch.rand(count, 1)), minlength=50)
    expected = probabilities * count
    chi_square = ((seen - expected) ** 2 / expected).sum().item()
    assert chi_square < 95  # 49 degrees of freedom: one in 10,000 above


@pytest.mark.parametrize(
    ("logits", "possible"),
    [
        ([-INF, 0.0, -INF, 1.0, -INF], {1, 3}),
        ([-INF, -INF, 3.0], {2}),
        ([5.0, -INF, -INF], {0}),
        ([0.0, -200.0, 0.0], {0, 2}),
    ],
    ids=["between excluded", "only the last", "only the first", "underflow"],
)
def test_excluded_token_is_never_drawn(logits, possible):
    assert set(draw(torch.tensor(logits).expand(20_000, -1), torch.rand(20_000, 1)).tolist()) == possible


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_extreme_uniform_numbers_give_valid_tokens(number):
    torch.manual_seed(1)
    logits = torch.cat([torch.full((512, 1), -INF), torch.randn(512, 1000), torch.full((512, 1), -INF)], dim=1)
    drawn = draw(logits, torch.full((512, 1), number))
    assert int(drawn.min()) >= 1
    assert int(drawn.max()) <= 1000


def test_bfloat16_logits_are_summed_in_float32():
    torch.manual_seed(0)
    assert len(draw(torch.zeros(4096, 3000, dtype=torch.bfloat16), torch.rand(4096, 1)).unique()) > 2000


def seeded(seeds) -> dict[int, torch.Generator]:
    return {row: torch.Generator().manual_seed(seed) for row, seed in enumerate(seeds)}


def test_row_token_depends_only_on_its_logits_and_seed():
    torch.manual_seed(0)
    logits = torch.randn(64, 300)
    drawn = draw(logits, uniform(64, seeded(range(64))))
    torch.manual_seed(1)
    order = torch.randperm(64)[:20]
    assert draw(logits[order], uniform(20, seeded(order.tolist()))).tolist() == drawn[order].tolist()


def test_generator_state_advances_by_token():
    one, again = seeded([7]), seeded([7])
    numbers = [uniform(1, one).item() for _ in range(50)]
    assert numbers == [uniform(1, again).item() for _ in range(50)] and len(set(numbers)) == 50


def test_rows_with_and_without_seeds_may_mix():
    numbers = uniform(1000, seeded([7]))
    assert numbers[0] == uniform(1, seeded([7]))[0] and len(numbers.unique()) > 990
