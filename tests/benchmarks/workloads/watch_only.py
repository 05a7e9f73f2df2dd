"""Run a command below the kernel layer and nothing else of `repro`: watch_only.py COMMAND…"""

import os
import sys
import tempfile
from pathlib import Path

from repro.record import kernel
from repro.record.streams import Wanted

argv, cwd = tuple(sys.argv[1:]), Path.cwd()
with tempfile.TemporaryDirectory() as events:
    watch, gaps = kernel.choose(argv, cwd, os.environ, Path(events))
    if watch is None:
        sys.exit(f"nothing can watch: {gaps}")
    job = watch.start(argv, cwd, os.environ, Wanted(stdout_is_terminal=False, stderr_is_terminal=False))
    for descriptor in {job.stdout_fd, job.stderr_fd}:
        with open(descriptor, "rb") as stream:
            print(stream.read().decode(), end="", flush=True)
    status = job.wait()
    watch.finish(60.0)
    print(f"layer: {watch.layer}")
    print(f"log_bytes: {(Path(events) / 'kernel.log').stat().st_size}")
sys.exit(status)
