"""Hash a file, or all files below a folder, with `repro`'s own hashing: hash_files.py sha256|blake3 TARGET."""

import os
import sys
import time
from pathlib import Path

from repro.evidence.hashing import digest_file
from repro.evidence.manyfiles import digest_files

algorithm, target = sys.argv[1], Path(sys.argv[2])
started = time.perf_counter()
if target.is_dir():
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(target) for name in names]
    outcomes = [outcome for _, outcome in digest_files(sorted(paths), algorithm)]
    failed = [outcome for outcome in outcomes if not outcome.digest]
    if failed or len(outcomes) != len(paths):
        sys.exit(f"{len(failed)} of {len(paths)} files were not hashed: {failed[:1]}")
else:
    print(digest_file(target, algorithm))
print(f"seconds: {time.perf_counter() - started}")
