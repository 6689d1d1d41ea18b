"""Why an engine did not start, or died, is read from the file to which its process wrote it."""

import subprocess
import sys

import pytest

LINES = """\
(EngineCore pid=7) Traceback (most recent call last):
(EngineCore pid=7)   File "core.py", line 1, in <module>
(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB
(EngineCore pid=7)
(EngineCore pid=7) The above exception was the direct cause of the following exception:
(EngineCore pid=7) ValueError: no room for one block
Traceback (most recent call last):
RuntimeError: something else
"""

SCRIPT = """
import sys
from openrlhf_math.colocation.engine_life import engine_start
try:
    with engine_start("cuda"):
        sys.stderr.write(sys.argv[1])
        sys.stderr.flush()
        raise RuntimeError("Engine core initialization failed. See root cause above.")
except RuntimeError as error:
    print(error, end="")
"""


def said(lines: str, tmp_path, stderr_is_file: bool) -> str:
    with (tmp_path / "stderr").open("w") as file:
        stderr = file if stderr_is_file else subprocess.PIPE
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, lines], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True
        ).stdout


def test_engine_process_error_is_reported(tmp_path):
    assert said(LINES, tmp_path, True) == "the vLLM engine did not start: ValueError: no room for one block"


@pytest.mark.parametrize("lines, is_file", [("nothing of an engine: ValueError: no\n", True), (LINES, False)])
def test_vllm_error_is_kept_without_a_better_cause(lines, is_file, tmp_path):
    assert said(lines, tmp_path, is_file) == "Engine core initialization failed. See root cause above."


LOGGED = """\
INFO 11-28 15:00:19 [loggers.py:12] (EngineCore pid=7) ValueError: not a line of the engine
(EngineCore pid=7) ERROR 11-28 15:00:19 [core.py:1376] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-28 15:00:19 [core.py:1376]     raise RuntimeError: not at the beginning
(EngineCore pid=7) ERROR 11-28 15:00:19 [core.py:1376] RuntimeError: Unexpected head dim size, 32
ERROR 11-28 15:00:19 [async_llm.py:819] vllm.v1.engine.exceptions.EngineDeadError: See stack trace (above)
"""
READ = """
import sys
from openrlhf_math.colocation.engine_life import engine_error
print(sys.argv[1], flush=True)
sys.stderr.write(engine_error())
"""


@pytest.mark.parametrize("lines, cause", [(LOGGED, "RuntimeError: Unexpected head dim size, 32"), ("nothing\n", "")])
def test_death_that_vllm_logged_has_its_cause(lines, cause, tmp_path):
    with (tmp_path / "stdout").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", READ, lines], stdout=file, stderr=subprocess.PIPE, text=True, check=True
        )
    assert done.stderr == cause
