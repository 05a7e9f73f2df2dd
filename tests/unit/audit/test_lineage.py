"""What a reader is told where files may have been read that no record names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit.compose import build
from repro.audit.diff import diff
from repro.audit.formats import html, text
from repro.audit.lineage import lineage
from repro.audit.verdict import Word, exit_code, judge
from repro.evidence.model import Fact


def stating(record, status, *gaps, layers="agent"):
    """Return a record with another lineage."""
    others = tuple(f for f in record.facts if f.topic != "data")
    words = {"lineage": status, "lineage_layers": layers} if status else {}
    said = tuple(Fact(topic="data", name=name, value=value, source="observed") for name, value in words.items())
    return replace(record, facts=(*others, *said), gaps=(*record.gaps, *gaps))


def report(examined, original, replay):
    first, second = examined(original), examined(replay)
    verdict, compared = judge(original, replay), diff(original, replay)
    return build(first, second, verdict, compared, attested=(), reported_at="2026-11-20T16:00:00.000000Z")


def test_a_complete_lineage_leaves_no_caveat(make):
    assert judge(make.original(), make.replay()).caveats == ()
    assert lineage(make.original()).status == "complete"


@pytest.mark.parametrize(
    ("status", "told", "tone"),
    [
        ("partial", "partial", "open"),
        ("none", "none", "bad"),
        (None, "unknown", "open"),
        ("perfect", "unknown", "open"),
    ],
)
def test_what_is_not_complete_is_never_told_as_complete(make, status, told, tone):
    found = lineage(stating(make.original(), status))
    assert (found.status, found.tone) == (told, tone)


def test_a_status_that_the_gaps_contradict_is_not_believed(make):
    found = lineage(stating(make.original(), "complete", make.gap("lineage", "io_uring", "one process used it")))
    assert (found.status, found.why) == ("partial", ("io_uring: one process used it",))


def test_a_record_that_cannot_be_read_has_no_known_lineage():
    assert lineage(None).status == "unknown"


def test_a_partial_lineage_changes_no_word_and_is_said_beside_it(make):
    original = stating(make.original(), "partial", make.gap("lineage", "kernel", "no kernel layer"))
    verdict = judge(original, make.replay(original))
    assert (verdict.word, exit_code(verdict)) == (Word.MATCHED_EXACTLY, 0)
    assert len(verdict.caveats) == 2, "of the original and of the replay"
    assert "no kernel layer" in verdict.caveats[0]


def test_page_one_says_that_inputs_may_have_gone_unseen(make, examined):
    original = stating(make.original(), "partial", make.gap("lineage", "kernel", "no kernel layer"))
    made = report(examined, original, make.replay(original))
    light = next(light for light in made.lights if light.name == "Replay")
    assert light.word == "MATCHED-EXACTLY"
    assert [why for why in light.why[:4] if "may have gone unseen" in why], "among those that the page shows"
    checks = {check.name: check for check in made.checks}
    assert checks["Lineage of the record"].outcome == "undetermined"
    found = next(f for f in made.findings if "may have read files" in f.title)
    assert (found.level, found.details) == ("look", ("kernel: no kernel layer",))
    assert not [f for f in made.findings if f.title.startswith("Not everything") and "kernel" in str(f.details)]
    for form in (html, text):
        assert b"lineage partial" in form.render(made).lower()


def test_a_run_that_nobody_watched_needs_an_answer(make, examined):
    original = stating(make.original(), "none")
    made = report(examined, original, make.replay(original))
    assert [f.level for f in made.findings if "may have read files" in f.title] == ["act", "act"]


def test_datasets_come_first_the_largest_at_the_top(make, examined):
    sets = tuple(make.dataset(f"set{n}", n + 2, str(n)) for n in range(20))
    original = replace(make.original(), datasets=(*sets, make.dataset("hf:org/name", 1, "h", reference="org/name@1")))
    made = report(examined, original, make.replay(original))
    assert [s.name for s in made.sources][:2] == ["set19", "set18"]
    assert made.sources_note.startswith("9 smaller datasets and 2 files of no dataset")
    table = next(t for t in made.tables if t.title == "Datasets")
    assert len(table.rows) == 21
    page = html.render(made).decode()
    assert page.index("set19") < page.index("Findings that need a person")


def test_the_annex_names_what_lies_under_the_code(make, examined):
    original = replace(
        make.original(),
        package_changes=(make.edit("numpy", "/v/numpy/core.py"),),
        programs=(make.program("/bin/sox"), make.program("/bin/sox", ordinal=1)),
        shared_objects=(make.library("/l/libcudnn.so.9", "abcd", "nvidia-cudnn-cu12 9.1"),),
        system_packages=(make.system_package("libc6", "2.36"),),
        facts=(*make.original().facts, *make.facts("hardware", energy_joules="1234.5", energy_source="rapl")),
    )
    made = report(examined, original, make.replay(original))
    tables = {table.title: table.rows for table in made.tables}
    assert tables["Installed files that were edited"][0][:3] == ("numpy", "/v/numpy/core.py", "changed")
    assert tables["Programs that were executed"][0][:2] == ("/bin/sox", "2")
    assert tables["Libraries that were mapped"][0][:3] == ("nvidia-cudnn-cu12 9.1", "libcudnn.so.9", "abcd")
    assert tables["Packages of the operating system"][0][:3] == ("dpkg", "libc6", "2.36")
    assert made.subject.energy == "1,234 J (rapl)"
    assert [f for f in made.findings if "edited after installation" in f.title]
