"""System calls that Python has no function for."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 36, 38
CAPABILITY_VERSION = 0x20080522
SYS_MOUNT_SETATTR = 442  # the same on every architecture
AT_FDCWD, AT_RECURSIVE = -100, 0x8000


def call(function: str, *arguments: object, about: str = "") -> int:
    """A function of the C library. Raises OSError with its name and what it was about."""
    result = getattr(_LIBC, function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function} {about}: {os.strerror(number)}".replace(" :", ":"))
    return result


def unshare(flags: int) -> None:
    call("unshare", ctypes.c_int(flags))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    names = [text.encode() if text else None for text in (source, target, kind, data)]
    call("mount", *names[:3], ctypes.c_ulong(flags), names[3], about=target)


def bind_read_only(source: str, target: str) -> None:
    """With everything that is mounted below it."""
    mount(source, target, "", MS_BIND | MS_REC)
    read_only(target, AT_RECURSIVE)


def read_only(target: str, flags: int = 0) -> None:
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    arguments = ctypes.c_int(AT_FDCWD), target.encode(), ctypes.c_uint(flags), attributes, size
    call("syscall", ctypes.c_long(SYS_MOUNT_SETATTR), *arguments, about="mount_setattr")


def pivot_root(new: str, old: str) -> None:
    call("pivot_root", new.encode(), old.encode())


def unmount(target: str) -> None:
    call("umount2", target.encode(), ctypes.c_int(MNT_DETACH), about=target)


def prctl(option: int, value: int = 0, pointer: object = None) -> None:
    zero = ctypes.c_ulong(0)
    call("prctl", ctypes.c_int(option), ctypes.c_ulong(value), pointer or zero, zero, zero, about=str(option))


def drop_capabilities() -> None:
    """All of them, for good: also those that a program could give."""
    number = 0
    try:
        while True:
            prctl(PR_CAPBSET_DROP, number)
            number += 1
    except OSError:  # there is none of this number, or we have not the right to drop it: then we have none
        pass
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
