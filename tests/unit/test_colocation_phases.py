"""The phase controller with engines and a policy that only record their calls."""

import pytest
from ray.exceptions import ActorDiedError

from openrlhf_math.colocation.phases import GIB, PhaseError, Phases

SENT = {"transfer/bytes": 8.0, "transfer/seconds": 2.0, "transfer/gb_per_s": 4e-9}
MEMORY = ("used_bytes", "take_peak_bytes")


class Actors:
    """Engines and policy in one: notes each call, answers `answers[method]`. A reference is the call itself."""

    def __init__(self, count: int = 2) -> None:
        self.calls, self.count = [], count
        self.answers = {"broadcast_to_vllm": SENT, "used_bytes": GIB, "take_peak_bytes": 2 * GIB}

    def __getattr__(self, method: str):
        return Remote(self, method)

    def async_run_method(self, method_name: str, **arguments) -> list:
        return [Remote(self, method_name).remote(**arguments) for _ in range(self.count)]

    def wait(self, calls: list, seconds: float) -> list:
        answers = []
        for method, arguments in calls:
            if method not in MEMORY:
                self.calls.append((method, *arguments.values()))
            answer = self.answers.get(method)
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
        return answers

    def take_calls(self) -> list:
        calls, self.calls = self.calls, []
        return calls


class Remote:
    def __init__(self, actors: Actors, method: str) -> None:
        self.actors, self.method = actors, method

    def remote(self, **arguments) -> tuple:
        return self.method, arguments


@pytest.fixture
def actors() -> Actors:
    return Actors(count=1)


def phases_of(actors: Actors, moves: bool = True, **more) -> Phases:
    return Phases([actors], actors, engines_sleep=moves, states_offload=moves, wait=actors.wait, **more)


def one_step(phases: Phases) -> None:
    phases.rollout()
    phases.train()
    phases.reload()
    phases.offload()
    phases.transfer()


def test_step_discards_weights_for_training_and_wakes_the_cache_only_for_generation(actors):
    phases = phases_of(actors)
    one_step(phases)
    assert actors.take_calls() == [
        ("wake_up", ["weights"]), ("wake_up", ["kv_cache"]),
        ("sleep", 2), ("reload_states",), ("offload_states",), ("wake_up", ["weights"]), ("broadcast_to_vllm",),
    ]  # fmt: skip
    phases.rollout()
    assert actors.take_calls() == [("wake_up", ["kv_cache"])]


def test_consecutive_generations_move_nothing(actors):
    """An evaluation after a step, a batch that dynamic filtering emptied."""
    phases = phases_of(actors)
    one_step(phases)
    phases.rollout()
    actors.take_calls()
    phases.rollout()
    assert actors.take_calls() == []


def test_resumed_run_sends_weights_before_it_generates(actors):
    phases = phases_of(actors)
    phases.transfer()
    phases.rollout()
    assert actors.take_calls() == [("wake_up", ["weights"]), ("broadcast_to_vllm",), ("wake_up", ["kv_cache"])]


def test_training_on_buffered_samples(actors):
    """vLLM does not sleep half awake: its cache is woken, so that the weights go to sleep as well."""
    phases = phases_of(actors)
    one_step(phases)
    actors.take_calls()
    phases.train()
    assert actors.take_calls() == [("wake_up", ["kv_cache"]), ("sleep", 2)]


@pytest.mark.parametrize("moves", [True, False], ids=["gpu", "cpu"])
def test_generation_on_discarded_weights_is_refused(actors, moves):
    phases = phases_of(actors, moves)
    phases.rollout()
    phases.train()
    with pytest.raises(PhaseError, match="phase train: generation was asked for, but .* discarded"):
        phases.rollout()
    phases.transfer()
    phases.rollout()


def test_engines_that_stay_generate_while_the_policy_trains(actors):
    phases = phases_of(actors, engines_stay=True)
    phases.rollout()
    actors.take_calls()
    phases.train()
    phases.rollout()  # what they were asked ahead is taken before the transfer
    phases.transfer()
    phases.rollout()
    assert actors.take_calls() == [("broadcast_to_vllm",)]


def test_generation_after_a_failed_transfer_is_refused(actors):
    phases = phases_of(actors)
    actors.answers["broadcast_to_vllm"] = OSError("no room in shared memory")
    with pytest.raises(PhaseError, match="^phase transfer, transfer: OSError: no room in shared memory$"):
        phases.transfer()
    with pytest.raises(PhaseError, match="phase transfer: generation"):
        phases.rollout()


class WrappedByRay(Exception):
    cause = ValueError("CUDA out of memory")


FAILURES = [
    ("sleep", WrappedByRay(), "phase train, sleep: ValueError: CUDA out of memory"),
    ("wake_up", RuntimeError("actor died"), "phase rollout, wake_weights: RuntimeError: actor died"),
    ("used_bytes", RuntimeError("actor died"), "phase rollout, wake_weights: RuntimeError: actor died"),
    ("reload_states", TimeoutError(), "phase train, reload: no answer within 7 s"),
    ("offload_states", TimeoutError(), "phase train, offload: no answer within 7 s"),
    ("broadcast_to_vllm", TimeoutError(), "phase transfer, transfer: no answer within 7 s"),
]


@pytest.mark.parametrize(("method", "failure", "message"), FAILURES, ids=[method for method, *_ in FAILURES])
def test_failed_move_names_phase_move_and_cause(actors, method, failure, message):
    actors.answers[method] = failure
    with pytest.raises(PhaseError) as raised:
        one_step(phases_of(actors, timeout=7))
    assert str(raised.value) == message


def test_moves_are_reported_when_nothing_moves(actors):
    reports = []
    for moves in (True, False):
        phases = phases_of(actors, moves)
        one_step(phases)
        reports.append(phases.take_report())
    assert reports[0].keys() == reports[1].keys()
    assert actors.calls[-1] == ("broadcast_to_vllm",)
    assert [call for call in actors.take_calls() if call[0] == "sleep"] == [("sleep", 2)]  # of the first alone


def test_report_holds_seconds_memory_and_what_was_sent(actors):
    policy = Actors(count=2)
    policy.answers["used_bytes"] = 3 * GIB
    phases = Phases(
        [actors], policy, engines_sleep=True, states_offload=True, others=[Actors(count=1)], wait=actors.wait
    )
    actors.wait = policy.wait
    one_step(phases)
    report = phases.take_report()
    moves = ("wake_weights", "wake_kv_cache", "sleep", "reload", "offload", "transfer")
    assert {key for key in report if key.startswith("timing/")} == {f"timing/{move}" for move in moves}
    assert all(0 <= report[f"timing/{move}"] < 1 for move in moves)
    assert all(f"memory/{move}_{when}" in report for move in moves for when in ("before", "after"))
    assert {key: report[key] for key in SENT} == SENT
    assert report["memory/peak_gib"] == 2 * 4  # an engine, two of the policy, one other
    assert phases.take_report() == {"memory/peak_gib": 8}


def test_memory_is_that_of_the_largest_process(actors):
    taken = iter([1, 4, 2, 1])
    wait = lambda calls, seconds: [next(taken) * GIB if method == "used_bytes" else None for method, _ in calls]  # noqa: E731
    phases = Phases([], Actors(count=2), engines_sleep=True, states_offload=True, wait=wait)
    phases.reload()
    phases.wait = lambda calls, seconds: [0] * len(calls)
    report = phases.take_report()
    assert (report["memory/reload_before"], report["memory/reload_after"]) == (4, 2)


def test_dead_engine_is_asked_again_after_replacement(actors):
    def recover():
        del actors.answers["sleep"]

    phases = phases_of(actors, recover=recover)
    phases.rollout()
    actors.take_calls()
    actors.answers["sleep"] = ActorDiedError()
    phases.train()
    assert actors.take_calls() == [("sleep", 2), ("sleep", 2)]


@pytest.mark.parametrize("method", ["offload_states", "sleep"])
def test_dead_policy_or_failed_engine_is_not_asked_again(actors, method):
    phases = phases_of(actors, recover=lambda: pytest.fail("nothing is there to recover"))
    phases.rollout()
    actors.answers[method] = ActorDiedError() if method == "offload_states" else MemoryError("no room")
    with pytest.raises(PhaseError):
        phases.train()
        phases.offload()
