"""Completion in the shells themselves, typed at a terminal: commands, flags, choices and file names."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

from openrlhf_math.cli import main

# How a shell is started without anybody's settings, and its input before the first line.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='> '; source ./script"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='> '; fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -d ./dump",
    ),
    "tcsh": (["tcsh", "-f"], "set prompt='> '; set autolist; source ./script"),
}
# What is typed before Tab, and what is then on the screen that was not typed.
TYPED = [
    ("tiny-", ["tiny-teacher", "tiny-world"]),
    ("grpo --math.device ", ["auto", "cpu", "cuda"]),
    ("grpo --model pro", ["blems.jsonl"]),
    ("grpo --math.run_dir pro", ["blems.jsonl"]),
    ("grade pro", ["blems.jsonl"]),
    ("prm tr", ["ain"]),
]
SECONDS = 20


class Terminal:
    """A shell with a separate terminal."""

    def __init__(self, command: list[str], folder) -> None:
        self.pid, self.end = pty.fork()
        if not self.pid:
            os.chdir(folder)
            variables = {"TERM": "xterm", "COLUMNS": "200", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
            os.execvpe(command[0], command, {"PATH": os.environ["PATH"]} | variables)

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def shows(self, words: list[str]) -> str:
        """What comes until all the words have come, or for the most seconds."""
        shown, until = "", time.monotonic() + SECONDS
        while time.monotonic() < until and not all(word in shown for word in words):
            if select.select([self.end], [], [], 0.2)[0]:
                shown += os.read(self.end, 65536).decode(errors="replace")
        return shown

    def close(self) -> None:
        os.close(self.end)  # the shell is hung up on
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory with a file to be completed, and each shell's script."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "problems.jsonl").touch()
    (folder / "other.txt").touch()
    return folder


@pytest.fixture(scope="module", params=SHELLS)
def terminal(request, written):
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = [sys.executable, "-m", "openrlhf_math", "completion", shell]
    script = subprocess.run(command, capture_output=True, check=True).stdout
    (written / "functions").mkdir(exist_ok=True)
    (written / ("functions/_openrlhf-math" if shell == "zsh" else "script")).write_bytes(script)
    command, first = SHELLS[shell]
    terminal = Terminal(command, written)
    terminal.type(f"{first}; echo rea''dy\n")
    assert "ready" in terminal.shows(["ready"])
    yield terminal
    terminal.close()


@pytest.mark.parametrize(("typed", "shown"), TYPED, ids=[typed for typed, _ in TYPED])
def test_tab_completion(terminal, typed, shown):
    terminal.type(f"openrlhf-math {typed}\t")
    if len(shown) > 1:
        terminal.type("\t")  # some list only when it is pressed again
    screen = terminal.shows(shown)
    assert all(word in screen for word in shown), screen
    terminal.type("\x15echo don''e\n")  # the line is taken back
    assert "done" in terminal.shows(["done"])


def test_flags_are_completed_only_for_their_command(written, capsys):
    assert main(["completion", "bash"]) == 0
    (written / "bash").write_text(capsys.readouterr().out)
    ask = """source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMPREPLY=()
_shtab_openrlhf_math
echo "${COMPREPLY[*]}"
"""
    for words, offered in (
        (["grade", "--answ"], {"--answer-key"}),
        (["grpo", "--actor.model"], {"--actor.model_name_or_path"}),
        (["prm", "train", "--prob"], {"--problems"}),
        (["vote", "--math"], set()),
    ):
        command = ["bash", "-c", ask, "bash", written / "bash", "openrlhf-math", *words]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=written)
        assert set(shown.stdout.split()) == offered
