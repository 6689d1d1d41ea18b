"""A panel of agents: turns and prompts of each; custom sets, and invalid ones."""

import json
from collections import Counter

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.rerank.agents import AGENTS, Agent, find_agents, panel, rotation
from openrlhf_math.rerank.roles import Sampling
from openrlhf_math.rerank.solver import one_solver


@pytest.mark.parametrize(
    "weights, order",
    [([1], [0]), ([1, 1, 1], [0, 1, 2]), ([2, 1], [0, 1, 0]), ([1, 3], [1, 0, 1, 1]), ([4, 2], [0, 1, 0, 0, 1, 0])],
)
def test_turns_are_spread_by_weight(weights, order):
    assert Counter(rotation(weights)) == Counter(dict(enumerate(weights)))
    assert rotation(weights) == order


def test_each_agent_has_its_prompt_and_sampling():
    agents = [Agent("bold", "Guess.", temperature=1.2, weight=2), Agent("plain", top_p=0.5)]
    turn = panel(agents, "Box it.", Sampling(temperature=0.7, top_p=0.9, seed=5))("1+1?")
    turns = [turn(number) for number in range(4)]
    assert [one.by for one in turns] == ["bold", "plain", "bold", "bold"]
    assert len({one.sampling.seed for one in turns}) == 4
    assert [(one.sampling.temperature, one.sampling.top_p) for one in turns[:2]] == [(1.2, 0.9), (0.7, 0.5)]
    user = {"role": "user", "content": "1+1?\nBox it."}
    assert turns[0].messages == [{"role": "system", "content": "Guess."}, user]
    assert turns[1].messages == [user]


def test_set_of_one_asks_as_a_single_solver_does():
    sampling = Sampling(seed=1)
    alone, one = one_solver("Box it.", sampling)("1+1?")(3), panel(AGENTS["one"], "Box it.", sampling)("1+1?")(3)
    assert (alone.messages, alone.sampling) == (one.messages, one.sampling)


def test_built_in_agent_sets():
    for name, agents in AGENTS.items():
        assert find_agents(name) is agents
        assert len({agent.name for agent in agents}) == len(agents)


def test_custom_agent_set(tmp_path):
    file = tmp_path / "agents.json"
    file.write_text(json.dumps([{"name": "a", "system": "Be brief.", "weight": 3}, {"name": "b", "temperature": 0}]))
    assert find_agents(str(file)) == (Agent("a", "Be brief.", weight=3), Agent("b", temperature=0))


@pytest.mark.parametrize(
    "content, result",
    [
        (None, "no set and no file"),
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
        ("[]", "at least one agent"),
        ('{"name": "a"}', "at least one agent"),
        ('["a"]', "agent 1: it must be an object with a name"),
        ('[{"name": "a"}, {"system": "b"}]', "agent 2: it must be an object with a name"),
        ('[{"name": "a", "prompt": "b"}]', "agent 1: there is no 'prompt'"),
        ('[{"name": ""}]', "agent 1: name is ''"),
        ('[{"name": "a", "system": 1}]', "agent 1: system is 1"),
        ('[{"name": "a", "temperature": -1}]', "agent 1: temperature is -1"),
        ('[{"name": "a", "temperature": NaN}]', "agent 1: temperature is nan"),
        ('[{"name": "a", "temperature": "0.5"}]', "agent 1: temperature is '0.5'"),
        ('[{"name": "a", "top_p": 0}]', "agent 1: top_p is 0"),
        ('[{"name": "a", "weight": 0}]', "agent 1: weight is 0"),
        ('[{"name": "a", "weight": 1.5}]', "agent 1: weight is 1.5"),
        ('[{"name": "a"}, {"name": "a"}]', "two agents are named 'a'"),
    ],
)
def test_invalid_agent_set_is_refused(content, result, tmp_path):
    file = tmp_path / "agents.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        find_agents(str(file))
    assert str(error.value).startswith(f"--agents {file}") and result in str(error.value)
