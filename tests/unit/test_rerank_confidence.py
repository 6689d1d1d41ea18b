"""Votes by confidence: DeepConf's measures against a naive reference, what they weigh, whom they leave out."""

import argparse
import asyncio
import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from openrlhf_math.cli import main
from openrlhf_math.cli.rerank_flags import add_rerank_flags, method
from openrlhf_math.rerank.anytime import Attempt, VoteState
from openrlhf_math.rerank.budget import Budget, Limits
from openrlhf_math.rerank.choose import RULES, majority, most_confident
from openrlhf_math.rerank.confidence import (
    ByConfidence,
    Floor,
    Meter,
    Watch,
    measured,
    read_logprobs,
    read_until_unsure,
    surest,
    weights,
)
from openrlhf_math.rerank.early_stop import cannot_lose, never
from openrlhf_math.rerank.reranker import Solved, row
from openrlhf_math.rerank.roles import UNSURE, Completion, Sampling, Unavailable, Unmeasured
from openrlhf_math.rerank.solver import Method, Solver, one_solver
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.serving.app import _as_api_error
from openrlhf_math.serving.errors import ApiError
from openrlhf_math.serving.plan import Service, plan
from openrlhf_math.serving.protocol import ChatRequest, Message, SolveOptions

NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1))
    yield pool
    pool.close()


def meter(drawn, candidates, **watch) -> Meter:
    made = Meter(Watch(**watch))
    made.extend(np.array(drawn, float), np.array(candidates, float).reshape(len(drawn), -1))
    return made


def naive(drawn: list[float], tops: list[list[float]], k: int, window: int) -> dict[str, float]:
    """Section 3 of https://arxiv.org/abs/2508.15260, written out. tops: the most likely first."""

    def average(values):
        values = list(values)
        return sum(values) / len(values)

    tokens = [-average(top[:k]) for top in tops]
    window = min(window, len(tokens))
    groups = [average(tokens[i - window : i]) for i in range(window, len(tokens) + 1)]
    fewest = sorted(groups)[: max(1, len(groups) // 10)]
    logs = [average(drawn[i - window : i]) for i in range(window, len(drawn) + 1)]
    entropies = []
    for top in tops:
        rest = 1 - sum(math.exp(one) for one in top[:k])
        entropies.append(-sum(math.exp(one) * one for one in top[:k]) - (rest * math.log(rest) if rest > 1e-12 else 0))
    return {
        "mean": average(tokens), "tail": average(tokens[-window:]), "lowest": min(groups), "bottom": average(fewest),
        "logprob": average(drawn), "tail_logprob": average(drawn[-window:]), "lowest_logprob": min(logs),
        "entropy": average(entropies),
    }  # fmt: skip


def distributions(rng, tokens: int, vocabulary: int = 30) -> list[list[float]]:
    """Log-probabilities of whole vocabularies, the most likely first."""
    weights = [[rng.expovariate(1) ** 4 for _ in range(vocabulary)] for _ in range(tokens)]
    return [sorted((math.log(one / sum(row)) for one in row), reverse=True) for row in weights]


@pytest.mark.parametrize("tokens, window, k", [(1, 4, 5), (3, 4, 5), (4, 4, 5), (57, 8, 3), (200, 16, 20), (64, 1, 1)])
def test_measures_are_those_of_the_paper(tokens, window, k):
    rng = random.Random(tokens)
    tops = distributions(rng, tokens)
    drawn = [rng.choice(top) for top in tops]
    shuffled = [rng.sample(top, len(top)) for top in tops]
    made = Meter(Watch(candidates=k, window=window))
    for start in range(0, tokens, 7):  # as an engine streams them
        made.extend(np.array(drawn[start : start + 7]), np.array(shuffled[start : start + 7]))
    found = made.confidence()
    for name, value in naive(drawn, tops, k, window).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-9), name


def test_uninformative_tokens_are_ignored():
    whole = meter([-1, -2], [[-1, -3], [-2, -2]]).confidence()
    holes = meter([-1, NAN, -2, -INF, -5], [[-1, -3], [-9, -9], [-2, -2], [-9, -9], [NAN, -INF]]).confidence()
    assert holes == whole
    assert meter([-1], [[-1, -INF, NAN]]).confidence().mean == 1
    assert Meter(Watch()).confidence() is None
    assert meter([NAN], [[-1.0]]).confidence() is None
    assert meter([-1.0], [[NAN]]).confidence() is None


def test_window_triggers_only_when_full_and_below():
    assert not meter([-1] * 3, [[-1]] * 3, window=4, floor=5.0).sank
    assert meter([-1] * 4, [[-1]] * 4, window=4, floor=5.0).sank
    assert not meter([-1] * 4, [[-1]] * 4, window=4, floor=1.0).sank
    assert not meter([-1] * 4, [[-1]] * 4, window=4).sank
    # It may rise again behind the low place: what comes at once is looked at token by token.
    assert meter([-1] * 10, [[-9]] * 3 + [[-1]] * 4 + [[-9]] * 3, window=4, floor=2.0).sank


@pytest.mark.parametrize("seed", range(20))
def test_attempt_as_confident_as_the_first_is_not_stopped(seed):
    """The mean of a window that slides is rounded at each step, that of a whole window is not."""
    rng = random.Random(seed)
    rows = [[-rng.uniform(0, 20) for _ in range(20)] for _ in range(3000)]
    drawn = [row[0] for row in rows]
    taught = meter(drawn, rows, window=64).confidence()
    floor = Floor(4, 0.5)
    for _ in range(4):
        floor.note(taught)
    assert not meter(drawn, rows, window=64, floor=floor.value).sank
    assert meter(drawn, rows, window=64, floor=floor.value + 1e-4).sank


class Flat:
    """vLLM's FlatLogprobs."""

    def __init__(self, rows):
        self.token_ids, self.logprobs, self.start_indices, self.end_indices = [], [], [], []
        for one in rows:
            self.start_indices.append(len(self.token_ids))
            for token, logprob in one:
                self.token_ids.append(token)
                self.logprobs.append(logprob)
            self.end_indices.append(len(self.token_ids))

    def __len__(self):
        return len(self.start_indices)

    def __getitem__(self, part):
        ends = zip(self.start_indices[part], self.end_indices[part], strict=True)
        return Flat([list(zip(self.token_ids[one:two], self.logprobs[one:two], strict=True)) for one, two in ends])


@pytest.mark.parametrize("together", [1, 2, 3, 5, 40])
def test_unsure_attempt_ends_at_the_same_token_however_many_come_together(together):
    rng = random.Random(3)
    rows = [[(7, -rng.uniform(0, 3)), (8, -rng.uniform(0, 3))] for _ in range(40)]
    rows[1] = []  # says nothing, and is a token nevertheless
    alone = Meter(Watch(window=4, floor=1.3))
    ends = next(number for number in range(1, 41) if read_until_unsure(Flat(rows[number - 1 : number]), alone)
                and alone.sank)  # fmt: skip
    made, read = Meter(Watch(window=4, floor=1.3)), 0
    for first in range(0, 40, together):
        read += read_until_unsure(Flat(rows[first : first + together]), made)
        if made.sank:
            break
    assert 4 < read == ends < 40 and made.confidence() == alone.confidence()
    assert read_until_unsure(None, Meter(Watch())) == 0


def test_drawn_token_counts_once_among_the_candidates():
    again = Meter(Watch(candidates=2))
    read_logprobs(Flat([[(7, -1.0), (7, -1.0), (8, -2.0)], [(9, -5.0), (7, -1.0), (8, -2.0)]]), again)
    put_together = Meter(Watch(candidates=2))
    read_logprobs(Flat([[(7, -1.0), (8, -2.0)], [(9, -5.0), (7, -1.0), (8, -2.0)]]), put_together)
    assert again.confidence() == put_together.confidence()
    assert (again.confidence().mean, again.confidence().logprob) == (1.5, -3.0)
    for nothing in (None, Flat([]), Flat([[]])):
        empty = Meter(Watch())
        read_logprobs(nothing, empty)
        assert empty.confidence() is None


def test_missing_confidence_gets_the_lowest_weight():
    figures = [{"tail": 3.0}, None, {"tail": NAN}, 2.0, {"tail": None}, {}, INF, {"tail": -1.0}]
    assert measured(figures, "tail") == [3.0, None, None, 2.0, None, None, None, 0.0]
    assert measured([{"tail_logprob": -1.0}, {"tail": 2.0}], "likelihood") == [pytest.approx(math.exp(-1)), None]
    assert weights([3.0, None, 2.0]) == [3.0, 2.0, 2.0]
    assert weights([None, None]) == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(30))
def test_vote_is_weighted_by_confidence(seed):
    rng = random.Random(seed)
    clusters = [rng.choice([None, 0, 1, 2]) for _ in range(rng.randrange(1, 12))]
    values = [rng.uniform(0, 20) for _ in clusters]
    totals = {}
    for name, value in zip(clusters, values, strict=True):
        if name is not None:
            totals[name] = totals.get(name, 0) + value
    winner = most_confident(clusters, values)
    if not totals:
        assert winner is None
    else:
        best = max(totals, key=totals.get)
        assert clusters[winner] == best and winner == clusters.index(best)
    assert most_confident(clusters, [0.0] * len(clusters)) == majority(clusters)


@pytest.mark.parametrize(
    "clusters, numbers, keep, left",
    [
        ([0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0], 0.5, [None, None, 0, 1]),
        ([0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0], 1.0, [0, 1, 0, 1]),
        ([0, None, 1], [1.0, 9.0, 2.0], 0.5, [None, None, 1]),  # one without an answer takes no place
        ([0, 1, 0], [None, 0.0, None], 0.1, [None, 1, None]),
        ([0, 1, 0], [None, None, None], 0.1, [0, 1, 0]),
        ([0, 1], [5.0, 5.0], 0.5, [0, None]),
        ([0] * 10, [1.0] * 10, 0.9, [0] * 9 + [None]),
        ([0] * 10, [1.0] * 10, 0.1, [0] + [None] * 9),
        ([], [], 0.5, []),
        ([None, None], [1.0, None], 0.5, [None, None]),
        ([0], [None], 0.1, [0]),
    ],
)
def test_least_confident_are_left_out(clusters, numbers, keep, left):
    assert surest(clusters, numbers, keep) == left


@pytest.mark.parametrize("seed", range(20))
def test_floor_is_the_percentile_of_the_first_attempts(seed):
    rng = random.Random(seed)
    floor = Floor(8, keep=0.9)
    lows = [rng.uniform(1, 5) for _ in range(20)]
    for number, low in enumerate(lows):
        assert floor.room() == (8 - number if number < 8 else INF)
        assert (floor.value is None) == (number < 8)
        floor.note(meter([-low], [[-low]]).confidence())
    ordered = sorted(lows[:8])
    place = 0.1 * 7
    below = math.floor(place)
    naive = ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
    assert floor.value == pytest.approx(naive)


def test_floor_without_data_stops_nothing():
    floor = Floor(2, keep=0.5)
    floor.note(None)
    floor.note(None)
    assert floor.value is None and floor.room() == INF


class Writer:
    """Attempt i writes the i-th answer, whose tokens all have the i-th confidence; it minds the floor as an engine."""

    def __init__(self, answers, levels, tokens=12, seconds=0.0):
        self.answers, self.levels, self.tokens, self.seconds = answers, levels, tokens, seconds
        self.asked, self.most, self.under_way = [], 0, 0

    async def complete(self, messages, sampling: Sampling) -> Completion:
        number = len(self.asked)
        self.asked.append(sampling)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.seconds)
        self.under_way -= 1
        level = self.levels[number]
        if level is None or sampling.watch is None:
            return Completion(self.answers[number], self.tokens, "eos")
        made = Meter(sampling.watch)
        for written in range(1, self.tokens + 1):
            made.extend(np.array([-level]), np.array([[-level]]))
            if made.sank:
                return Completion(self.answers[number], written, UNSURE, confidence=made.confidence())
        return Completion(self.answers[number], self.tokens, "eos", confidence=made.confidence())


def box(*answers):
    return [f"so it is \\boxed{{{answer}}}" for answer in answers]


METHOD = Method(one_solver("", Sampling()), stop=never)


def solve(pool, writer, method, **limits):
    budget = Budget(Limits(**{"attempts": len(writer.answers)} | limits))
    return asyncio.run(Solver(writer, None, pool).solve("What is it?", method, budget))


def test_confident_attempts_outweigh_more_unsure_ones(pool):
    answers, levels = box("1", "1", "1", "2", "2"), [2.0, 2.0, 2.0, 9.0, 9.0]
    plain = solve(pool, Writer(answers, levels), METHOD)
    assert plain.answer == "1" and row(0, "", None, Solved(0, plain))["confidence"] is None
    sure = solve(pool, Writer(answers, levels), replace(METHOD, rule=most_confident))
    assert (sure.answer, sure.decision.attempt, sure.decision.unmeasured) == ("2", 3, 0)
    assert [one["tail"] for one in row(0, "", None, Solved(0, sure))["confidence"]] == levels
    kept = solve(pool, Writer(answers, levels), replace(METHOD, confidence=ByConfidence(keep=0.4)))
    assert (kept.answer, kept.decision.left_out, kept.decision.votes) == ("2", 3, (3, 2))


def test_confidence_lead_is_never_final(pool):
    """One more attempt may be surer than all before, or push them out."""
    same, levels = box(*"11111111"), [2.0] * 8
    for how in (replace(METHOD, rule=most_confident), replace(METHOD, confidence=ByConfidence(keep=0.5))):
        assert solve(pool, Writer(same, levels), replace(how, stop=cannot_lose)).decision.ended == "attempts"
    assert solve(pool, Writer(same, levels), replace(METHOD, stop=cannot_lose)).decision.ended == "early"


def test_unsure_attempts_are_stopped_once_the_floor_is_known(pool):
    answers, levels = box("1", "1", "2", "3", "2", "2"), [3.0, 4.0, 5.0, 2.0, 3.5, 2.9]
    by = ByConfidence(warm_up=3, window=4)
    writer = Writer(answers, levels, seconds=0.001)
    solution = solve(pool, writer, replace(METHOD, rule=most_confident, confidence=by, max_concurrency=8))
    assert writer.most <= 3, "no more may be under way than those it is learnt from, until it is known"
    assert [sampling.watch.floor for sampling in writer.asked] == [None] * 3 + [3.0] * 3
    assert [(one.answer, one.tokens) for one in solution.attempts] == [
        ("1", 12), ("1", 12), ("2", 12), (None, 4), ("2", 12), (None, 4),
    ]  # fmt: skip
    assert solution.decision.tokens == 4 * 12 + 2 * 4
    assert solution.answer == "2"


@pytest.mark.parametrize("keep", [1.0, 0.1])
@pytest.mark.parametrize(
    "answers, levels, answer",
    [
        (box("1"), [3.0], "1"),
        (box("1"), [None], "1"),
        (["", "", ""], [None, 1.0, None], None),
        (box("1", "2", "2"), [None] * 3, "2"),
        (box(*["1"] * 256), [1.0] * 256, "1"),
        (box("1", "1"), [0.0, 0.0], "1"),
        (box("1", "1"), [INF, NAN], "1"),
    ],
    ids=["one", "one unmeasured", "all empty", "none measured", "256", "zero", "no numbers"],
)
def test_edges(pool, answers, levels, answer, keep):
    method = replace(METHOD, rule=most_confident, confidence=ByConfidence(keep=keep), stop=cannot_lose)
    solution = solve(pool, Writer(answers, levels, tokens=1), method)
    assert solution.answer == answer
    unmeasured = sum(level is None or not math.isfinite(level) for level in levels)
    assert solution.decision.unmeasured == unmeasured
    json.dumps(row(0, "", None, Solved(0, solution)), allow_nan=False)


def test_totals_of_equal_confidences_are_votes():
    state = VoteState(lambda *pair: False, most_confident)
    one = meter([-7.0], [[-7.0]]).confidence()
    for answer in ("1", "1", "2", None):
        state.add(Attempt(answer, confidence=one))
    assert state.totals() == pytest.approx((2.0, 1.0)) and not state.bounded()


@pytest.mark.parametrize(
    "field, value", [("measure", "best"), ("keep", 0.0), ("keep", 1.1), ("keep", NAN), ("window", 0), ("warm_up", -1)]
)
def test_invalid_settings(field, value):
    with pytest.raises(ValueError, match=field):
        ByConfidence(**{field: value})


ROWS = [
    {
        "gold": "2",
        "responses": [r"\boxed{3}", r"\boxed{3}", r"\boxed{2}", None],
        "confidence": [{"tail": 1.0, "lowest": 9.0}, {"tail": 1.0, "lowest": 9.0}, {"tail": 3.0, "lowest": 1.0}, None],
    },
    {"gold": "5", "responses": [r"\boxed{5}", r"\boxed{6}"], "confidence": [4.0, None]},
]


def voted(tmp_path, capsys, rows, *flags) -> dict[str, float]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    code = main(["vote", str(file), "--workers", "1", "--json", *flags])
    said = capsys.readouterr()
    if code:
        raise SystemExit(said.err)
    return {name: rule["accuracy"][-1] for name, rule in json.loads(said.out)["rules"].items()}


def test_recorded_attempts_are_voted_by_confidence(tmp_path, capsys):
    result = voted(tmp_path, capsys, ROWS)
    assert result["majority"] == 0.5 and result["confident, tail"] == 1.0
    assert {f"confident, tail, top {share}" for share in ("0.9", "0.5", "0.1")} < result.keys()
    result = voted(tmp_path, capsys, ROWS, "--confidence-measure", "lowest", "--keep-confident", "0.3")
    assert result["confident, lowest, top 0.3"] == 0.5


def test_figures_that_may_be_negative(tmp_path, capsys):
    figures = [
        {"tail": -1e-12, "tail_logprob": -2.0},
        {"tail": 0.0, "tail_logprob": -2.5},
        {"tail_logprob": -0.5},
        None,
    ]
    rows = [ROWS[0] | {"confidence": figures}]
    assert voted(tmp_path, capsys, rows, "--confidence-measure", "likelihood")["confident, likelihood"] == 1.0
    unknown = voted(tmp_path, capsys, [ROWS[0] | {"confidence": [None] * 4}])
    assert not any(name.startswith("confident") for name in unknown)


def test_rows_of_one_attempt_are_merged_with_confidence(tmp_path, capsys):
    rows = [
        {"problem_index": 0, "gold": one["gold"], "response": response or "", "confidence": figures}
        for one in ROWS[:1]
        for response, figures in zip(one["responses"], one["confidence"], strict=True)
    ]
    assert voted(tmp_path, capsys, rows)["confident, tail"] == 1.0


@pytest.mark.parametrize(
    "rows, flags, said",
    [
        ([{"gold": "2", "responses": ["2"]}], ["--rule", "confident"], "no `confidence`"),
        ([{"gold": "2", "responses": ["2"]}], ["--keep-confident", "0.5"], "no `confidence`"),
        (ROWS, ["--keep-confident", "0"], "--keep-confident 0.0"),
        ([{"gold": "2", "responses": ["2"], "confidence": ["much"]}], [], "`confidence`"),
        ([{"gold": "2", "responses": ["2"], "confidence": [{"tail": "much"}]}], [], "`confidence`"),
        ([{"gold": "2", "responses": ["2"], "confidence": [1.0, 2.0]}], [], "`confidence`"),
        ([{"gold": "2", "responses": ["2"], "confidence": [-0.3]}], [], "`confidence`"),
        ([{"gold": "2", "responses": ["2"], "confidence": [{"tail": -0.3}]}], [], "`confidence`"),
        ([{"gold": "2", "responses": ["2"], "confidence": [-INF]}], [], "`confidence`"),
        ([{"gold": "2", "responses": ["2"], "confidence": [None]}], ["--rule", "confident"], "tail"),
        (ROWS[:1], ["--confidence-measure", "bottom"], "bottom"),
        (ROWS[:1], ["--confidence-measure", "tail", "--confidence-measure", "likelihood"], "likelihood"),
    ],
)
def test_rows_that_cannot_be_voted_by_confidence(tmp_path, capsys, rows, flags, said):
    with pytest.raises(SystemExit, match=said):
        voted(tmp_path, capsys, rows, *flags)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--keep-confident", "0"], "--keep-confident 0.0"),
        (["--keep-confident", "1.5"], "--keep-confident 1.5"),
        (["--abort-unsure", "8", "--attempts", "8"], "--abort-unsure 8"),
        (["--abort-unsure", "-1"], "--abort-unsure -1"),
        (["--confidence-window", "0"], "--confidence-window 0"),
        (["--abort-unsure", "4", "--base-url", "http://127.0.0.1:1/v1"], "--abort-unsure 4"),
        (["--record-confidence", "--strategy", "beam"], "--record-confidence"),
        (["--select-group", "1"], "--select-group 1"),
        (["--select-votes", "0"], "--select-votes 0"),
    ],
)
def test_flags_that_cannot_work_are_one_sentence(flags, said, capsys):
    assert main(["solve", "1+1?", "--model", "m", *flags]) == 2
    assert said in capsys.readouterr().err


def test_flags_become_a_method():
    parser = argparse.ArgumentParser()
    add_rerank_flags(parser, 60)
    flags = [
        "--keep-confident",
        "0.9",
        "--abort-unsure",
        "4",
        "--confidence-window",
        "16",
        "--confidence-measure",
        "mean",
    ]
    made = method(parser.parse_args(["--model", "m", *flags]))
    assert made.confidence == ByConfidence("mean", 0.9, 16, 4) and made.confidence.needed
    assert not method(parser.parse_args(["--model", "m", "--confidence-window", "16"])).confidence.needed


def test_request_uses_the_servers_window(pool):
    """What a server was started with counts where only a request asks for the rule."""
    writer = Writer(box("1", "2"), [1.0, 2.0])
    served = Service(
        "m", replace(METHOD, confidence=ByConfidence(window=3)), Limits(attempts=2, seconds=60), scored=False
    )
    messages = [Message(role="user", content="1+1?")]
    solve(pool, writer, plan(ChatRequest(messages, options=SolveOptions(rule="confident")), served).method)
    assert [sampling.watch for sampling in writer.asked] == [Watch(window=3)] * 2
    asked = plan(ChatRequest(messages, options=SolveOptions(rule="genselect")), served)
    assert asked.method.rule is RULES["genselect"]


def test_unavailable_confidence_is_a_client_error():
    served = Service("m", METHOD, Limits(attempts=2, seconds=60), scored=False, measured=False)
    request = ChatRequest([Message(role="user", content="1+1?")], options=SolveOptions(rule="confident"))
    with pytest.raises(ApiError) as refused:
        plan(request, served)
    found = [refused.value, _as_api_error(Unmeasured("no logprobs")), _as_api_error(Unavailable("dead"))]
    assert [(one.status, one.param) for one in found] == [
        (400, "openrlhf_math.rule"),
        (400, "openrlhf_math.rule"),
        (503, None),
    ]


def test_tokens_that_an_unsure_attempt_wrote_beyond_its_end_are_spent(pool):
    class Beyond(Writer):
        async def complete(self, messages, sampling):
            return replace(await super().complete(messages, sampling), dropped=3)

    solution = solve(pool, Beyond(box("1", "1"), [2.0, 2.0]), METHOD)
    assert [attempt.tokens for attempt in solution.attempts] == [12, 12] and solution.decision.tokens == 30
