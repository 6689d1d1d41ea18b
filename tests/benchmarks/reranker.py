"""What the Reranker costs beyond generation and scoring, and what an early stop spares on a real model.

    python tests/benchmarks/reranker.py --model MODEL --problems FILE.jsonl --scorer KIND --scorer-model MODEL

Three ways to solve the same problems with the same number of attempts, each in separate processes, one after the
other, `--rounds` times: `engines`: sampler and scorer called directly in this process, all attempts at once, then all
scores: no Ray, no answers compared; `actors`: through the Reranker; `early stop`: through the Reranker with
--confidence. Prints seconds, tokens, accuracy, and the ratios. Engines are up, and have served one problem, before a
clock starts.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass
class Result:
    seconds: float
    tokens: int
    attempts: int
    right: int


def main() -> None:
    args = parse()
    rows = [json.loads(line) for line in args.problems.read_text().splitlines()][: args.max_problems]
    ways = {"engines": engines, "actors": actors, "early stop": early_stop}
    results = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                results[name].append(pool.submit(way, args, rows).result())
    report(args, rows, results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--problems", type=Path, required=True, help="rows with problem and answer")
    parser.add_argument("--scorer", default="qwen2.5-math-prm")
    parser.add_argument("--scorer-model", required=True)
    parser.add_argument("--max-problems", type=int, default=100)
    parser.add_argument("--attempts", type=int, default=32)
    parser.add_argument("--max-concurrency", type=int, default=8, help="problems, in the actors")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--max-context", type=int, default=256)
    parser.add_argument("--style", default="think")
    parser.add_argument("--instruction", default="")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def settings(args):
    from openrlhf_math.rerank.reranker import RerankerSettings
    from openrlhf_math.rerank.sampling_engine import SamplerSettings
    from openrlhf_math.rerank.scoring_engine import ScorerSettings
    from openrlhf_math.rewards import RewardConfig

    return RerankerSettings(
        SamplerSettings(args.model, "cpu", max_context=args.max_context, max_concurrency=256),
        ScorerSettings(args.scorer, args.scorer_model, "cpu", separator="\n", max_context=2 * args.max_context),
        RewardConfig(style=args.style, workers=1),
    )


def method(args, **more):
    from openrlhf_math.rerank.choose import majority
    from openrlhf_math.rerank.early_stop import never
    from openrlhf_math.rerank.roles import Sampling
    from openrlhf_math.rerank.solver import Method, one_solver

    turns = one_solver(args.instruction, Sampling(temperature=1.0, max_tokens=args.max_tokens))
    return Method(
        turns, **{"rule": majority, "stop": never, "max_concurrency": args.attempts, "style": args.style} | more
    )


def engines(args, rows) -> Result:
    from openrlhf_math.colocation.layout import enter_environment
    from openrlhf_math.modeling.model_folder import count_parameters

    enter_environment("cpu", count_parameters(args.model))
    from openrlhf_math.rerank.sampling_engine import SamplingEngine
    from openrlhf_math.rerank.scoring_engine import ScoringEngine

    parts = settings(args)
    sampler, scorer = SamplingEngine(parts.sampler), ScoringEngine(parts.scorer)
    turns = method(args).turns

    async def one(row: dict) -> list:
        turn = turns(row["problem"])
        asked = [turn(number) for number in range(args.attempts)]
        return await asyncio.gather(*(sampler.complete(one.messages, one.sampling) for one in asked))

    async def run(rows: list[dict]) -> tuple[float, int]:
        begun = time.perf_counter()
        groups = await asyncio.gather(*map(one, rows))
        texts = [[completion.text for completion in group] for group in groups]
        await asyncio.gather(*(scorer.score(row["problem"], part) for row, part in zip(rows, texts, strict=True)))
        return time.perf_counter() - begun, sum(completion.tokens for group in groups for completion in group)

    async def both() -> tuple[float, int]:
        await run(rows[:1])
        return await run(rows)

    seconds, tokens = asyncio.run(both())
    sampler.shutdown()
    scorer.shutdown()
    return Result(seconds, tokens, len(rows) * args.attempts, 0)


def actors(args, rows, how=None) -> Result:
    import ray

    from openrlhf_math.rerank.budget import Limits
    from openrlhf_math.rerank.launch import started
    from openrlhf_math.rewards import grade

    how, each = how or method(args), Limits(attempts=args.attempts)
    problems = [row["problem"] for row in rows]
    with started(settings(args)) as reranker:
        ray.get(reranker.solve.remote(problems[0], how, each))
        begun = time.perf_counter()
        stream = reranker.solve_all.options(num_returns="streaming").remote(
            problems, how, each, max_concurrency=args.max_concurrency
        )
        solved = [ray.get(reference) for reference in stream]
        seconds = time.perf_counter() - begun
    solutions = [(one.solution, str(rows[one.number]["answer"])) for one in solved]
    return Result(
        seconds,
        sum(solution.decision.tokens for solution, _ in solutions),
        sum(solution.decision.attempts for solution, _ in solutions),
        sum(grade(f"\\boxed{{{solution.answer}}}", gold).outcome == "correct" for solution, gold in solutions),
    )


def early_stop(args, rows) -> Result:
    from openrlhf_math.rerank.early_stop import confident

    return actors(args, rows, method(args, stop=confident(args.confidence), max_concurrency=None))


def report(args, rows, results: dict[str, list[Result]]) -> None:
    table = Table(title=f"{len(rows)} problems, {args.attempts} attempts at each")
    for heading in ("", "seconds", "min to max", "attempts", "tokens", "tokens/s", "accuracy"):
        table.add_column(heading, justify="right" if heading else "left")
    middle = {}
    for name, several in results.items():
        middle[name] = {key: statistics.median(asdict(one)[key] for one in several) for key in asdict(several[0])}
        seconds = [one.seconds for one in several]
        row = middle[name]
        table.add_row(
            name, f"{row['seconds']:.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}", f"{row['attempts']:,.0f}",
            f"{row['tokens']:,.0f}", f"{row['tokens'] / row['seconds']:,.0f}",
            "" if name == "engines" else f"{row['right'] / len(rows):.1%}",
        )  # fmt: skip
    console = Console(width=110)
    console.print(table)
    rate = {name: row["tokens"] / row["seconds"] for name, row in middle.items()}
    console.print(f"the actors' overhead: {rate['engines'] / rate['actors'] - 1:+.1%} seconds a token")
    console.print(
        f"tokens saved by the early stop: {1 - middle['early stop']['tokens'] / middle['actors']['tokens']:.1%}"
    )


if __name__ == "__main__":
    main()
