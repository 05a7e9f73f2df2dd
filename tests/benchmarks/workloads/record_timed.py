"""Record a command as `repro record` does, and say how long each part took.

    record_timed.py [--cd FOLDER] COMMAND…

`seconds:` is how long the command had to wait. Besides, prints `MOMENT NAME: SECONDS` for each capture, and for what
the recorder does around them, once the run is sealed.
"""

import os
import sys
import time
from pathlib import Path

from repro.evidence.store import Store, home
from repro.record import recorder

arguments = sys.argv[1:]
if arguments[0] == "--cd":
    os.chdir(arguments[1])
    del arguments[:2]
spent = {}
entered = time.perf_counter()


def timed(label, function):
    def call(*given):
        started = time.perf_counter()
        try:
            return function(*given)
        finally:
            spent[label] = spent.get(label, 0.0) + time.perf_counter() - started

    return call


look = recorder._look
recorder._look = lambda function, context, name, moment: timed(f"{moment} {name}", look)(
    function, context, name, moment
)
for step in ("_context", "_choose_watch", "_read_events", "_read_kernel_log", "_join_beside", "_seal"):
    setattr(recorder._Recording, step, timed(f"recorder {step[1:]}", getattr(recorder._Recording, step)))
supervise = recorder.supervise


def supervised(*given, **options):
    spent["recorder until the command starts"] = time.perf_counter() - entered
    return timed("recorder command", lambda: supervise(*given, **options))()


recorder.supervise = supervised
request = recorder.Request(argv=tuple(arguments), working_directory=Path.cwd(), environment=dict(os.environ))
recorded = recorder.record(request, Store(home()), progress=lambda message: None)
for label, seconds in spent.items():
    print(f"{label}: {seconds:.6f}")
print(f"seconds: {spent['recorder until the command starts']}")
for gap in recorded.record.gaps:
    print(f"gap {gap.topic} {gap.subject}: {gap.reason}")
sys.exit(recorded.exit_status)
