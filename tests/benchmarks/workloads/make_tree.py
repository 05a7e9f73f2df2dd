"""Make a git repository of many files, as a large monorepo has them: the same bytes for the same arguments.

python make_tree.py FOLDER [FILES] [BYTES_PER_FILE]      by default 50,000 files of 40,000 bytes: 2 GB
"""

import random
import subprocess
import sys
from pathlib import Path

FILES_PER_FOLDER = 100


def make(folder: Path, files: int, bytes_per_file: int) -> None:
    """Write the files and commit them; one is left modified, one untracked."""
    generator = random.Random(7)
    folder.mkdir(parents=True)
    for number in range(files):
        path = folder / f"package_{number // FILES_PER_FOLDER:04}" / f"module_{number % FILES_PER_FOLDER:03}.py"
        if number % FILES_PER_FOLDER == 0:
            path.parent.mkdir()
        path.write_bytes(generator.randbytes(bytes_per_file))
    git = ["git", "-C", str(folder), "-c", "core.compression=0", "-c", "gc.auto=0"]
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, *identity, "commit", "-qm", "Start"], check=True)
    (folder / "package_0000" / "module_000.py").write_bytes(b"print('changed')\n")
    (folder / "untracked.py").write_bytes(b"print('new')\n")


if __name__ == "__main__":
    make(
        Path(sys.argv[1]),
        int(sys.argv[2]) if len(sys.argv) > 2 else 50_000,
        int(sys.argv[3]) if len(sys.argv) > 3 else 40_000,
    )
