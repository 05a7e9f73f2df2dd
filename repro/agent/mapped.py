"""Which libraries and programs this process has mapped as code."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List


def paths() -> List[str]:
    """Return the files behind the executable mappings of this process, as `encode_path` writes them, sorted.

    The format is that of proc_pid_maps(5). A file that was replaced since is told with the name that it had.
    """
    from .process import encode_path

    found = set()
    with open("/proc/self/maps", "rb", buffering=1 << 20) as lines:
        for line in lines:
            # Address, permissions, offset, device, inode, then the path: only that may hold spaces.
            fields = line.rstrip(b"\n").split(None, 5)
            if len(fields) == 6 and b"x" in fields[1] and fields[4] != b"0" and fields[5][:1] == b"/":
                found.add(fields[5])
    return sorted(encode_path(path.replace(b"\\012", b"\n")) for path in found)
