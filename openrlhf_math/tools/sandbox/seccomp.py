"""System calls denied to a kernel, with EPERM: sockets but Unix ones, namespaces, mounts, tracing, hidden memory.

A filter of classic BPF, see seccomp(2). Namespaces already take away what these calls could reach; what is left here
has no namespace (vsock, keys), or holds memory that no limit counts (memfd, System V), or is a large target.
"""

import ctypes
import os
import struct

import libc

# By architecture: AUDIT_ARCH, then the numbers.
X86_64, AARCH64 = 0, 1
ARCHITECTURES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}
REFUSED = {
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "move_mount": (429, 429), "fsopen": (430, 430), "open_tree": (428, 428), "mount_setattr": (442, 442),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
}  # fmt: skip
SOCKET, CLONE, CLONE3 = (41, 198), (56, 220), 435
AF_UNIX = 1
NAMESPACES = 0x7E020080  # every CLONE_NEW* flag

LOAD, EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # offsets in seccomp_data; of the first argument the low half
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
X32 = 0x40000000  # a second set of numbers on x86_64


def program(machine: str) -> list[tuple[int, int, int, int]]:
    """Instructions (code, jump if true, jump if false, value). Raises KeyError for an unknown machine."""
    architecture, column = ARCHITECTURES[machine]
    lines = [
        (LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL),
        (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | ENOSYS),  # its flags cannot be read here; then clone is used
    ]  # fmt: skip
    for numbers in REFUSED.values():
        lines += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERRNO | EPERM)]
    lines += [
        (EQUAL, 0, 4, SOCKET[column]), (LOAD, 0, 0, ARGUMENT), (EQUAL, 1, 0, AF_UNIX), (RETURN, 0, 0, ERRNO | EPERM),
        (RETURN, 0, 0, ALLOW),
        (EQUAL, 0, 3, CLONE[column]), (LOAD, 0, 0, ARGUMENT), (ANY_BIT, 0, 1, NAMESPACES),
        (RETURN, 0, 0, ERRNO | EPERM),
        (RETURN, 0, 0, ALLOW),
    ]  # fmt: skip
    return lines


def install() -> None:
    """For this process and all it starts. Raises OSError where it is unavailable."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise OSError(ENOSYS, f"seccomp: no filter for {machine}")
    code = b"".join(struct.pack("HBBI", *line) for line in program(machine))
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    given = Program(len(code) // 8, ctypes.addressof(buffer))
    libc.prctl(libc.PR_SET_SECCOMP, 2, ctypes.byref(given))
