"""Who draws entropy from the kernel is told, never the bytes; what is made of them is put back where it seeds."""

import pytest
from event_logs import entropy_document, of_kind

DRAWS = """
import os, random, secrets, uuid
token = secrets.token_hex(24)
for _ in range(3): draw = os.urandom(8)
print(token, draw.hex(), random.SystemRandom().getrandbits(64), uuid.uuid4(), random.random())
random.seed(os.urandom(16)); print('seeded', random.random())
random.seed(secrets.token_hex()); print('seeded', random.random())
print('seeded', random.Random(secrets.randbits(200)).random())
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_draws_are_told_and_not_kept(run_agent, python):
    events, finished = run_agent(DRAWS, python=python)
    assert "" == finished.stderr
    draws = [event for event in of_kind(events, "seed") if event["function"] == "os.urandom"]
    assert [3, 4, 5, 6, 7, 8] == [int(event["site"].rpartition(":")[2]) for event in draws]
    assert "24 bytes of the kernel's, not kept" == draws[0]["argument"]
    (calls,) = [event["value"] for event in of_kind(events, "setting") if event["name"] == "os.urandom.calls"]
    assert ["1", "3", "1", "1", "1", "1"] == [entry.split()[0] for entry in calls.split("; ")]
    token, drawn, number = finished.stdout.split()[:3]
    told = str(events)
    assert not [secret for secret in (token, drawn, number) if secret in told]
    assert [] == of_kind(events, "gap")


@pytest.mark.usefixtures("unmeasured_jobs")
def test_what_they_seed_is_put_back(run_agent, python):
    recorded, first = run_agent(DRAWS, python=python)
    replayed, second = run_agent(DRAWS, python=python, entropy=entropy_document(recorded))
    seeded = [line for line in first.stdout.splitlines() if line.startswith("seeded")]
    assert seeded == [line for line in second.stdout.splitlines() if line.startswith("seeded")]
    assert 3 == len(seeded)
    assert [True, True, True] == [
        event["substituted"] for event in of_kind(replayed, "seed") if event["function"] != "os.urandom"
    ]
    assert [] == of_kind(replayed, "gap")


def test_in_a_forked_child_draws_are_counted_anew(run_agent, python):
    script = "import os\nos.urandom(1)\nif os.fork() == 0: os.urandom(1); raise SystemExit\nos.wait()"
    events, _ = run_agent(script, python=python)
    draws = [event for event in of_kind(events, "seed") if event["function"] == "os.urandom"]
    assert [("main", 0), ("main/fork.1", 0)] == sorted((event["process_key"], event["ordinal"]) for event in draws)
