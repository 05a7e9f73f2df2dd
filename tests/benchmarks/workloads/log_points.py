"""Points a second that the agent's event log takes; runs with the agent injected, and borrows its log."""

import sys
import tempfile
import time
from pathlib import Path

from _repro_agent.log import EventLog

POINTS = 1_000_000

with tempfile.TemporaryDirectory() as folder:
    log = EventLog(folder)
    started = time.perf_counter()
    for step in range(POINTS):
        log.metric("loss", step, 0.1234567, "float32", started)
    seconds = time.perf_counter() - started
    log.close()
    (file,) = Path(folder).iterdir()
    size_bytes = file.stat().st_size
    if file.read_bytes().count(b"\n") != POINTS:
        sys.exit("points were lost")
print(f"points: {POINTS} seconds: {seconds} bytes: {size_bytes}")
