"""A process that has computed with PyTorch starts an engine, whose core is a fork of it."""

import subprocess
import sys

import pytest

FORK = """
import os, sys, torch
from openrlhf_math.colocation.engine_life import end_openmp_threads

def compute():
    return float(torch.ones(4_000_000).mul(2).sum())

torch.set_num_threads(2)
compute()
end_openmp_threads()
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    os._exit(0 if compute() == 8_000_000 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or compute() != 8_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the libraries are found in /proc")
def test_fork_of_a_process_that_has_computed_can_compute():
    result = subprocess.run([sys.executable, "-c", FORK], timeout=120)
    assert result.returncode == 0
