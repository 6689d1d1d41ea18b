"""Completions scored a second: our engine, one by one, and in padded batches of transformers as in search-and-learn.

    python tests/benchmarks/scoring.py                              # a tiny Qwen2ForProcessRewardModel
    python tests/benchmarks/scoring.py --kind math-shepherd --model DIRECTORY --problems 12    # any causal LM

All score the same completions with the same model, in bfloat16, in turns, and the median of the turns counts.
Transformers runs with one thread and with all, and with two implementations of attention, of which the fastest counts;
the time it would take to tokenize is not counted. Before each turn of ours, what it remembers and the engine's prefix
cache are emptied. The scorer actors have different completions in each turn. Seconds of a core are those of all
processes of a way: on a machine that has other work they say more than the clock.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def completions(problems: int, each: int, steps: tuple[int, int], seed: int = 0) -> list[tuple[str, list[str]]]:
    """Problems with completions of so many steps, no two alike."""
    rng = random.Random(seed)
    found = []
    for number in range(problems):
        names = [rng.choice(["Leo", "Zoe", "Tom", "Sam"]) for _ in range(3)]
        problem = " ".join(
            f"{name} has {rng.randint(2, 90)} pens and gives away {rng.randint(1, 9)}." for name in names
        )
        solutions = []
        for _ in range(each):
            lines = [
                f"Step {step}: {rng.choice(names)} has {rng.randint(2, 900)}-{rng.randint(1, 90)}={rng.randint(0, 99)}."
                for step in range(1, 1 + rng.randint(*steps))
            ]
            solutions.append("\n".join([*lines, f"The answer is \\boxed{{{number}}}."]))
        found.append((f"{problem} How many pens are left?", solutions))
    return found


async def all_at_once(scorer, work) -> None:
    await asyncio.gather(*(scorer.score(problem, [one]) for problem, solutions in work for one in solutions))


async def one_by_one(scorer, work) -> None:
    for problem, solutions in work:
        for one in solutions:
            await scorer.score(problem, [one])


def padded(reference, encoded, batch: int) -> None:
    """Batches in the order of the completions, padded to the longest of each."""
    import torch

    for begin in range(0, len(encoded), batch):
        part = encoded[begin : begin + batch]
        longest = max(len(one.ids) for one in part)
        ids = torch.tensor([one.ids + [0] * (longest - len(one.ids)) for one in part])
        mask = torch.tensor([[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in part])
        logits = reference(ids, mask)
        for row, one in zip(logits, part, strict=True):
            row[one.read].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="qwen2.5-math-prm", help="of scorer (%(default)s)")
    parser.add_argument("--model", help="its directory (a tiny one with random weights)")
    parser.add_argument("--problems", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--each", type=int, default=8, help="completions of a problem (%(default)s)")
    parser.add_argument("--steps", type=int, nargs=2, default=(2, 8), metavar="N", help="least and most (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="of transformers (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--no-replicas", action="store_true", help="without the measurement of one and two actors")
    args = parser.parse_args()

    from openrlhf_math.colocation.layout import enter_environment
    from openrlhf_math.modeling.model_folder import count_parameters

    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(args.model or scratch)
        parameters = count_parameters(str(directory)) if args.model else 800_000
        environment = enter_environment("cpu", parameters)
        import tiny_scorers

        if not args.model:
            tiny_scorers.build(args.kind, directory)
        work = completions(args.problems, args.each, args.steps)
        rates = asyncio.run(measure(args, directory, work))
        mine = rates["engine, as they come"]
        for name, (clock, cores) in rates.items():
            print(
                f"{name:40} {clock:7.1f} a second ({mine[0] / clock:5.2f} times), "
                f"{cores:7.1f} a second of a core ({mine[1] / cores:5.2f} times)"
            )
        if not args.no_replicas:
            for number, rate in replicas(args, directory, environment).items():
                print(f"{number} scorer actors{'':26} {rate:8.1f} a second")


def core_seconds() -> float:
    """Used so far by this process and those below it."""
    import psutil

    here = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in [here, *here.children(recursive=True)])


async def measure(args, directory: Path, work) -> dict[str, tuple[float, float]]:
    """By each way, completions a second of the clock and a second of a core."""
    import tiny_scorers
    import torch

    from openrlhf_math.colocation.layout import cores
    from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine

    engine = ScoringEngine(ScorerSettings(args.kind, str(directory), "cpu", separator="\n"))
    encode = engine._kind.encode
    encoded = [encode(problem, one.split("\n")) for problem, solutions in work for one in solutions]
    lengths = [len(one.ids) for one in encoded]
    shared = statistics.mean(len(encode(problem, ["1"]).ids) for problem, _ in work)
    steps = statistics.mean(len(one.read) for one in encoded)
    print(
        f"{len(encoded)} completions of {len(work)} problems: {statistics.mean(lengths):.0f} tokens ({min(lengths)} to "
        f"{max(lengths)}), some {shared:.0f} of them shared, {steps:.1f} steps"
    )

    async def ours(way) -> None:
        await way(engine, work)

    async def theirs(attention: str, threads: int, batch: int) -> None:
        torch.set_num_threads(threads)
        padded(references[attention], encoded, batch)

    names = ("sdpa", "eager")
    references = {
        name: tiny_scorers.Reference(args.kind, directory, dtype=torch.bfloat16, attention=name) for name in names
    }
    ways = {"engine, as they come": [(ours, all_at_once)], "engine, one by one": [(ours, one_by_one)]}
    for name, batch in ((f"transformers, padded batches of {args.batch}", args.batch), ("transformers, one by one", 1)):
        ways[name] = [(theirs, attention, threads, batch) for attention in names for threads in {1, cores()}]
    times: dict[tuple, list[tuple[float, float]]] = {}
    try:
        await all_at_once(engine, work[:2])
        for _ in range(args.turns):
            for way, *arguments in (one for some in ways.values() for one in some):
                engine._memory.clear()
                await engine._engine.reset_prefix_cache()
                started = time.perf_counter(), core_seconds()
                await way(*arguments)
                taken = time.perf_counter() - started[0], core_seconds() - started[1]
                times.setdefault((way, *arguments), []).append(taken)
    finally:
        engine.shutdown()
        await asyncio.sleep(0.1)
    medians = {way: [statistics.median(one) for one in zip(*taken, strict=True)] for way, taken in times.items()}
    return {
        name: tuple(len(encoded) / min(medians[way][of] for way in some) for of in (0, 1))
        for name, some in ways.items()
    }


def replicas(args, directory: Path, environment: dict[str, str]) -> dict[int, float]:
    """Completions a second through one and through two actors."""
    import ray

    from openrlhf_math.rerank.actors import RemoteScorer
    from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine

    ray.init(
        num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    settings = ScorerSettings(args.kind, str(directory), "cpu", separator="\n")
    rates = {}
    for number in (1, 2):
        actors = [ray.remote(ScoringEngine).remote(settings) for _ in range(number)]
        scorer, times = RemoteScorer(actors), []
        for repeat in range(args.turns + 1):  # the first is not measured
            # Other completions each time: nothing is remembered.
            work = completions(args.problems, args.each, args.steps, seed=10 * number + repeat)
            started = time.perf_counter()
            asyncio.run(all_at_once(scorer, work))
            times.append(time.perf_counter() - started)
        rates[number] = args.problems * args.each / statistics.median(times[1:])
        for actor in actors:
            ray.kill(actor)
    ray.shutdown()
    return rates


if __name__ == "__main__":
    main()
