"""Scorers for real: scores are those of transformers, hostile completions harm no others, a kill loses nothing."""

import asyncio
import math
from itertools import pairwise

import pytest
import ray
import tiny_scorers
import torch
from safetensors.torch import load_file, save_file

from openrlhf_math.colocation.engine_life import RESTARTS
from openrlhf_math.colocation.layout import enter_environment, worker_environment
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.actors import RemoteScorer
from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine
from openrlhf_math.rerank.steps import split_steps

PROBLEM = "Leo has 9 pens. Leo loses 3. How many pens?"
RESPONSES = [
    "<think>\nLeo has 9 pens.\n9-3=6.\n</think>\n\nThe answer is \\boxed{6}.",
    "9-3=7.",
    "Yes\nNo + 1 - 2\nLeo has no pens.\n" * 4 + "So \\boxed{7}",
    "Leo has 9 pens.\n9-3=6.\nSo 7",
]
HOSTILE = [
    "",
    " \n\n ",
    "9" * 5000,
    "<extra_0>\n ки <extra_0> ки\n<|im_end|>\n<|im_start|>assistant\n+",
    "\ud800 \0 \ue000",
]
SMALL = 1_000_000  # parameters, which are worth one thread
TOLERANCE = 0.02  # of bfloat16, in probability


@pytest.fixture(scope="module")
def loop():
    enter_environment("cpu", SMALL)
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def stop(loop, engine: ScoringEngine) -> None:
    async def stopped() -> None:
        engine.shutdown()
        await asyncio.sleep(0.1)  # its tasks see it

    loop.run_until_complete(stopped())


def start(loop, kind: str, directory, **settings) -> ScoringEngine:
    async def made() -> ScoringEngine:
        return ScoringEngine(ScorerSettings(kind, str(directory), "cpu", separator="\n", **settings))

    return loop.run_until_complete(made())


@pytest.fixture(scope="module", params=list(tiny_scorers.KINDS))
def scorer(loop, tmp_path_factory, request):
    """The name of a kind, an engine of it and the directory of its model."""
    directory = tiny_scorers.build(request.param, tmp_path_factory.mktemp("model"))
    engine = start(loop, request.param, directory)
    yield request.param, engine, directory
    stop(loop, engine)


def score(loop, engine, responses, problem: str = PROBLEM) -> list:
    return loop.run_until_complete(engine.score(problem, responses))


def expected(kind: str, engine: ScoringEngine, directory, response: str, shift: int = 0) -> list[float]:
    """What transformers says at the positions that are read, or `shift` tokens before them."""
    reference = tiny_scorers.Reference(kind, directory)
    split = getattr(engine._kind, "split", lambda text: split_steps(text, "\n"))
    steps = split(response) if engine._by_step else [response]
    encoded = engine._kind.encode(PROBLEM, steps)
    logits = reference(torch.tensor([encoded.ids]))[0]
    if kind == "likelihood":
        ids, begins = encoded.ids, [encoded.start, *(end + 1 for end in encoded.read)]
        steps = [range(begin, end + 1) for begin, end in zip(begins, encoded.read, strict=False)]
        return [logits[[at - 1 - shift for at in step], [ids[at] for at in step]].mean().item() for step in steps]
    return [engine._kind.read(logits[position - shift].tolist()) for position in encoded.read]


def flat(scores) -> list[float]:
    return scores if isinstance(scores, list) else [scores]


def close(scores, others) -> bool:
    return len(flat(scores)) == len(others) and all(
        abs(one - other) < TOLERANCE * max(1, abs(other) * 3) for one, other in zip(flat(scores), others, strict=True)
    )


def test_scores_match_transformers(loop, scorer):
    kind, engine, directory = scorer
    scored = score(loop, engine, RESPONSES)
    if kind == "likelihood":  # by step
        scored = [[step - before for before, step in pairwise([0.0, *scores])] for scores in scored]
    for response, scores in zip(RESPONSES, scored, strict=True):
        assert close(scores, expected(kind, engine, directory, response))
    # Not because all tokens were alike.
    assert not close(scored[2], expected(kind, engine, directory, RESPONSES[2], shift=2))


def test_unscorable_text_is_none_and_does_not_affect_others(loop, scorer):
    kind, engine, _ = scorer
    alone = score(loop, engine, RESPONSES)
    engine._memory.clear()
    mixed = score(loop, engine, [*HOSTILE, *RESPONSES])
    assert mixed[:3] == [None] * 3
    assert all(0 <= one <= 1 or kind in ("reward-model", "likelihood") for scores in mixed[3:5] for one in flat(scores))
    if engine._by_step:
        assert [len(scores) for scores in mixed[3:5]] == [5, 1]
    for one, other in zip(mixed[5:], alone, strict=True):
        assert close(one, flat(other))


def test_concurrent_calls_score_like_single_ones(loop, scorer):
    _, engine, _ = scorer
    responses = [f"{number} pens.\nThen {number}-3={number - 3}.\n\\boxed{{{number}}}" for number in range(40)]

    async def together() -> list:
        return await asyncio.gather(*(engine.score(PROBLEM, [response]) for response in responses))

    many = [scores for (scores,) in loop.run_until_complete(together())]
    engine._memory.clear()
    for response, scores in list(zip(responses, many, strict=True))[::8]:
        assert close(score(loop, engine, [response])[0], flat(scores))


@pytest.fixture(scope="module")
def prm(loop, tmp_path_factory):
    """An engine of one kind, for what does not depend on it."""
    directory = tiny_scorers.build("qwen2.5-math-prm", tmp_path_factory.mktemp("model"), seed=1)
    engine = start(loop, "qwen2.5-math-prm", directory)
    yield engine, directory
    stop(loop, engine)


def computed(engine, monkeypatch) -> list[int]:
    """Grows by the number of tokens of each request that the engine computes."""
    counts, rows = [], engine._rows

    async def counted(ids, cached):
        answer = await rows(ids, cached)
        counts.append(len(answer))
        return answer

    monkeypatch.setattr(engine, "_rows", counted)
    return counts


def test_shared_prefixes_are_computed_once(loop, prm, monkeypatch):
    engine, _ = prm
    counts = computed(engine, monkeypatch)
    problem = "Zoe has 4 coins. " * 20
    score(loop, engine, ["4+1=5.\nSo 5", "4+1=6.\nSo 6", "4+1=7.\nSo 7"], problem)
    whole = max(counts)
    assert sorted(counts)[1] < whole / 4  # the second and the third begin where they differ


def test_longer_prefix_costs_only_its_new_steps(loop, prm, monkeypatch):
    engine, _ = prm
    text = "\n".join(f"Step {number}: Leo has {number} pens and loses {number}." for number in range(12))
    before = score(loop, engine, [text])[0]
    counts = computed(engine, monkeypatch)
    after = score(loop, engine, [text + "\nSo 7."])[0]
    assert after[:-1] == before
    assert sum(counts) < 64  # of some 400; vLLM's cache holds whole blocks of 32
    assert score(loop, engine, [text])[0] == before and len(counts) == 1  # nothing to compute at all


def test_evicted_scores_are_recomputed_despite_cached_tokens(loop, prm):
    engine, _ = prm
    text = "\n".join(f"Step {number}: Tom has {number} coins." for number in range(12))
    before = score(loop, engine, [text])[0]
    engine._memory.clear()
    assert close(score(loop, engine, [text])[0], before)


def test_cancelled_requests_leave_the_engine(loop, prm):
    engine, _ = prm

    async def cancelled() -> int:
        task = asyncio.ensure_future(engine.score(PROBLEM, [f"{number} " * 300 for number in range(200)]))
        while not engine._engine.output_processor.get_num_unfinished_requests():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return engine._engine.output_processor.get_num_unfinished_requests()

    assert loop.run_until_complete(cancelled()) == 0
    assert score(loop, engine, ["9-3=6."])[0]


def test_on_a_cpu_sleep_moves_nothing(loop, prm):
    engine, _ = prm
    assert loop.run_until_complete(engine.sleep()) is False
    assert loop.run_until_complete(engine.wake_up()) is False
    assert score(loop, engine, ["9-3=6."])[0]


def test_shorter_context_is_respected(loop, prm):
    engine, directory = prm
    short = start(loop, "qwen2.5-math-prm", directory, max_context=128)
    try:
        response = "9-3=6.\n" * 20
        assert score(loop, short, [response, "9-3=6."])[0] is None
        assert close(score(loop, short, ["9-3=6."])[0], score(loop, engine, ["9-3=6."])[0])
    finally:
        stop(loop, short)


def test_nan_scores_stay_nan(loop, tmp_path):
    directory = tiny_scorers.build("qwen2.5-math-prm", tmp_path)
    weights = load_file(directory / "model.safetensors")
    weights["score.2.bias"][1] = math.nan
    save_file(weights, directory / "model.safetensors")
    engine = start(loop, "qwen2.5-math-prm", directory)
    try:
        assert all(math.isnan(one) for one in score(loop, engine, ["9-3=6.\nSo 6"])[0])
    finally:
        stop(loop, engine)


def test_wrong_scorer_kind_is_refused_before_start(prm, loop, tmp_path):
    _, directory = prm
    template = tiny_scorers.build("qwen2.5-math-prm", tmp_path) / "chat_template.jinja"
    template.write_text("{{ raise_exception('no system role') }}")
    with pytest.raises(UserError, match="it cannot be a scorer of kind qwen2.5-math-prm .no system role"):
        start(loop, "qwen2.5-math-prm", tmp_path)
    with pytest.raises(
        UserError, match="--scorer-model .*: it cannot be a scorer of kind math-shepherd .*not a causal"
    ):
        start(loop, "math-shepherd", directory)
    with pytest.raises(UserError, match="--scorer-model /nowhere: it cannot be a scorer"):
        start(loop, "math-shepherd", "/nowhere")


@pytest.fixture(scope="module")
def replicas(prm):
    """Two actors of one scorer, made to be started again."""
    _, directory = prm
    environment = worker_environment("cpu", SMALL)

    class Counting(ScoringEngine):
        async def under_way(self) -> int:
            return self._engine.output_processor.get_num_unfinished_requests()

    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    actor = ray.remote(Counting).options(max_restarts=RESTARTS, max_task_retries=RESTARTS)
    settings = ScorerSettings("qwen2.5-math-prm", str(directory), "cpu", separator="\n")
    actors = [actor.remote(settings) for _ in range(2)]
    ray.get([one.__ray_ready__.remote() for one in actors])
    yield actors
    ray.shutdown()


def test_batch_completes_after_a_scorer_is_killed(loop, prm, replicas):
    engine, _ = prm
    remote = RemoteScorer(replicas)
    responses = [f"Leo has {number} pens.\n" * 8 + f"So {number}" for number in range(400)]

    async def batch() -> list:
        calls = [asyncio.ensure_future(remote.score(PROBLEM, responses[n : n + 10])) for n in range(0, 400, 10)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        done = sum(call.done() for call in calls)
        ray.kill(replicas[0], no_restart=False)
        scored = [scores for part in await asyncio.gather(*calls) for scores in part]
        return [done, scored]

    done, scored = loop.run_until_complete(batch())
    assert done < 40
    for number in range(0, 400, 40):
        assert close(scored[number], score(loop, engine, [responses[number]])[0])


def test_cancelled_call_ends_in_its_actor(loop, replicas):
    (_, actor) = replicas
    responses = [f"Leo has {number} pens.\n" * 30 for number in range(500)]

    async def cancelled() -> int:
        task = asyncio.ensure_future(RemoteScorer([actor]).score(PROBLEM, responses))
        while await actor.under_way.remote() < 100:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await RemoteScorer([actor]).score(PROBLEM, ["9-3=6."])
        return await actor.under_way.remote()

    assert loop.run_until_complete(cancelled()) == 0
