"""Separate user, mount, process, network, IPC, host name and cgroup namespaces, without a helper program.

The new root is empty but for what `tree` names, read-only, and a small file system in memory at /tmp. What is not
named cannot be reached: home directories, /run, /var, sockets and tokens.
"""

import os
from collections.abc import Callable

import libc

NOBODY = 65534
ALL = (
    libc.CLONE_NEWUSER | libc.CLONE_NEWNS | libc.CLONE_NEWPID | libc.CLONE_NEWNET | libc.CLONE_NEWIPC
    | libc.CLONE_NEWUTS | libc.CLONE_NEWCGROUP
)  # fmt: skip
# The working directory of programs, a folder in /tmp: this Python may itself be installed below /tmp.
HOME = "/tmp/at-work"
DEVICES = ("null", "zero", "full", "random", "urandom")


def start(config: dict, inside: Callable[[], None]) -> int:
    """The number of a process that runs `inside` as process 1 of the new namespaces. Raises OSError."""
    root = os.getuid() == 0
    map_users = _prepare_maps(root)
    libc.unshare(ALL)
    map_users()
    with open("/proc/sys/user/max_user_namespaces", "w") as file:  # of this namespace: none can be made in it
        file.write("0")
    child = os.fork()
    if child:
        return child
    _new_root(config["tree"], config["disk_bytes"])
    if root:  # what belongs to root outside must not be its own, and root has no limit of processes
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.drop_capabilities()
    inside()
    os._exit(0)


def _prepare_maps(root: bool) -> Callable[[], None]:
    """A function to be called in the new user namespace. A process that stays outside then maps its users.

    Root maps itself, for the mounts, and nobody. Others can map but themselves.
    """
    uid, gid, outside = os.getuid(), os.getgid(), os.getpid()
    go, go_writer = os.pipe()
    helper = os.fork()
    if helper == 0:
        try:
            os.close(go_writer)
            os.read(go, 1)
            if not root:
                _write(f"/proc/{outside}/setgroups", "deny")
            nobody = f"\n{NOBODY} {NOBODY} 1" if root else ""
            _write(f"/proc/{outside}/gid_map", f"{gid} {gid} 1{nobody}")
            _write(f"/proc/{outside}/uid_map", f"{uid} {uid} 1{nobody}")
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    os.close(go)

    def map_users() -> None:
        os.write(go_writer, b"1")
        os.close(go_writer)
        code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
        if code:
            raise OSError(code, f"uid_map: {os.strerror(code)}")

    return map_users


def _new_root(tree: list, disk_bytes: int) -> None:
    """Raises OSError."""
    libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("tmpfs", "/tmp", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "size=1m,mode=755")
    os.chdir("/tmp")
    os.mkdir("old")
    libc.pivot_root(".", "old")
    os.chdir("/")
    os.mkdir("tmp")
    size = f"size={disk_bytes},nr_inodes=4096,mode=1777"
    libc.mount("tmpfs", "/tmp", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, size)
    for path, link in tree:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if link:
            os.symlink(link, path)
            continue
        if os.path.isdir("/old" + path):
            os.makedirs(path, exist_ok=True)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        libc.bind_read_only("/old" + path, path)
    os.makedirs(HOME)
    os.chmod(HOME, 0o777)
    os.makedirs("/dev", exist_ok=True)
    for name in DEVICES:
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY))
        libc.mount(f"/old/dev/{name}", f"/dev/{name}", "", libc.MS_BIND)
    os.symlink("/proc/self/fd", "/dev/fd")
    os.symlink("/tmp", "/dev/shm")
    os.mkdir("/proc")
    try:
        flags = libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
        libc.mount("proc", "/proc", "proc", flags)
    except OSError:  # in a container that hides parts of it: Python works without
        pass
    libc.unmount("/old")
    os.rmdir("/old")
    libc.read_only("/")
    os.chdir(HOME)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
