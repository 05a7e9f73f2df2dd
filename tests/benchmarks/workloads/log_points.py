"""Points a second that the agent takes; runs with the agent injected, and borrows its logs."""

import sys
import tempfile
import time
from pathlib import Path

from _repro_agent.log import EventLog
from _repro_agent.points import RECORD_BYTES, PointLog

POINTS = 1_000_000

with tempfile.TemporaryDirectory() as folder:
    events = EventLog(folder)
    log = PointLog(events)
    started = time.perf_counter()
    for step in range(POINTS):
        log.metric("loss", step, 0.1234567, "float32", started)
    seconds = time.perf_counter() - started
    log.close()
    events.close()
    size_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
    if size_bytes < RECORD_BYTES * POINTS:
        sys.exit("points were lost")
print(f"points: {POINTS} seconds: {seconds} bytes: {size_bytes}")
