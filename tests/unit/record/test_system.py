"""Packages, container, control groups, locale and the rest, from this machine and from the files of others."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from repro.record.capture import system
from repro.record.machine import cgroup, container
from repro.record.software import ospackages

DPKG = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: hold ok installed
Architecture: all
Version: 2024a
Description: x
 Version: 0
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_dpkg_and_apk_packages_are_read_from_their_files(tmp_path: Path) -> None:
    write(tmp_path, "var/lib/dpkg/status", DPKG)
    write(
        tmp_path,
        "lib/apk/db/installed",
        "C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\nR:x\n\nP:zlib\nV:1.3\nA:x86_64\n\n",
    )
    packages, gaps = ospackages.installed(tmp_path)
    told = [(p.manager, p.name, p.version, p.architecture) for p in packages]
    assert [
        ("apk", "musl", "1.2.4-r2", "x86_64"),
        ("apk", "zlib", "1.3", "x86_64"),
        ("dpkg", "libc6", "2.36-9", "amd64"),
        ("dpkg", "tzdata", "2024a", "all"),
    ] == told
    assert () == gaps


def test_the_packages_of_this_machine_are_those_that_dpkg_lists() -> None:
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("dpkg: not installed")
    listed = sorted(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("installed "))
    assert listed == sorted([p.name, p.version, p.architecture] for p in ospackages.installed()[0])


def test_no_manager_at_all_is_a_gap(tmp_path: Path) -> None:
    assert ["system packages"] == [gap.subject for gap in ospackages.installed(tmp_path)[1]]


def test_rpm_without_its_program_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "rpm" in ospackages.installed(tmp_path)[1][0].reason


def test_the_tightest_limit_of_all_levels_binds_in_version_2(tmp_path: Path) -> None:
    write(tmp_path, "proc/cgroup", "0::/user.slice/job.scope\n")
    write(tmp_path, "fs/cgroup.controllers", "cpu memory\n")
    write(tmp_path, "fs/user.slice/cpu.max", "150000 100000\n")
    write(tmp_path, "fs/user.slice/memory.max", "1000000\n")
    write(tmp_path, "fs/user.slice/job.scope/cpu.max", "max 100000\n")
    write(tmp_path, "fs/user.slice/job.scope/memory.max", "2000000\n")
    write(tmp_path, "fs/user.slice/job.scope/pids.max", "max\n")
    write(tmp_path, "fs/user.slice/cpuset.cpus.effective", "0-3\n")
    found = cgroup.limits(tmp_path / "proc", tmp_path / "fs")
    assert cgroup.Limits(version=2, cpus=1.5, memory_bytes=1000000, cpuset="0-3") == found


def test_version_1_has_a_tree_for_each_controller(tmp_path: Path) -> None:
    write(tmp_path, "proc/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:cpuset:/\n1:name=systemd:/x\n")
    write(tmp_path, "fs/cpu/docker/abc/cpu.cfs_quota_us", "50000")
    write(tmp_path, "fs/cpu/docker/abc/cpu.cfs_period_us", "100000")
    write(tmp_path, "fs/cpu/cpu.cfs_quota_us", "-1")
    write(tmp_path, "fs/memory/memory.limit_in_bytes", "9223372036854771712")
    write(tmp_path, "fs/memory/docker/abc/memory.limit_in_bytes", "4096")
    write(tmp_path, "fs/cpuset/cpuset.effective_cpus", "0-1")
    found = cgroup.limits(tmp_path / "proc", tmp_path / "fs")
    assert cgroup.Limits(version=1, cpus=0.5, memory_bytes=4096, cpuset="0-1") == found


def test_no_control_groups_no_limits(tmp_path: Path) -> None:
    assert cgroup.Limits() == cgroup.limits(tmp_path, tmp_path)


def test_podman_tells_its_image(tmp_path: Path) -> None:
    write(
        tmp_path, "run/.containerenv", 'engine="podman-4.9"\nname="x"\nid="12"\nimage="docker.io/a:1"\nimageid="ab"\n'
    )
    facts, gaps = container.look({}, tmp_path)
    assert {
        "container_engine": "podman",
        "container_id": "12",
        "container_image": "docker.io/a:1",
        "container_image_id": "ab",
    } == {fact.name: fact.value for fact in facts}
    assert () == gaps


def test_docker_does_not_and_that_is_a_gap_unless_it_was_declared(tmp_path: Path) -> None:
    write(tmp_path, ".dockerenv", "")
    write(tmp_path, "proc/self/mountinfo", f"1 2 0:1 /var/lib/docker/containers/{'ab' * 32}/hosts /etc/hosts rw\n")
    facts, gaps = container.look({}, tmp_path)
    assert ["container_engine", "container_id"] == [fact.name for fact in facts]
    assert "REPRO_IMAGE_DIGEST" in gaps[0].reason
    facts, gaps = container.look({"REPRO_IMAGE_DIGEST": "sha256:" + "0" * 64}, tmp_path)
    assert () == gaps
    assert ["declared"] == [fact.source for fact in facts if fact.name == "container_image_digest"]


def test_kubernetes_is_known_by_its_variables(tmp_path: Path) -> None:
    facts, gaps = container.look({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    assert [("container_engine", "kubernetes")] == [(fact.name, fact.value) for fact in facts]
    assert 1 == len(gaps)


def test_outside_a_container_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert ((), ()) == container.look({}, tmp_path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "C"),
        ({"LANG": "de_DE.UTF-8"}, "de_DE.UTF-8"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "C"),
        ({"LANG": "C", "LC_CTYPE": "x"}, "LC_CTYPE=x;LC_NUMERIC=C;LC_TIME=C;LC_COLLATE=C;LC_MONETARY=C;LC_MESSAGES=C"),
    ],
)
def test_the_locale_that_programs_get(variables: dict[str, str], expected: str) -> None:
    assert expected == system.locale(variables)


def test_the_time_zone_is_named_with_the_digest_of_its_rules(tmp_path: Path) -> None:
    write(tmp_path, "usr/share/zoneinfo/Europe/Berlin", "TZif2")
    write(tmp_path, "usr/share/zoneinfo/tzdata.zi", "# version 2024a\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/localtime").symlink_to("../usr/share/zoneinfo/Europe/Berlin")
    found, gaps = system._time_zone({}, tmp_path)
    assert ("Europe/Berlin", "2024a", ()) == (found["timezone"], found["timezone_database"], gaps)
    assert found == system._time_zone({"TZ": "Europe/Berlin"}, tmp_path)[0]
    assert found == system._time_zone({"TZ": ":Europe/Berlin"}, tmp_path)[0]
    assert () == system._time_zone({"TZ": "CET-1CEST"}, tmp_path)[1]
    assert ["time zone Mars/Olympus"] == [gap.subject for gap in system._time_zone({"TZ": "Mars/Olympus"}, tmp_path)[1]]


def test_what_the_command_inherits_is_told_and_not_changed(tmp_path: Path) -> None:
    script = (
        "import os, resource, sys; from pathlib import Path; from repro.record.capture import Context, system;"
        "from repro.evidence.objects import Objects; here = Path(sys.argv[1]);"
        "context = Context(argv=(), working_directory=here, root=here, environment={}, objects=Objects(here),"
        " cache=here, home=here); found = system.alongside(context);"
        "print([found.fact('environment', name) for name in ('umask', 'limit.nofile', 'nice', 'scheduling_policy')]);"
        "print(oct(os.umask(0)))"
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def prepare() -> None:
        os.umask(0o27)
        os.nice(3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))

    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], preexec_fn=prepare, capture_output=True, text=True, check=True
    )
    limit = "unlimited" if hard == resource.RLIM_INFINITY else hard
    nice = os.getpriority(os.PRIO_PROCESS, 0) + 3
    assert [str(["0027", f"200:{limit}", str(nice), "other"]), "0o27"] == done.stdout.splitlines()


def test_this_machine(tmp_path: Path, context) -> None:
    found = system.alongside(context(tmp_path))
    names = {fact.name for fact in found.facts}
    assert {"umask", "locale", "timezone", "nice", "limit.nofile", "limit.stack", "kernel_version"} <= names
    assert len(found.facts) == len(names)
