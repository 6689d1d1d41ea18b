"""What libraries print and log goes to a run's log, also through handlers made with the terminal before."""

import subprocess
import sys

from openrlhf_math.runs.progress import printed_to

PROGRAM = """
import logging, sys
from pathlib import Path
from openrlhf_math.runs.progress import printed_to

def handler(stream):
    found = logging.StreamHandler(stream)
    found.setFormatter(logging.Formatter(stream.name + " %(message)s"))
    return found

library, root = logging.getLogger("library.part"), logging.getLogger()
library.propagate = False
library.addHandler(handler(sys.stdout))
root.addHandler(handler(sys.stderr))
with printed_to(Path(sys.argv[1])):
    print("printed")
    print("complained", file=sys.stderr)
    library.warning("in the log")
    root.warning("in the log")
    print("shown", file=sys.__stdout__)
library.warning("later")
root.warning("later")
"""


def test_terminal_handlers_write_to_the_open_log(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("before\n")
    done = subprocess.run([sys.executable, "-c", PROGRAM, log], capture_output=True, text=True, check=True)
    assert log.read_text().splitlines() == [
        "before", "printed", "complained", "<stdout> in the log", "<stderr> in the log",
    ]  # fmt: skip
    assert done.stdout == "shown\n<stdout> later\n"
    assert done.stderr == "<stderr> later\n"


def test_unwritable_log_keeps_terminal_output(tmp_path, capsys):
    try:
        with printed_to(tmp_path / "none" / "run.log"):
            raise AssertionError
    except FileNotFoundError:
        print("shown")
    assert capsys.readouterr().out == "shown\n"
