"""Which of the problems are kept. Pure functions."""

from statistics import fmean

from openrlhf_math.distill.collect import CORRECT, GRADED, Verdict, Verdicts
from openrlhf_math.distill.keep import Rule, is_unverified, length_of
from openrlhf_math.distill.questions import Task


def may_be_kept(rule: Rule, verdict: Verdict) -> bool:
    """Whether an attempt is one of those that the rule chooses among."""
    return verdict.outcome in (GRADED if is_unverified(rule) else (CORRECT,))


def longest_questions(tasks: list[Task], verdicts: Verdicts, rule: Rule, n: int) -> list[Task]:
    """The n problems whose traces are longest in the mean, in the order of `tasks`; the first of several as long.

    Each of `tasks` has a trace that the rule may keep. Lengths are compared as those of traces are, over all problems.
    """
    traces = {task.key: [one for one in verdicts[task.key] if may_be_kept(rule, one)] for task in tasks}
    length_of_one = length_of([one for of_one in traces.values() for one in of_one])

    def length(task: Task) -> float:
        return fmean(map(length_of_one, traces[task.key]))

    chosen = {task.key for task in sorted(tasks, key=length, reverse=True)[:n]}
    return [task for task in tasks if task.key in chosen]
