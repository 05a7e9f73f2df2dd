"""An exception of the user's signal handler that comes up in the agent's own code goes on to the user."""

HANDLERS = """
import functools, os, signal, sys
import argparse
class Late(Exception): pass
def plain(number, frame): raise Late("plain")
class Limit:
    def reached(self, number, frame): raise Late("method")
    def __call__(self, number, frame): raise Late("object")
def with_more(more, number, frame): raise Late("partial")
handlers = [plain, Limit().reached, Limit(), functools.partial(with_more, 1)]
agent = sys.modules["_repro_agent"]
def ring(*arguments): os.kill(os.getpid(), signal.SIGALRM); [None for _ in range(100)]
def fail(*arguments): raise Late("of our own")
inside = next(each for each in map(lambda thing: getattr(thing, "__self__", None), __import__("gc").get_objects())
              if type(each) is agent.Agent)
for handler in handlers:
    signal.signal(signal.SIGALRM, handler)
    try: inside.guard("agent", "a test", ring)
    except Late as error: print(error, error.__traceback__.tb_next.tb_frame.f_code.co_name)
print(inside.guard("agent", "a test", fail))
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(inside.guard("agent", "a test", ring))
"""


def test_what_a_handler_raises_is_passed_on_and_what_we_raise_is_not(run_agent, python):
    events, finished = run_agent(HANDLERS, python=python)
    assert "" == finished.stderr
    told = [line.split()[0] for line in finished.stdout.splitlines()]
    assert ["plain", "method", "object", "partial", "None", "None"] == told
    gaps = [event["reason"] for event in events if event["event"] == "gap"]
    assert ["plain", "method", "object", "partial", "of our own"] == [reason.removeprefix("Late: ") for reason in gaps]


FROZEN = """
import time
kept = time.monotonic, time.time
time.monotonic = time.time = time.perf_counter = lambda: 5.0
time.time_ns = lambda: 5
open("x", "w").close()
time.monotonic, time.time = kept
"""


def test_a_clock_that_the_user_stops_is_not_ours(run_agent, python):
    events, finished = run_agent(FROZEN, python=python)
    assert (0, "") == (finished.returncode, finished.stderr)
    (opened,) = [event for event in events if event["event"] == "open" and event["path"].endswith("/x")]
    assert 0 < opened["at"] < 100
