"""The import-time patches fit the pinned upstream, and refuse any other by name."""

import ast
import dataclasses
import subprocess
import sys

import pytest

from openrlhf_math.patches import SERIES, Patch, PatchError, patch
from openrlhf_math.patches.hook import changed_lines, diff, source_of
from openrlhf_math.patches.parsers import load_parser, nest

PLACES = [(each, module) for each in SERIES for module in each.places]


@pytest.mark.parametrize(("each", "module"), PLACES, ids=lambda value: getattr(value, "name", value))
def test_patch_finds_its_locations(each: Patch, module: str):
    lines = changed_lines(each, module)
    assert len(lines) == each.places[module]
    source = source_of(module).read_text().splitlines()
    assert all(1 <= line <= len(source) for line in lines)


@pytest.mark.parametrize("each", SERIES, ids=lambda each: each.name)
def test_wrong_number_of_locations_is_refused_by_name(each: Patch):
    module, expected = next(iter(each.places.items()))
    wrong = dataclasses.replace(each, places={module: expected + 1})
    with pytest.raises(
        PatchError, match=f"'{each.name}' must change {expected + 1} places in {module} but found {expected}"
    ):
        wrong.apply(module, ast.parse(source_of(module).read_text()))


@pytest.mark.parametrize("each", SERIES, ids=lambda each: each.name)
def test_unknown_upstream_version_is_refused_by_name(each: Patch, monkeypatch):
    monkeypatch.setattr(patch.metadata, "version", lambda name: "0.12.0")
    with pytest.raises(PatchError, match=f"'{each.name}' is for openrlhf 0.11.2, but 0.12.0 is installed"):
        each.apply(next(iter(each.places)), ast.parse(""))


def test_patch_mismatch_stops_the_import():
    code = """
import openrlhf_math
from openrlhf_math.patches import patch
real = patch.metadata.version
patch.metadata.version = lambda name: "9.9" if name == "openrlhf" else real(name)
import openrlhf.models.actor
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0
    assert "patch 'remote-code' is for openrlhf 0.11.2, but 9.9 is installed" in result.stderr


def test_patched_module_keeps_its_lines_and_shares_no_bytecode_with_the_unpatched_one():
    report = """
import openrlhf.utils.distributed_util as module
function = module.torch_dist_barrier_and_cuda_sync
print(function.__code__.co_firstlineno, "cuda" in function.__code__.co_names)
"""
    for _ in range(2):  # the second round would find what the first left in a cache
        assert run("import openrlhf_math\n" + report) == "1 False"
        assert run(report) == "1 True"


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


def test_registering_too_late_is_an_error():
    code = """
import sys, types
sys.modules["openrlhf.utils.distributed_util"] = types.ModuleType("x")
import openrlhf_math
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "openrlhf.utils.distributed_util was imported before openrlhf_math" in result.stderr


def test_diff_shows_only_the_change():
    (devices,) = [each for each in SERIES if each.name == "devices"]
    text = diff(devices, "openrlhf.utils.distributed_util")
    changed = [line for line in text.splitlines() if line.startswith(("+ ", "- ", "+f", "-f"))]
    assert changed == [
        "+from deepspeed.accelerator import get_accelerator as _openrlhf_math_accelerator",
        "-    torch.cuda.synchronize()",
        "+    _openrlhf_math_accelerator().synchronize()",
    ]


@pytest.mark.parametrize("module", ["openrlhf.cli.train_ppo_ray", "openrlhf.cli.train_sft"])
def test_upstream_parser_is_callable_without_torch(module: str):
    code = f"""
import sys
from openrlhf_math.patches.parsers import load_parser
build, resolve = load_parser({module!r})
build().parse_args([])
assert not {{"torch", "ray", "vllm", "deepspeed"}} & set(sys.modules), "heavy import"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_upstream_checks_run_on_nested_arguments():
    build, resolve = load_parser("openrlhf.cli.train_ppo_ray")
    flat = build().parse_args(["--algo.advantage.estimator", "rloo", "--reward.remote_url", "http://rm"])
    with pytest.raises(AssertionError, match="n_samples_per_prompt > 1"):
        resolve(nest(flat))
    flat.__dict__["rollout.n_samples_per_prompt"] = 4
    flat.__dict__["vllm.num_engines"] = 1
    args = resolve(nest(flat))
    assert args.reward.remote_url == ["http://rm"] and args.actor.adam.lr == 1e-6
