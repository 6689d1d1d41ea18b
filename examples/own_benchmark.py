"""A benchmark of one's own: products that no training set has, with the number of digits as their difficulty.

PYTHONPATH=examples openrlhf-math eval --model MODEL --benchmark own_benchmark.products --output runs/products
"""

import random
from collections.abc import Iterator

from openrlhf_math.data.schema import Row
from openrlhf_math.evaluation.benchmarks import register_benchmark


@register_benchmark("products", samples=4, max_tokens=512, temperature=0.6, top_p=0.95)
def products() -> Iterator[Row]:
    rng = random.Random(0)
    for digits in (1, 2, 3, 4):
        for _ in range(25):
            first, second = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
            problem = rf"Compute ${first} \cdot {second}$."
            yield Row(problem, str(first * second), subject="arithmetic", difficulty=float(digits))
