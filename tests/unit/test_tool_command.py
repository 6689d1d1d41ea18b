"""The tool in the commands: which flags are refused, what rows say, and an evaluation over a scripted engine."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_tool_attempt import Engine

from openrlhf_math.cli import main
from openrlhf_math.evaluation import sampler as evaluation_sampler
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.sampler import Request, Sampler
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.prompts import EngineText
from openrlhf_math.rerank.reranker import Reranker, Solved, row
from openrlhf_math.rerank.roles import Completion
from openrlhf_math.rerank.roles import Sampling as Asked
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.tools.attempt import Tool, ToolUse
from openrlhf_math.tools.kernel import Result
from openrlhf_math.tools.pool import Session
from openrlhf_math.tools.settings import ToolSettings

SOLVE = ["solve", "--model", "owner/name", "1+1"]
DISTILL = ["distill", "--problems", "p.jsonl", "--output", "o", "--model", "owner/name"]
PLAIN = ["--benchmark", "p", "--output", "o", "--model", "m"]
REFUSED = [
    ([*SOLVE, "--tool-calls", "3"], "--tool-calls"),
    ([*SOLVE, "--tool", "python", "--tool-calls", "0"], "--tool-calls"),
    ([*SOLVE, "--tool", "python", "--tool-memory", "3"], "--tool-memory"),
    ([*SOLVE, "--tool", "python", "--tool-seconds", "nan"], "--tool-seconds"),
    ([*SOLVE, "--tool", "python", "--strategy", "beam"], "--strategy"),
    ([*SOLVE, "--tool", "python", "--strategy", "dvts"], "--strategy"),
    ([*SOLVE, "--tool", "python", "--base-url", "http://x/v1", "--tool-form", "template"], "--tool-form"),
    (["eval", *PLAIN, "--tool-form", "block"], "--tool-form"),
    (["eval", *PLAIN, "--tool", "python", "--tool-form", "template", "--prompt", "r1"], "--tool-form"),
    (["eval", *PLAIN, "--tool", "python", "--base-url", "http://x/v1"], "--base-url"),
    (["eval", "--completions", "c.jsonl", "--output", "o", "--tool", "python"], "--completions"),
    ([*DISTILL, "--base-url", "http://127.0.0.1:1/v1", "--tool", "python"], "--teacher"),
    ([*DISTILL, "--teacher", "engine", "--tool", "python", "--tool-form", "template"], "--tool-form"),
]


@pytest.mark.parametrize(("command", "flag"), REFUSED)
def test_invalid_value_is_refused_by_its_flag(command, flag, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "name").mkdir()
    command = [str(tmp_path / "name") if one == "owner/name" else one for one in command]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert flag in said and said.count("\n") == 1


def test_missing_isolation_is_refused(monkeypatch):
    from openrlhf_math.errors import UserError
    from openrlhf_math.tools import isolation

    monkeypatch.setattr(isolation.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="bwrap"):
        isolation.find_isolation("bubblewrap")


class Scripted:
    """A sampler whose every completion has run code."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []

    async def complete(self, messages, sampling) -> Completion:
        self.asked.append(messages)
        return Completion(self.texts.pop(0), 10, "eos", ToolUse(calls=2, failed=1, seconds=0.12345, tokens=5))


RUN = "```python\nprint('\\\\boxed{%s}')\n```\n```output\n\\boxed{%s}\n```\n"


def test_solve_rows_record_calls_and_printed_answers_are_not_chosen():
    """Two of three attempts only print 7; the third says 8. Spent are the model's tokens."""
    pool = GradingPool(RewardConfig(workers=1))
    sampler = Scripted(RUN % (7, 7), RUN % (7, 7), RUN % (7, 7) + "\\boxed{8}")
    try:
        reranker = Reranker(Solver(sampler, None, pool))
        method = Method(one_solver("", Asked()), max_concurrency=1)
        solution = asyncio.run(reranker.solve("?", method, Limits(attempts=3)))
    finally:
        pool.close()
    line = row(0, "?", "8", Solved(0, solution))
    assert line["answers"] == [None, None, "8"] and line["answer"] == "8"
    assert line["tool_calls"] == [2, 2, 2] and line["tool_failed"] == [1, 1, 1]
    assert line["tool_seconds"] == [0.123] * 3 and line["tokens"] == [10, 10, 10] and line["tokens_used"] == 30
    assert line["responses"][0] == RUN % (7, 7)
    plain = replace(solution, attempts=(Attempt("8", text="8"),) * 3)
    assert not {"tool_calls", "tool_failed", "tool_seconds"} & row(0, "?", "8", Solved(0, plain)).keys()


class Steps:
    """vLLM's synchronous engine as far as an evaluation needs it: each step ends what was asked before."""

    def __init__(self, texts: dict[str, list[str]]) -> None:
        self.writers = {name: Engine(*parts) for name, parts in texts.items()}
        self.waiting, self.seeds = [], {}

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def ask(self, name: str, ids: list[int], params) -> None:
        self.waiting.append((name, ids, params))
        self.seeds[name] = params.seed

    def step(self) -> list:
        done, self.waiting = self.waiting, []
        return [self.made(*one) for one in done]

    def made(self, name, ids, params):
        """The writer never waits, so that its coroutine ends at the first step."""
        problem, sample, number = name.split("-")
        try:
            writer = self.writers[f"{problem}-{sample}"]
            writer(ids, params.max_tokens, tuple(params.stop), int(number)).send(None)
        except StopIteration as done:
            piece = done.value
        reason = {"eos": "stop"}.get(piece.finished, piece.finished)
        one = SimpleNamespace(token_ids=piece.ids, text=piece.text, finish_reason=reason, stop_reason=piece.stopped)
        return SimpleNamespace(request_id=name, outputs=[one], finished=True)


@pytest.fixture
def evaluated(monkeypatch):
    def run(
        texts: dict[str, list[str]], stop: tuple[str, ...] = (), step=lambda steps: steps.step
    ) -> tuple[dict, Steps]:
        sampler, steps = object.__new__(Sampler), Steps(texts)
        first = next(iter(steps.writers.values()))
        sampler._seed, sampler._watch, sampler._waiting, sampler._engine = 3, None, {}, steps
        sampler._tool = Tool(ToolSettings(isolation="none"), first.reads, "m")
        sampler._text = EngineText(first.reads)
        sampler._ask = steps.ask
        sampler._step = step(steps)
        monkeypatch.setattr(
            evaluation_sampler,
            "_params",
            lambda sampling, most, stop, seed, *_, **more: SimpleNamespace(max_tokens=most, stop=list(stop), seed=seed),
        )
        requests = [Request(*map(int, name.split("-")), first.ids("p")) for name in texts]
        made = sampler.complete(requests, Sampling(1, 1000, 0.6), stop)
        return {f"{request.problem}-{request.sample}": one for request, one in made}, steps

    return run


def test_evaluation_runs_code_and_counts_it(evaluated):
    code = "```python\nprint(6 * 7)\n```\n"
    texts = {"0-0": [code + "\\boxed{42}"], "0-1": ["\\boxed{1}"], "1-0": [code * 2 + "\\boxed{42}\nProblem:x"]}
    made, steps = evaluated(texts, stop=("\nProblem:",))
    shown = "```output\n42\n```\n"
    assert made["0-0"].text == code + shown + "\\boxed{42}"
    assert made["0-1"] == Completion("\\boxed{1}", len("\\boxed{1}") + 1, "eos", ToolUse())
    assert made["1-0"].text == (code + shown) * 2 + "\\boxed{42}"
    assert made["1-0"].tool.calls == 2 and made["1-0"].tool.failed == 0
    assert len(set(steps.seeds.values())) == len(steps.seeds) == 6


def test_engine_that_dies_ends_the_evaluation(evaluated):
    from openrlhf_math.errors import UserError

    def dying(steps):
        def dies():
            raise UserError("the engine died")

        return dies

    with pytest.raises(UserError, match="died"):
        evaluated({"0-0": ["x"], "0-1": ["y"]}, step=dying)


def test_call_result_needs_few_engine_steps(evaluated, monkeypatch):
    """A program that takes no time: the attempt's next request is there within two steps."""
    steps_taken = []

    async def at_once(self, code, seconds=float("inf")):
        return Result("1", "ok", False)

    def never_idle(steps):
        def step():
            """The other attempt's request stays with the engine for 50 steps."""
            steps_taken.append([name for name, *_ in steps.waiting])
            ready = [one for one in steps.waiting if one[0] != "0-1-0" or len(steps_taken) > 50]
            left = [one for one in steps.waiting if one not in ready]
            steps.waiting = ready
            done = steps.step()
            steps.waiting += left
            return done

        return step

    monkeypatch.setattr(Session, "run", at_once)
    evaluated({"0-0": ["```python\n1\n```\nend"], "0-1": ["x"]}, step=never_idle)
    assert next(number for number, names in enumerate(steps_taken) if "0-0-1" in names) <= 2
