"""Start a kernel's interpreter, isolated, and end it with its client.

Standard input: the requests, which the interpreter reads. Standard output: what the program prints. A client that
closes the other end of the input, or dies, ends everything that was started here.

argv[1] is JSON:
    isolation  "namespaces", "bubblewrap" or "none"
    reply      descriptor the interpreter answers on; what fails before it runs is said there, too
    python     the interpreter and its flags
    tree       of the new root: [path, null] is shown as it is, read-only, [path, text] becomes a symbolic link
    memory_bytes, disk_bytes, file_bytes, processes, open_files
"""

import json
import os
import select
import shutil
import signal
import sys
import tempfile

import libc
import namespaces
import watch

SESSION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "session.py")
ENVIRONMENT = {
    "HOME": namespaces.HOME,
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def main() -> int:
    config = json.loads(sys.argv[1])
    try:
        return STARTS[config["isolation"]](config)
    except OSError as error:
        os.write(config["reply"], json.dumps({"failed": str(error)}).encode() + b"\n")
        return 1


def in_namespaces(config: dict) -> int:
    return end_with_input(namespaces.start(config, lambda: watch.over(config, run)))


def in_bubblewrap(config: dict) -> int:
    """bubblewrap makes the namespaces, and this program runs once more in them, as their process 1."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--as-pid-1", "--new-session", "--cap-drop", "ALL"]
    command += ["--size", str(config["disk_bytes"]), "--tmpfs", "/tmp"]
    for path, link in config["tree"]:
        command += ["--symlink", link, path] if link else ["--ro-bind", path, path]
    for name in namespaces.DEVICES:
        command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    command += ["--symlink", "/proc/self/fd", "/dev/fd", "--symlink", "/tmp", "/dev/shm", "--proc", "/proc"]
    command += ["--dir", namespaces.HOME, "--remount-ro", "/", "--chdir", namespaces.HOME]
    again = json.dumps(config | {"isolation": "inside"})
    child = os.fork()
    if child == 0:
        inside = [config["python"][0], "-I", "-S", "-B", os.path.dirname(SESSION), again]
        os.execvpe("bwrap", [*command, "--", *inside], ENVIRONMENT)
    return end_with_input(child)


def inside_bubblewrap(config: dict) -> int:
    watch.over(config, run)
    return 0  # it never returns


def not_isolated(config: dict) -> int:
    """Limits of time and memory, and a directory that is removed. What the program starts is adopted and ended."""
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    folder = tempfile.mkdtemp(prefix="openrlhf-math-tool-")
    try:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.chdir(folder)
            run(config | {"home": folder})
        code = end_with_input(child)
        while children := _children():
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


STARTS = {
    "namespaces": in_namespaces,
    "bubblewrap": in_bubblewrap,
    "inside": inside_bubblewrap,
    "none": not_isolated,
}


def end_with_input(child: int) -> int:
    """Wait for a child, which is killed when the input has no writer any more. Returns its exit status."""
    closed = select.poll()
    closed.register(0, 0)  # a hang-up is always reported
    ended = os.pidfd_open(child)
    closed.register(ended, select.POLLIN)
    if ended not in dict(closed.poll()):
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else watch.SIGNAL - code


def run(config: dict) -> None:
    """Become the interpreter, within its limits."""
    limits = {
        "AS": config["memory_bytes"],
        "FSIZE": config["file_bytes"],
        "NOFILE": config["open_files"],
        "CORE": 0,
        "MEMLOCK": 0,
    }
    isolated = config["isolation"] != "none"
    if isolated:  # elsewhere they are counted with all of the user's
        limits["NPROC"] = config["processes"]
    watch.limit(limits)
    environment = ENVIRONMENT | {"HOME": config.get("home", namespaces.HOME)}
    arguments = [*config["python"], SESSION, str(config["reply"]), str(int(isolated))]
    os.dup2(1, 2)
    os.set_inheritable(config["reply"], True)
    os.execve(arguments[0], arguments, environment)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


if __name__ == "__main__":
    code = main()
    sys.stdout = None  # nothing of ours is left in a buffer
    os._exit(code)
