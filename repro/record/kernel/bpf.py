"""The filter: which system calls are told to the watcher, as a classic BPF program.

What it lets through costs nothing: since Linux 5.11 the kernel remembers the calls that a filter always allows. Opens
of folders, and descriptors that only name a file (`O_PATH`), read no content and are let through by their flags.

Numbers: `arch/x86/entry/syscalls/syscall_{64,32}.tbl`, `include/uapi/asm-generic/unistd.h`,
`arch/arm/tools/syscall.tbl`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K
_IF_EQUAL, _IF_SET = 0x15, 0x45  # BPF_JMP|JEQ|K, BPF_JMP|JSET|K
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data, little-endian
X32_BIT: Final = 0x40000000
_O_PATH = 0o10000000
AT_REMOVEDIR: Final = 0x200


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One way to call the kernel: an architecture's own, or its 32-bit one."""

    audit: int
    """`AUDIT_ARCH_*`, as the kernel tells it."""
    pointer_bytes: int
    directory_flag: int
    """Its `O_DIRECTORY`."""
    calls: dict[str, int]


_X86_64 = Interface(
    audit=0xC000003E,
    pointer_bytes=8,
    directory_flag=0o200000,
    calls={
        "open": 2,
        "execve": 59,
        "truncate": 76,
        "rename": 82,
        "creat": 85,
        "link": 86,
        "unlink": 87,
        "openat": 257,
        "unlinkat": 263,
        "renameat": 264,
        "linkat": 265,
        "open_by_handle_at": 304,
        "renameat2": 316,
        "execveat": 322,
        "io_uring_setup": 425,
        "io_uring_enter": 426,
        "pivot_root": 155,
        "chroot": 161,
        "unshare": 272,
        "setns": 308,
        "openat2": 437,
        "execve x32": 520,
        "execveat x32": 545,
    },
)
_THIRTY_TWO = {
    "open": 5,
    "creat": 8,
    "link": 9,
    "unlink": 10,
    "execve": 11,
    "rename": 38,
    "chroot": 61,
    "truncate": 92,
    "truncate64": 193,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "openat2": 437,
}
_I386 = Interface(
    audit=0x40000003,
    pointer_bytes=4,
    directory_flag=0o200000,
    calls=_THIRTY_TWO
    | {
        "openat": 295,
        "unlinkat": 301,
        "renameat": 302,
        "linkat": 303,
        "open_by_handle_at": 342,
        "renameat2": 353,
        "execveat": 358,
        "pivot_root": 217,
        "unshare": 310,
        "setns": 346,
    },
)
_AARCH64 = Interface(
    audit=0xC00000B7,
    pointer_bytes=8,
    directory_flag=0o40000,
    calls={
        "unlinkat": 35,
        "linkat": 37,
        "renameat": 38,
        "pivot_root": 41,
        "chroot": 51,
        "unshare": 97,
        "setns": 268,
        "truncate": 45,
        "openat": 56,
        "execve": 221,
        "open_by_handle_at": 265,
        "renameat2": 276,
        "execveat": 281,
        "io_uring_setup": 425,
        "io_uring_enter": 426,
        "openat2": 437,
    },
)
_ARM = Interface(
    audit=0x40000028,
    pointer_bytes=4,
    directory_flag=0o40000,
    calls=_THIRTY_TWO
    | {
        "openat": 322,
        "unlinkat": 328,
        "renameat": 329,
        "linkat": 330,
        "open_by_handle_at": 371,
        "renameat2": 382,
        "execveat": 387,
        "pivot_root": 218,
        "unshare": 337,
        "setns": 375,
    },
)
MACHINES: Final[dict[str, tuple[Interface, ...]]] = {"x86_64": (_X86_64, _I386), "aarch64": (_AARCH64, _ARM)}
"""By `os.uname().machine`: the interfaces that its programs may use, its own first."""

SECCOMP_NUMBER: Final = {"x86_64": 317, "aarch64": 277}
"""Of seccomp(2) itself."""


def program(interfaces: tuple[Interface, ...]) -> bytes:
    """Return the filter for programs that use any of these interfaces, as an array of `struct sock_filter`."""
    code = [(_LOAD, 0, 0, _ARCHITECTURE_AT)]
    for interface in interfaces:
        section = _section(interface)
        code += [(_IF_EQUAL, 0, len(section), interface.audit), *section]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _section(interface: Interface) -> list[tuple[int, int, int, int]]:
    code = [(_LOAD, 0, 0, _NUMBER_AT)]
    if interface is _X86_64:
        code.append((_AND, 0, 0, 0xFFFFFFFF ^ X32_BIT))
    for name, number in interface.calls.items():
        answer = _answer(name, interface)
        code += [(_IF_EQUAL, 0, len(answer), number), *answer]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def _answer(name: str, interface: Interface) -> list[tuple[int, int, int, int]]:
    tell, let_through = (_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)
    if name == "io_uring_enter":  # without a request to submit, it only waits
        return [(_LOAD, 0, 0, _ARGUMENTS_AT + 8), (_IF_EQUAL, 0, 1, 0), let_through, tell]
    quiet = {
        "open": (1, interface.directory_flag | _O_PATH),
        "openat": (2, interface.directory_flag | _O_PATH),
        "unlinkat": (2, AT_REMOVEDIR),
    }
    if name not in quiet:
        return [tell]
    argument, flags = quiet[name]
    return [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument), (_IF_SET, 0, 1, flags), let_through, tell]
