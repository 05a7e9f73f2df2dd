from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from repro.record.capture import environment, hardware, variables
from repro.record.eventlog import Events, Start


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(
        process_key="main", parent_key=None, pid=1, argv=("python",), executable=sys.executable, prefix=str(tmp_path),
        base_prefix=sys.base_prefix, python_version="3.11.7", implementation="cpython", build="b",
        path=(str(tmp_path / "site"), str(tmp_path / "missing"), ""), rank=None, world_size=None, started_at=0.0,
    )  # fmt: skip


def install(site: Path, folder: str, text: str, **files: str) -> Path:
    path = site / folder
    path.mkdir(parents=True)
    (path / ("METADATA" if folder.endswith(".dist-info") else "PKG-INFO")).write_text(text)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


def test_distributions_with_their_origins(start: Start, tmp_path: Path) -> None:
    site, source = tmp_path / "site", tmp_path.parent / f"{tmp_path.name}-source"
    head = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0+local\nSummary: x\n\nName: not this\n"
    install(site, "Some_Thing-1.0.dist-info", head.format("Some.Thing_x"), INSTALLER="pip\n", RECORD="a,,\n")
    direct = {"url": "https://me:hunter2@host/w.whl", "archive_info": {}}
    install(site, "direct-1.dist-info", head.format("direct"), direct_url__json=json.dumps(direct))
    editable = {"url": "file:///src", "dir_info": {"editable": True}}
    install(site, "edit-1.dist-info", head.format("edit"), direct_url__json=json.dumps(editable))
    vcs = {"url": "https://host/r.git", "vcs_info": {"commit_id": "abc", "vcs": "git"}}
    install(site, "vcs-1.dist-info", head.format("vcs"), direct_url__json=json.dumps(vcs))
    install(site, "conda-1.dist-info", head.format("conda"), INSTALLER="conda")
    install(site, "odd-1.dist-info", head.format("odd"), direct_url__json="[]")
    install(site, "old-1.egg-info", head.format("old"))
    (site / "flat-1.egg-info").write_text(head.format("flat"))
    install(site, "~rubbish-1.dist-info", head.format("rubbish"))
    install(source, "dev.egg-info", head.format("dev"))
    packages, gaps = environment.distributions(replace(start, path=(str(site), str(source))), tmp_path)
    assert {p.name: (p.origin, p.direct_url) for p in packages} == {
        "conda": ("unknown", None),
        "dev": ("editable", None),
        "direct": ("direct", "https://host/w.whl"),
        "edit": ("editable", "file:///src"),
        "flat": ("unknown", None),
        "odd": ("unknown", None),
        "old": ("unknown", None),
        "some-thing-x": ("index", None),
        "vcs": ("direct", "https://host/r.git@abc"),
    }
    assert gaps == ()
    some = next(p for p in packages if p.name == "some-thing-x")
    assert (some.version, some.location) == ("1.0+local", str(site))
    assert some.record_sha256 == f"sha256:{hashlib.sha256(b'a,,').hexdigest()}" or some.record_sha256 == (
        f"sha256:{hashlib.sha256(b'a,,' + bytes([10])).hexdigest()}"
    )


def test_a_distribution_without_a_readable_name_is_a_gap(start: Start, tmp_path: Path) -> None:
    (tmp_path / "site" / "broken-1.dist-info").mkdir(parents=True)
    install(tmp_path / "site", "half-1.dist-info", "Name: half\n\nVersion: 2\n")
    packages, gaps = environment.distributions(start, tmp_path)
    assert (packages, len(gaps)) == ((), 2)


def test_archives_on_the_path_are_looked_into(start: Start, tmp_path: Path) -> None:
    members = {"egg-1.egg": "EGG-INFO/PKG-INFO", "wheel-1-py3-none-any.whl": "wheel-1.dist-info/METADATA"}
    for name, member in members.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, f"Name: {name.partition('-')[0]}\nVersion: 1\n\n")
            archive.writestr("~rest-1.dist-info/METADATA", "Name: rest\nVersion: 1\n")
    install(tmp_path / "open-1.egg", "EGG-INFO", "Name: open\nVersion: 1\n\n")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4")
    names = (*members, "open-1.egg", "broken.zip")
    packages, gaps = environment.distributions(replace(start, path=tuple(str(tmp_path / n) for n in names)), tmp_path)
    assert [("egg", "unknown"), ("open", "unknown"), ("wheel", "unknown")] == [(p.name, p.origin) for p in packages]
    assert gaps == ()


def test_of_one_name_the_one_that_an_import_finds_comes_first(start: Start, tmp_path: Path, context) -> None:
    install(tmp_path / "z", "dup-1.dist-info", "Name: dup\nVersion: 1\n\n")
    install(tmp_path / "a", "dup-2.dist-info", "Name: dup\nVersion: 2\n\n")
    found = replace(start, path=(str(tmp_path / "z"), str(tmp_path / "a")))
    packages, _ = environment.distributions(found, tmp_path)
    assert ["1", "2"] == [package.version for package in packages]
    told = environment.beside(context(tmp_path, interpreter=found)).fact("environment", "packages_shadowed")
    assert f"dup 2 at {tmp_path / 'a'}" == told


def test_two_versions_at_one_place_are_a_gap(start: Start, tmp_path: Path) -> None:
    install(tmp_path / "site", "dup-1.dist-info", "Name: dup\nVersion: 1\n\n")
    install(tmp_path / "site", "dup-2.dist-info", "Name: dup\nVersion: 2\n\n")
    _, gaps = environment.distributions(start, tmp_path)
    assert [("dup", "1 and 2 of it are installed at one place: one of them is left over")] == [
        (gap.subject, gap.reason) for gap in gaps
    ]


def test_installers_add_their_versions(start: Start, tmp_path: Path) -> None:
    for number, installer in enumerate(("Poetry 1.8.2", "uv", "pip", "conda", "uv+x")):
        install(tmp_path / "site", f"p{number}-1.dist-info", f"Name: p{number}\nVersion: 1\n\n", INSTALLER=installer)
    packages, _ = environment.distributions(start, tmp_path)
    assert ["index", "index", "index", "unknown", "index"] == [package.origin for package in packages]


def test_metadata_that_is_not_utf_8_is_read(start: Start, tmp_path: Path) -> None:
    (tmp_path / "site" / "lat-1.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "lat-1.dist-info" / "METADATA").write_bytes(b"Name: lat\nAuthor: \xe9\nVersion: 1\n")
    packages, gaps = environment.distributions(start, tmp_path)
    assert ([("lat", "1")], ()) == ([(package.name, package.version) for package in packages], gaps)


def test_the_real_environment_is_what_importlib_sees(start: Start, tmp_path: Path) -> None:
    packages, gaps = environment.distributions(replace(start, path=tuple(sys.path)), tmp_path)
    names = {
        (environment._SEPARATORS.sub("-", d.metadata["Name"]).lower(), d.version) for d in metadata.distributions()
    }
    assert {(p.name, p.version) for p in packages} == names
    assert gaps == ()


def test_the_fingerprint_names_the_environment(start: Start, tmp_path: Path) -> None:
    install(tmp_path / "site", "a-1.dist-info", "Name: a\nVersion: 1\n\n")
    packages, _ = environment.distributions(start, tmp_path)
    first = environment.fingerprint(start, packages)
    assert environment.fingerprint(start, packages) == first
    assert environment.fingerprint(replace(start, python_version="3.11.8"), packages) != first
    assert environment.fingerprint(start, (replace(packages[0], version="2"),)) != first


def test_beside_tells_interpreter_and_machine(start: Start, tmp_path: Path, context) -> None:
    found = environment.beside(context(tmp_path, interpreter=start, environment={"CONDA_PREFIX": "/conda"}))
    assert found.fact("environment", "python_version") == "3.11.7"
    assert found.fact("environment", "executable") == sys.executable
    assert found.fact("environment", "conda") == "/conda"
    assert found.fact("environment", "platform")
    assert (found.fact("environment", "fingerprint") or "").startswith("sha256:")


def test_without_a_python_only_the_machine_is_told(tmp_path: Path, context) -> None:
    found = environment.beside(context(tmp_path))
    assert found.fact("environment", "fingerprint") is None
    assert found.fact("environment", "platform")
    assert environment.after(context(tmp_path)) == environment.Findings()


def test_another_environment_in_the_same_run_is_a_gap(start: Start, tmp_path: Path, context) -> None:
    other = replace(start, prefix="/other", process_key="main/tool.1")
    found = environment.after(context(tmp_path, interpreter=start, events=Events(starts=[start, other, other])))
    assert [gap.subject for gap in found.gaps] == ["/other"]


def test_variables_by_allow_list(tmp_path: Path, context) -> None:
    given = {
        "OMP_NUM_THREADS": "4", "LC_ALL": "C", "PYTHONHASHSEED": "1", "RANK": "0", "HF_HUB_OFFLINE": "1", "TZ": "UTC",
        "HF_TOKEN": "hunter2", "SLURM_JWT_TOKEN": "hunter2", "WANDB_API_KEY": "hunter2", "HOME": "/home/x",
        "TF_PASSWORD": "hunter2",
        "TORCH_HOME": "https://me:hunter2@host/", "NCCL_ODD": os_text(b"a\xff"),
    }  # fmt: skip
    found = variables.before(context(tmp_path, environment=given))
    told = {fact.name: fact.value for fact in found.facts if fact.topic == "variable"}
    assert told == {
        "OMP_NUM_THREADS": "4", "LC_ALL": "C", "PYTHONHASHSEED": "1", "RANK": "0", "HF_HUB_OFFLINE": "1", "TZ": "UTC",
        "TORCH_HOME": "https://host/", "NCCL_ODD": "a\\udcff",
    }  # fmt: skip
    assert found.fact("environment", "other_variables") == "HF_TOKEN,HOME,SLURM_JWT_TOKEN,TF_PASSWORD,WANDB_API_KEY"
    assert "hunter2" not in repr(found)


def os_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def test_hardware_is_told(tmp_path: Path, context) -> None:
    found = hardware.alongside(context(tmp_path))
    facts = {fact.name: fact.value for fact in found.facts}
    assert int(facts["cpu_count"]) > 0
    assert int(facts["memory_bytes"]) > 2**20
    assert facts["kernel"]
    assert facts["cpu_affinity"]


def test_gpus_are_asked_of_the_drivers_own_tool(tmp_path: Path, context) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "NVIDIA H200, GPU-1, 570.1, 143771, 96.00, 9.0, Enabled, Disabled"\n')
    tool.chmod(0o755)
    found = hardware.alongside(context(tmp_path, environment={"PATH": f"{tmp_path}:/bin"}))
    assert found.fact("hardware", "gpu_count") == "1"
    assert found.fact("hardware", "gpu.0.name") == "NVIDIA H200"
    assert found.fact("hardware", "gpu.0.memory_mebibytes") == "143771"
    assert found.fact("hardware", "gpu.0.mig_mode_current") == "Disabled"


def test_a_gpu_tool_that_fails_is_a_gap(tmp_path: Path, context) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    found = hardware.alongside(context(tmp_path, environment={"PATH": f"{tmp_path}:/bin"}))
    assert [(gap.topic, gap.subject) for gap in found.gaps] == [("hardware", "GPU")]


def test_processor_lists() -> None:
    text = "processor: 0\nphysical id: 0\ncore id: 0\nflags: avx2 fma\n\nprocessor: 1\nphysical id: 0\ncore id: 1\n\n"
    fields, sockets, cores = hardware._cpuinfo(text)
    assert (fields["flags"], sockets, cores) == ("avx2 fma", 1, 2)
    assert hardware._cpuinfo("") == ({}, 0, 0)
    assert hardware._ranges([0, 1, 2, 8, 10, 11]) == "0-2,8,10-11"
