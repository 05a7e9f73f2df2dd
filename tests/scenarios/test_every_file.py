"""Every way to open a file that is in use in training, each with a file of its own, under each layer that watches.

The 54 cases are those of a survey of recorders: an audit hook alone saw 25 of them, user notification and strace all.
With the hooks for libraries that open files by themselves, the agent alone sees 47.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from repro.record.kernel import seccomp

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ROOT / "build" / "lineage"
"""What `requirements/lineage.txt` holds."""

PREPARE = '''
"""Make the file of each case."""
import json, os, shutil, sqlite3, sysconfig, tarfile, zipfile
from importlib.util import find_spec
from pathlib import Path

has = lambda *names: all(find_spec(name) for name in names)
os.makedirs("data", exist_ok=True)
os.chdir("data")
PLAIN = ("open.bin os.bin path.txt mmap.bin loadtxt.txt fopen.bin cat.txt redirect.txt system.txt child.txt"
         " isolated.txt csv_c.csv csv_arrow.csv arrow.csv duck.csv polars.csv")
for name in PLAIN.split():
    Path(name).write_text("1,2\\n3,4\\n" if name.endswith(".csv") else f"1 {len(name)}\\n")
Path("json.json").write_text(json.dumps([1]))
Path("../imported.py").write_text("x = 1\\n")
with zipfile.ZipFile("zip.zip", "w") as archive:
    archive.write("open.bin")
with tarfile.open("tar.tar", "w") as archive:
    archive.add("open.bin")
with sqlite3.connect("sqlite.db") as database:
    database.execute("create table t (x)")
library = next(Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("_bisect*.so"))
shutil.copy(library, "library.so")
if has("numpy"):
    import numpy as np
    for name in ("load", "mapped", "fork", "spawn", "forkserver"):
        np.save(name + ".npy", np.arange(len(name)))
    np.savez("npz.npz", np.arange(3))
    np.arange(5).tofile("fromfile.bin")
    np.arange(6).tofile("memmap.bin")
if has("PIL"):
    from PIL import Image
    Image.new("RGB", (2, 2)).save("image.png")
    Image.new("RGB", (2, 2)).save("image.jpg")
if has("pyarrow"):
    import pyarrow as pa, pyarrow.feather, pyarrow.parquet as pq
    names = "object table set pandas duck polars scan fork spawn forkserver"
    for number, name in enumerate(names.split()):
        pq.write_table(pa.table({"x": [number]}), name + ".parquet")
    pa.feather.write_feather(pa.table({"x": [1]}), "feather.feather")
    Path("memory.bin").write_bytes(b"12345")
    with pa.OSFile("ipc.arrow", "wb") as sink, pa.ipc.new_file(sink, pa.schema([("x", pa.int64())])) as writer:
        writer.write(pa.record_batch([pa.array([1])], names=["x"]))
if has("torch"):
    import torch
    torch.save([1], "load.pt")
    torch.save({"x": torch.zeros(3)}, "mapped.pt")
    Path("from_file.bin").write_bytes(bytes(12))
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), "jit.pt")
if has("safetensors", "torch"):
    from safetensors.torch import save_file
    save_file({"x": torch.zeros(1)}, "safe_open.safetensors")
    save_file({"x": torch.ones(1)}, "load_file.safetensors")
if has("duckdb"):
    import duckdb
    duckdb.connect("duck.db").execute("create table t (x integer)").close()
if has("h5py"):
    import h5py
    h5py.File("h5.h5", "w").close()
if has("lmdb"):
    import lmdb
    lmdb.open("lmdb").close()
'''

WORKERS = """
import sys
import numpy as np, torch
try:
    import pyarrow.parquet as pq
except ImportError:
    pq = None

class Files(torch.utils.data.Dataset):
    def __init__(self, method): self.method = method
    def __len__(self): return 1
    def __getitem__(self, index):
        if pq is not None: pq.read_table(f"data/{self.method}.parquet")
        return np.load(f"data/{self.method}.npy").sum()
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        list(torch.utils.data.DataLoader(Files(method), num_workers=1, multiprocessing_context=method))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to open one file."""

    path: str
    code: str
    needs: str = ""
    """Libraries."""
    hidden: bool = False
    """Whether the agent alone does not see it."""
    library: str = "python"
    """What the agent says that opens it."""


def parquet(path: str, code: str, library: str, needs: str = "pyarrow") -> Case:
    return Case(path=f"data/{path}", code=code, needs=needs, library=library)


CASES = (
    Case(path="data/open.bin", code="open('data/open.bin').read()"),
    Case(path="data/os.bin", code="os.read(os.open('data/os.bin', os.O_RDONLY), 9)"),
    Case(path="data/path.txt", code="pathlib.Path('data/path.txt').read_text()"),
    Case(path="data/json.json", code="json.load(open('data/json.json'))"),
    Case(path="data/zip.zip", code="zipfile.ZipFile('data/zip.zip').namelist()"),
    Case(path="data/tar.tar", code="tarfile.open('data/tar.tar').getnames()"),
    Case(path="imported.py", code="import imported"),
    Case(path="data/mmap.bin", code="mmap.mmap(os.open('data/mmap.bin', os.O_RDONLY), 0, prot=mmap.PROT_READ)[0]"),
    Case(path="data/load.npy", code="np.load('data/load.npy')", needs="numpy"),
    Case(path="data/npz.npz", code="np.load('data/npz.npz')['arr_0']", needs="numpy"),
    Case(path="data/mapped.npy", code="np.load('data/mapped.npy', mmap_mode='r')[0]", needs="numpy"),
    Case(path="data/fromfile.bin", code="np.fromfile('data/fromfile.bin', np.int64)", needs="numpy"),
    Case(path="data/memmap.bin", code="np.memmap('data/memmap.bin', np.int64, 'r')[0]", needs="numpy"),
    Case(path="data/loadtxt.txt", code="np.loadtxt('data/loadtxt.txt')", needs="numpy"),
    Case(path="data/image.png", code="PIL.Image.open('data/image.png').load()", needs="PIL"),
    Case(path="data/image.jpg", code="PIL.Image.open('data/image.jpg').load()", needs="PIL"),
    Case(path="data/csv_c.csv", code="pandas.read_csv('data/csv_c.csv', engine='c')", needs="pandas"),
    Case(
        path="data/csv_arrow.csv",
        code="pandas.read_csv('data/csv_arrow.csv', engine='pyarrow')",
        needs="pandas pyarrow",
    ),
    parquet("object.parquet", "pq.read_table(open('data/object.parquet', 'rb'))", "python"),
    Case(path="data/load.pt", code="torch.load('data/load.pt')", needs="torch", library="torch"),
    Case(path="data/mapped.pt", code="torch.load('data/mapped.pt', mmap=True)", needs="torch", library="torch"),
    Case(
        path="data/from_file.bin",
        code="torch.from_file('data/from_file.bin', size=3).sum()",
        needs="torch",
        hidden=True,
    ),
    Case(path="data/jit.pt", code="torch.jit.load('data/jit.pt')", needs="torch", library="torch"),
    Case(
        path="data/safe_open.safetensors",
        code="safetensors.safe_open('data/safe_open.safetensors', 'pt').__enter__().keys()",
        needs="safetensors torch",
        library="safetensors",
    ),
    Case(
        path="data/load_file.safetensors",
        code="safetensors.torch.load_file('data/load_file.safetensors')",
        needs="safetensors torch",
        library="safetensors",
    ),
    parquet("table.parquet", "pq.read_table('data/table.parquet')", "pyarrow"),
    parquet("memory.bin", "pa.memory_map('data/memory.bin').read()", "pyarrow"),
    parquet("set.parquet", "pa.dataset.dataset('data/set.parquet').to_table()", "pyarrow"),
    parquet("arrow.csv", "pa.csv.read_csv('data/arrow.csv')", "pyarrow"),
    parquet("feather.feather", "pa.feather.read_table('data/feather.feather')", "pyarrow"),
    parquet("ipc.arrow", "pa.ipc.open_file(pa.memory_map('data/ipc.arrow')).read_all()", "pyarrow"),
    parquet("pandas.parquet", "pandas.read_parquet('data/pandas.parquet')", "pandas", "pandas pyarrow"),
    parquet("duck.parquet", "duckdb.read_parquet('data/duck.parquet').fetchall()", "duckdb", "duckdb pyarrow"),
    Case(path="data/duck.csv", code="duckdb.read_csv('data/duck.csv').fetchall()", needs="duckdb", library="duckdb"),
    Case(path="data/duck.db", code="duckdb.connect('data/duck.db').close()", needs="duckdb", library="duckdb"),
    parquet("polars.parquet", "polars.read_parquet('data/polars.parquet')", "polars", "polars pyarrow"),
    parquet("scan.parquet", "polars.scan_parquet('data/scan.parquet').collect()", "polars", "polars pyarrow"),
    Case(path="data/polars.csv", code="polars.read_csv('data/polars.csv')", needs="polars", library="polars"),
    Case(path="data/h5.h5", code="h5py.File('data/h5.h5').keys()", needs="h5py", library="h5py"),
    Case(path="data/lmdb/data.mdb", code="lmdb.open('data/lmdb', readonly=True)", needs="lmdb", library="lmdb"),
    Case(
        path="data/sqlite.db",
        code="sqlite3.connect('data/sqlite.db').execute('select * from t').fetchall()",
        library="sqlite3",
    ),
    Case(path="data/fopen.bin", code="fopen(b'data/fopen.bin', b'r')", hidden=True),
    Case(path="data/library.so", code="ctypes.CDLL(os.path.abspath('data/library.so'))", library="ctypes"),
    *(Case(path=f"data/{method}.npy", code="", needs="numpy torch") for method in ("fork", "spawn", "forkserver")),
    *(
        Case(path=f"data/{method}.parquet", code="", needs="pyarrow torch", library="pyarrow")
        for method in ("fork", "spawn", "forkserver")
    ),
    Case(path="data/cat.txt", code="subprocess.run(['cat', 'data/cat.txt'])", hidden=True),
    Case(path="data/redirect.txt", code="subprocess.run('read x < data/redirect.txt', shell=True)", hidden=True),
    Case(path="data/system.txt", code="os.system('cat data/system.txt')", hidden=True),
    Case(path="data/child.txt", code="subprocess.run([sys.executable, '-c', \"open('data/child.txt')\"])"),
    Case(
        path="data/isolated.txt",
        code="subprocess.run([sys.executable, '-I', '-S', '-c', \"open('data/isolated.txt')\"])",
        hidden=True,
    ),
)

HEAD = """
import ctypes, json, mmap, os, pathlib, sqlite3, subprocess, sys, tarfile, zipfile
from importlib import import_module
from importlib.util import find_spec
fopen = ctypes.CDLL(None).fopen
for short, name in {"np": "numpy", "PIL": "PIL.Image", "pandas": "pandas", "pa": "pyarrow", "pq": "pyarrow.parquet",
                    "torch": "torch", "duckdb": "duckdb", "polars": "polars", "h5py": "h5py", "lmdb": "lmdb",
                    "safetensors": "safetensors"}.items():
    if find_spec(name.partition(".")[0]):
        import_module(name)
        globals()[short] = sys.modules[name if short == "pq" else name.partition(".")[0]]
for name in ("pyarrow.dataset", "pyarrow.csv", "pyarrow.feather", "pyarrow.ipc", "safetensors.torch"):
    if find_spec(name.partition(".")[0]):
        import_module(name)
"""


def is_there(library: str) -> bool:
    return (LIBRARIES / library).is_dir() or importlib.util.find_spec(library) is not None


def missing(case: Case) -> str | None:
    return next((library for library in case.needs.split() if not is_there(library)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a recording says."""

    folder: Path
    inputs: dict[str, dict[str, Any]]
    facts: dict[str, str]
    gaps: list[dict[str, str]]


OPTIONS: dict[str, tuple[str, ...]] = {"seccomp": (), "strace": (), "agent": ("--no-trace",)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recorded]:
    """Return a function that records all cases in one run, once for each layer."""
    known: dict[str, Recorded] = {}
    folder = tmp_path_factory.mktemp("files") / "project"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(LIBRARIES), "REPRO_HOME": str(folder.parent / "home")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    subprocess.run([sys.executable, "-c", PREPARE], cwd=folder, env=environment, check=True, timeout=120)
    code = "".join(f"{case.code}\n" for case in CASES if missing(case) is None)
    if is_there("torch"):
        (folder / "workers.py").write_text(WORKERS)
        code += "subprocess.run([sys.executable, 'workers.py'], check=True)\n"
    (folder / "train.py").write_text(HEAD + code)

    def record(layer: str) -> Recorded:
        if layer not in known:
            known[layer] = _record(folder, {**environment, "REPRO_LINEAGE": layer}, OPTIONS[layer])
        return known[layer]

    return record


def _record(folder: Path, environment: dict[str, str], options: tuple[str, ...]) -> Recorded:
    command = [
        sys.executable,
        "-m",
        "repro",
        "record",
        *options,
        "--lock-timeout",
        "0",
        "--",
        sys.executable,
        "train.py",
    ]
    environment = {**environment, "PYTHONPATH": f"{ROOT}:{environment['PYTHONPATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "repro", "show", "--json", "@last"]
    shown = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(shown.stdout)
    return Recorded(
        folder=folder,
        inputs={row["path"]: row for row in found["data_files"] if row["role"] == "input"},
        facts={row["name"]: row["value"] for row in found["facts"] if row["topic"] == "data"},
        gaps=[row for row in found["gaps"] if row["topic"] in ("data", "lineage")],
    )


def test_the_survey_is_whole() -> None:
    assert len(CASES) == 54
    assert len({case.path for case in CASES}) == 54
    assert sum(not case.hidden for case in CASES) == 48


@pytest.mark.torch
@pytest.mark.parametrize("layer", [pytest.param("seccomp"), pytest.param("strace", marks=pytest.mark.strace), "agent"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_a_file_is_seen(recordings: Callable[[str], Recorded], layer: str, case: Case) -> None:
    if library := missing(case):
        pytest.skip(f"lineage: {library} is not installed")
    if layer == "seccomp" and (reason := seccomp.available(("true",), Path.cwd(), os.environ)):
        pytest.skip(f"seccomp: {reason}")
    found = recordings(layer)
    row = found.inputs.get(case.path)
    if layer == "agent" and case.hidden:
        assert row is None
        return
    assert row is not None
    assert row["digest"] == f"sha256:{hashlib.sha256((found.folder / case.path).read_bytes()).hexdigest()}"
    assert row["seen_by"] == ("agent" if layer == "agent" else "kernel" if case.hidden else "both")
    if not case.hidden:
        assert row["library"] == case.library


@pytest.mark.torch
@pytest.mark.parametrize(
    ("layer", "status", "layers"),
    [
        ("seccomp", "complete", "agent, kernel (seccomp)"),
        pytest.param("strace", "complete", "agent, kernel (strace)", marks=pytest.mark.strace),
        ("agent", "partial", "agent"),
    ],
)
def test_a_record_says_how_complete_it_is(
    recordings: Callable[[str], Recorded], layer: str, status: str, layers: str
) -> None:
    found = recordings(layer)
    assert (found.facts["lineage"], found.facts["lineage_layers"]) == (status, layers)
    known = {
        "agent": ["files"],
        "seccomp": [],
        "strace": ["data/lmdb/lock.mdb"],
    }  # which strace sees once it is changed
    assert [gap["subject"] for gap in found.gaps] == known[layer]
