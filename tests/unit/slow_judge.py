"""A grading worker with comparisons that take for ever, or all memory: for tests of what then happens.

Answers that name `s_{pin}` loop in Python, `p_{ower}` is one long multiplication that notices no signal, `m_{em}` takes
all memory. A pool whose workers run this module: `monkeypatch.setattr(pool, "MODULE", "slow_judge")`.
"""

from openrlhf_math.rewards import fingerprint, same, worker

_judge, _describe, _equivalent, _fingerprint = worker.judge, worker.describe, same.equivalent, fingerprint.fingerprint
SPIN, POWER, MEMORY = r"\boxed{s_{pin}+x}", r"\boxed{p_{ower}+x}", r"\boxed{m_{em}+x}"


def serve(**settings) -> None:
    worker.judge, worker.describe = judge, describe
    worker.serve(**settings)


def judge(gold: str, answer: str, problem: str, timeout_seconds: float):
    same.equivalent = _slowly
    return _judge(gold, answer, problem, timeout_seconds)


def describe(answer: str, problem: str, timeout_seconds: float):
    fingerprint.fingerprint = lambda answer, problem="": str(_slowly("", answer)) and _fingerprint(answer, problem)
    return _describe(answer, problem, timeout_seconds)


def _slowly(gold: str, answer: str, problem: str = "") -> bool:
    if "p_{ower}" in answer:
        return bool(10**10**9)
    if "m_{em}" in answer:
        return bool(bytearray(1 << 36))
    while "s_{pin}" in answer:
        pass
    return _equivalent(gold, answer, problem)
