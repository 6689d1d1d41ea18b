"""Drawing tokens on the CPU with seeds: the distribution of the logits, and what a row's token depends on."""

import pytest
import torch

from openrlhf_math.colocation.seeded_sampling import draw

INF = float("inf")


def generators(seeds) -> dict[int, torch.Generator]:
    return {row: torch.Generator().manual_seed(seed) for row, seed in enumerate(seeds)}


def test_tokens_come_as_often_as_their_probability():
    torch.manual_seed(0)
    logits = torch.randn(50) * 2
    count, probabilities = 20_000, torch.softmax(logits, dim=-1)
    seen = torch.bincount(draw(logits.expand(count, -1), generators(range(count))), minlength=50)
    expected = probabilities * count
    assert ((seen - expected) ** 2 / expected).sum().item() < 95  # 49 degrees of freedom: one in 10,000 above


def test_a_rows_token_depends_on_its_logits_and_its_seed_alone():
    torch.manual_seed(0)
    logits = torch.randn(64, 300)
    drawn = draw(logits, generators(range(64)))
    torch.manual_seed(1)
    order = torch.randperm(64)[:20]
    assert draw(logits[order], generators(order.tolist())).tolist() == drawn[order].tolist()


def test_a_generator_goes_on_from_token_to_token():
    one = generators([7])
    drawn = [draw(torch.zeros(1, 1000), one).item() for _ in range(50)]
    again = generators([7])
    assert drawn == [draw(torch.zeros(1, 1000), again).item() for _ in range(50)] and len(set(drawn)) > 30


def test_rows_without_a_seed_stand_among_others():
    torch.manual_seed(0)
    drawn = draw(torch.zeros(1000, 1000), {0: torch.Generator().manual_seed(7)})
    assert drawn[0] == draw(torch.zeros(1, 1000), generators([7]))[0] and len(drawn.unique()) > 500


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
@pytest.mark.parametrize(
    ("logits", "possible"),
    [([-INF, 0.0, -INF, 1.0, -INF], {1, 3}), ([-INF, -INF, 3.0], {2}), ([5.0, -INF, -INF], {0})],
    ids=["between excluded", "only the last", "only the first"],
)
def test_an_excluded_token_is_never_drawn(monkeypatch, logits, possible, uniform):
    monkeypatch.setattr(torch, "rand", lambda *size, generator=None: torch.tensor(uniform))
    assert set(draw(torch.tensor(logits).expand(8, -1), generators(range(8))).tolist()) <= possible
