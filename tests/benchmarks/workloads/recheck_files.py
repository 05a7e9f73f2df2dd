"""Learn the digests of files that have not changed: recheck_files.py TARGET CACHE.

The first call fills the cache, and must come a while after the files were written. `seconds:` is what a later call
needs to list the files, look at each, and find its digest; reading the cache is part of it.
"""

import sys
import time
from pathlib import Path

from repro.evidence.manyfiles import digest_files
from repro.record.files.listing import declared
from repro.record.statcache import StatCache

target, folder = sys.argv[1], Path(sys.argv[2])
started = time.perf_counter()
cache = StatCache(folder, "sha256")
unknown = []
for path, about in declared((target,), Path.cwd()):
    if cache.digest(path, about) is None:
        unknown.append((path, about))
print(f"seconds: {time.perf_counter() - started}")
print(f"unknown: {len(unknown)}")
for number, outcome in digest_files([path for path, _ in unknown], "sha256"):
    cache.remember(*unknown[number], outcome.digest)
cache.save()
