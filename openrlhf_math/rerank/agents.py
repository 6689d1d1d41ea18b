"""Agents: solvers with their own prompts and temperatures, who take turns over the attempts at a problem.

The panel's attempts become one answer by any rule of `choose`; `chairman` is the one made for it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from openrlhf_math.data.prompts import with_instruction
from openrlhf_math.errors import UserError
from openrlhf_math.rerank.roles import Sampling
from openrlhf_math.rerank.solver import Turns
from openrlhf_math.rerank.task import Turn, seed_of


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Agent:
    """One solver. Raises ValueError for values that cannot work.

    name         recorded in `Attempt.by`
    system       its system prompt, "" for none
    temperature  None for that of the sampling, likewise top_p
    weight       turns it has for one turn of an agent of weight 1
    """

    name: str
    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    weight: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.strip()):
            raise ValueError(f"name is {self.name!r}, it must be text")
        if not isinstance(self.system, str):
            raise ValueError(f"system is {self.system!r}, it must be text")
        if not (self.temperature is None or _number(self.temperature) and 0 <= self.temperature < float("inf")):
            raise ValueError(f"temperature is {self.temperature!r}, it must be a number, 0 or more")
        if not (self.top_p is None or _number(self.top_p) and 0 < self.top_p <= 1):
            raise ValueError(f"top_p is {self.top_p!r}, it must be more than 0 and at most 1")
        if type(self.weight) is not int or self.weight < 1:
            raise ValueError(f"weight is {self.weight!r}, it must be a whole number, 1 or more")


AGENTS: dict[str, tuple[Agent, ...]] = {
    "one": (Agent("solver"),),
    "panel": (
        Agent("direct", "Solve the problem by the shortest sound way.", temperature=0.6),
        Agent(
            "checking",
            "Solve the problem step by step. Check every step by another way before you build on it, and put your "
            "answer back into the problem before you give it.",
            temperature=0.7,
        ),
        Agent(
            "backwards",
            "First say what form and size the answer must have, and estimate it. Then work backwards from what is "
            "asked to what is given, and compare the result with your estimate.",
            temperature=0.9,
        ),
        Agent(
            "small cases",
            "Try small or special cases first and look for what they have in common. Then solve the problem itself "
            "and see that the solution agrees with the cases.",
            temperature=0.9,
        ),
    ),
}


def find_agents(name: str) -> tuple[Agent, ...]:
    """A known set, or a user's own from a JSON file. Raises UserError naming --agents and what is wrong.

    The file is a list of objects with the keys of `Agent`, e.g. [{"name": "bold", "system": "...", "weight": 2}].
    """
    if name in AGENTS:
        return AGENTS[name]
    try:
        entries = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError:
        known = ", ".join(AGENTS)
        raise UserError(f"--agents {name}: there is no set and no file of that name; choose one of {known}, or give "
                        "a JSON file") from None  # fmt: skip
    except ValueError as error:
        raise UserError(f"--agents {name}: it is not JSON ({error}); write a list of agents") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f'--agents {name}: it must be a list of at least one agent, such as [{{"name": "bold"}}]')
    agents = tuple(_agent(f"--agents {name}, agent {number}", entry) for number, entry in enumerate(entries, start=1))
    names = [agent.name for agent in agents]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise UserError(f"--agents {name}: two agents are named {twice!r}; give each its own name")
    return agents


def _agent(where: str, entry: object) -> Agent:
    known = [field.name for field in fields(Agent)]
    if not isinstance(entry, dict) or "name" not in entry:
        raise UserError(f"{where}: it must be an object with a name, and if wanted {', '.join(known[1:])}")
    if unknown := next((key for key in entry if key not in known), None):
        raise UserError(f"{where}: there is no {unknown!r}; keys are {', '.join(known)}")
    try:
        return Agent(**entry)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def panel(agents: Sequence[Agent], instruction: str, sampling: Sampling) -> Turns:
    """Turns of a panel: attempt i is asked of the agent whose turn it is, with its own seed if there is one.

    instruction: appended to the problem.
    """
    order = rotation([agent.weight for agent in agents])

    def turns(problem: str) -> Callable[[int], Turn]:
        text = with_instruction(problem, instruction)

        def turn(number: int) -> Turn:
            agent = agents[order[number % len(order)]]
            system = [{"role": "system", "content": agent.system}] if agent.system else []
            drawn = replace(
                sampling,
                temperature=sampling.temperature if agent.temperature is None else agent.temperature,
                top_p=sampling.top_p if agent.top_p is None else agent.top_p,
                seed=seed_of(sampling.seed, problem, number),
            )
            return Turn([*system, {"role": "user", "content": text}], drawn, agent.name)

        return turn

    return turns


def rotation(weights: Sequence[int]) -> list[int]:
    """One round of turns: each number as often as its weight says, spread evenly. [2, 1] gives [0, 1, 0]."""
    due = [((turn + 0.5) / weight, number) for number, weight in enumerate(weights) for turn in range(weight)]
    return [number for _, number in sorted(due)]
