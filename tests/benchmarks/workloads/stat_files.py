"""Look at every file below a folder without reading it: stat_files.py TARGET."""

import os
import sys
import time

started = time.perf_counter()
count = 0
for parent, _, names in os.walk(os.fsencode(sys.argv[1])):
    for name in names:
        os.stat(os.path.join(parent, name))
        count += 1
print(f"seconds: {time.perf_counter() - started}")
print(f"files: {count}")
