"""What worker processes draw is put back by their role, however they are started, and however many at once."""

import pytest
from event_logs import entropy_document, of_kind

PROCESSES = """
import multiprocessing, random, sys, time, uuid
def work(number, queue):
    queue.put((number, random.random(), str(uuid.uuid4()), random.Random(time.time_ns()).random()))
if __name__ == '__main__':
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    workers = [context.Process(target=work, args=(number, queue)) for number in range(4)]
    for worker in workers: worker.start()
    print(sorted(queue.get() for _ in workers))
    for worker in workers: worker.join()
"""

LOADER = """
import random, sys, time
import numpy, torch
class Drawn(torch.utils.data.Dataset):
    def __len__(self): return 12
    def __getitem__(self, index):
        draws = [random.random(), numpy.random.rand(), numpy.random.default_rng().random(), torch.rand(1).item()]
        return torch.tensor([index, random.Random(time.time_ns()).random(), *draws], dtype=torch.float64)
if __name__ == '__main__':
    loader = torch.utils.data.DataLoader(Drawn(), 2, shuffle=True, num_workers=2, multiprocessing_context=sys.argv[1])
    print([batch.tolist() for epoch in range(2) for batch in loader])
"""


def recorded_and_replayed(run_agent, script, method, **options):
    """Run a script, replay it, run it without a replay; return what each printed, and the gaps of the first two."""
    recorded, first = run_agent(script, arguments=(method,), **options)
    replayed, second = run_agent(script, arguments=(method,), entropy=entropy_document(recorded), **options)
    _, other = run_agent(script, arguments=(method,), **options)
    assert "" == first.stderr == second.stderr
    return first.stdout, second.stdout, other.stdout, of_kind(recorded, "gap") + of_kind(replayed, "gap")


@pytest.mark.usefixtures("unmeasured_jobs")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(run_agent, python, method):
    first, second, other, gaps = recorded_and_replayed(run_agent, PROCESSES, method, python=python)
    assert first == second != other
    assert [] == gaps


@pytest.mark.torch
@pytest.mark.usefixtures("unmeasured_jobs")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loaders_workers(run_agent, method):
    first, second, other, gaps = recorded_and_replayed(run_agent, LOADER, method)
    assert first == second != other
    assert [] == [gap for gap in gaps if gap["topic"] == "randomness"]


ASYNC = """
import asyncio, sys
async def start():
    children = [await asyncio.create_subprocess_exec(
        sys.executable, '-c', 'import random; print(random.random())', stdout=asyncio.subprocess.PIPE)
        for _ in range(4)]
    print([(await child.communicate())[0] for child in children])
asyncio.run(start())
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_children_of_asyncio(run_agent, python):
    first, second, other, gaps = recorded_and_replayed(run_agent, ASYNC, "", python=python)
    assert first == second != other
    assert [] == gaps
