"""The interpreter of one attempt: it runs piece after piece of code in the same variables, as a notebook does.

    session.py REPLY ISOLATED

A request is a line of JSON on standard input: {"id": text, "code": text, "cpu": seconds}. What the code prints goes to
standard output. The answer is a line of JSON on the descriptor REPLY: {"id": the same, "ok": whether it raised
nothing}. The code can do what it likes to this process, and forge answers, too: the client believes no more of them
than that the program named its own end, and a new request has a new id.
"""

import ast
import fcntl
import linecache
import math
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from json import dumps, loads
from types import ModuleType

HIGH = 64  # descriptors of ours are above
OWN_PID = os.getpid()
_exit, _write, _kill, _dup2 = os._exit, os.write, os.kill, os.dup2


def main() -> None:
    reply, isolated = int(sys.argv[1]), sys.argv[2] == "1"
    requests, reply, output = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, HIGH) for number in (0, reply, 1))
    os.close(int(sys.argv[1]))
    nothing = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.closerange(3, HIGH)
    _dup2(nothing, 0)
    sys.argv[:] = [""]
    if hasattr(sys, "set_int_max_str_digits"):  # 2**100000 is written out; time and output have their limits
        sys.set_int_max_str_digits(0)
    module = sys.modules["__main__"] = ModuleType("__main__")
    _answer(reply, {"ready": True})
    number = 0
    with open(requests, "rb") as lines:
        for line in iter(lines.readline, b""):
            request, number = loads(line), number + 1
            _limit_cpu(request["cpu"])
            ok = _run(request["code"], number, vars(module), output)
            if os.getpid() != OWN_PID:  # the code forked, and this is the child
                _exit(0)
            _limit_cpu(None)
            signal.alarm(0)
            if isolated:
                _end_others()
            for usual, kept in ((0, nothing), (1, output), (2, output)):
                _dup2(kept, usual)
            _answer(reply, {"id": request["id"], "ok": ok})
    _exit(0)


def _run(code: str, number: int, variables: dict, output: int) -> bool:
    """Whether it raised nothing. The value of an expression on the last line is printed, unless it is None."""
    name = f"<cell {number}>"
    linecache.cache[name] = len(code), None, code.splitlines(keepends=True), name
    try:
        tree = ast.parse(code, name)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, name, "exec"), variables)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), variables)
            if value is not None:
                _flush()
                _write_all(output, f"{value!r}\n")
        _flush()
        return True
    except BaseException as error:
        if os.getpid() != OWN_PID:
            _exit(0)
        _flush()
        _write_all(output, _traceback(error, name))
        return False


def _traceback(error: BaseException, name: str) -> str:
    """The traceback, from the first line of the code's own."""
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != name:
            trace = trace.tb_next
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # its own __str__, for instance
        return f"{type(error).__name__}\n"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # it is the code's to replace or close
            stream.flush()


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[_write(descriptor, data) :]


def _answer(descriptor: int, words: dict) -> None:
    _write_all(descriptor, f"\n{dumps(words)}\n")  # on a new line, whatever the code wrote there


def _limit_cpu(seconds: float | None) -> None:
    """From now on. The process is killed beyond, by a signal it may ignore: then the wall clock ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = hard if seconds is None else math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def _end_others() -> None:
    """What a call started in the background ends with it. In these namespaces all but process 1 are the code's."""
    with suppress(OSError):  # there are none
        _kill(-1, signal.SIGKILL)


main()
