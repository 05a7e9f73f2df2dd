"""Read every file below a folder, in a plain loop: read_files.py TARGET."""

import os
import sys
import time

paths = sorted(os.path.join(parent, name) for parent, _, names in os.walk(sys.argv[1]) for name in names)
started = time.perf_counter()
size_bytes = 0
for path in paths:
    with open(path, "rb") as file:
        size_bytes += len(file.read())
print(f"seconds: {time.perf_counter() - started}")
print(f"bytes: {size_bytes}")
