"""Every format keeps its promises: pure, deterministic, and hostile text stays text (threats 36, 37, 38).

A new file in repro/audit/formats is tested here without being named.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import types
import typing
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest

from repro import plugs
from repro.audit import formats
from repro.audit.report import (
    SCHEMA_VERSION,
    Check,
    Column,
    Counts,
    Curve,
    Finding,
    Light,
    Lineage,
    Report,
    Source,
    Step,
    Subject,
    Table,
    Trace,
    TracedAnchor,
    document,
    identified,
    parse,
)

FORMATS = plugs.names(formats)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg onload=alert(1)><desc>",
    "</title></style></svg></desc><iframe src=//evil.example>",
    "javascript:alert(1)",
    "<a href='http://evil.example/'>click</a>",
    "{{ 7*7 }}{% raw %}{{ config }}",
    "]]><!--",
    "&lt;b&gt;&#x3c;b&#x3e;",
    "url(http://evil.example/x.png)",
    "} * { background: url(//evil.example) }",
    "\x1b[2J\x1b]8;;http://evil.example\x07click",
    "a\u202egnp.exe\u2066",
    "line\nbreak\r\n\ttab\x00null",
    "=cmd|'/c calc'!A1",
    "-rf",
    "\ud800lone",
    "x" * 4096,
)


def subject(text: str) -> Subject:
    return Subject(
        run_id="a1b2c3d4e5f6",
        replay_of=text,
        command=(text, "train.py", text),
        root=text,
        working_directory=text,
        started_at=text,
        ended_at=text,
        wall_seconds=text,
        cpu_seconds=text,
        peak_memory_bytes=1,
        energy=text,
        lineage=Lineage(status="partial", tone="open", layers=text, sentence=text, why=(text,) * 6),
        outcome=text,
        manifest_sha256="sha256:" + "0" * 64,
        statement_sha256="",
        signed_by=(text,),
        signed_by_unknown=(text,),
        recorder_version=text,
    )


def made_of(text: str, *, lines: int = 2) -> Report:
    """Return a report in which every text that a run could have brought is the given one."""
    words = ("INTACT", "DID-NOT-MATCH", "UNDETERMINED")
    lights = tuple(
        Light(name=name, word=word, tone=tone, sentence=text, why=(text,) * 6)
        for name, word, tone in zip(("Record", "Replay", "Policy"), words, ("good", "bad", "open"), strict=True)
    )
    points = ((0, "1.5"), (1, "nan"), (2, "-inf"), (3, "0.25"))
    curve = Curve(
        process_key=text,
        name=text,
        dtype=text,
        original=points,
        replay=points[:1],
        original_steps=9,
        replay_steps=1,
        first_difference=3,
        step_function=False,
        last_step=3,
    )
    anchor = TracedAnchor(
        process_key=text,
        rank=None,
        anchor=text,
        original_steps=9,
        replay_steps=8,
        compared_steps=8,
        equal_steps=3,
        first_difference=3,
    )
    trace = Trace(
        tone="bad",
        sentence=text,
        facts=(("Where", text), (text, text)),
        notes=(text,),
        anchors=(anchor, dataclasses.replace(anchor, rank=1, first_difference=None)),
        anchors_left_out=2,
    )
    table = Table(
        title="Checks",
        note=text,
        columns=(Column(name=text, kind="code"), Column(name=text, kind="number")),
        rows=((text, text),) * lines,
        rows_left_out=3,
    )
    return identified(
        Report(
            schema_version=SCHEMA_VERSION,
            report_id="",
            reported_at="2026-11-20T16:00:00.000000Z",
            tool_version="0.1.0",
            subject=subject(text),
            replay=subject(text),
            lights=lights,
            findings=(
                Finding(level="act", title=text, details=(text,) * 6),
                Finding(level="look", title=text, details=()),
            ),
            sources=(
                Source(name=text, kind=text, file_count=10_000, size_bytes=2**28, digest=text, reference=text),
                Source(name=text, kind=text, file_count=1, size_bytes=0, digest=text, reference=None),
            ),
            sources_note=text,
            checks=(Check(name=text, outcome="passed", detail=text),),
            counts=Counts(passed=1, failed=0, undetermined=0),
            not_said=(text,),
            gaps=(text,) * 8,
            steps=(Step(title=text, text=text, commands=(text,)),),
            curves=(curve, dataclasses.replace(curve, step_function=True, first_difference=None)),
            curves_left_out=2,
            trace=trace,
            tables=(table, dataclasses.replace(table, title=text)),
        )
    )


def render(name: str, report: Report) -> bytes:
    return plugs.load(formats, name).render(report)


def test_there_are_formats():
    assert {"html", "json", "text"} <= set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_offers_what_the_protocol_asks(name):
    plug = plugs.load(formats, name)
    assert re.fullmatch(r"\.[a-z0-9.]+", plug.SUFFIX)
    assert plug.__doc__
    assert isinstance(plug.render(made_of("x")), bytes)


def test_no_two_formats_write_the_same_file():
    suffixes = [plugs.load(formats, name).SUFFIX for name in FORMATS]
    assert sorted(set(suffixes)) == sorted(suffixes)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_report_gives_the_same_bytes_in_another_process(name, tmp_path):
    report = made_of("größer <b>")
    (tmp_path / "report.json").write_bytes(render("json", report))
    program = (
        "import sys; from repro import plugs; from repro.audit import formats; from repro.audit.report import parse\n"
        "report = parse(open('report.json', 'rb').read())\n"
        f"sys.stdout.buffer.write(plugs.load(formats, {name!r}).render(report))"
    )
    environment = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Pacific/Auckland", "PYTHONPATH": str(Path.cwd())}
    other = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, check=True
    )
    assert other.stdout == render(name, report)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_or_direction_character_is_left(name, text):
    rendered = render(name, made_of(text)).decode("utf-8")
    found = {c for c in rendered if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}}
    assert found <= {"\n"}


class Skeleton(HTMLParser):
    """The elements and attributes of a page, without its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.shape: list[object] = []
        self.text: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.shape.append((tag, tuple(attrs)))

    def handle_endtag(self, tag):
        self.shape.append(tag)

    def handle_comment(self, data):
        self.shape.append(("comment", data))

    def handle_pi(self, data):
        self.shape.append(("instruction", data))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_37_hostile_text_adds_no_element_and_no_attribute(text):
    plain, hostile = Skeleton(render("html", made_of("plain"))), Skeleton(render("html", made_of(text)))
    assert plain.shape == hostile.shape
    assert len("".join(hostile.text)) > len(text)


def test_the_skeleton_would_see_an_element_and_an_attribute():
    plain = Skeleton(b"<p>x</p>").shape
    assert Skeleton(b"<p>x<b>y</b></p>").shape != plain
    assert Skeleton(b"<p onclick='x'>x</p>").shape != plain


def test_hostile_text_is_still_to_be_read():
    page = "".join(Skeleton(render("html", made_of("<script>alert(1)</script>\x1b[2J"))).text)
    assert r"<script>alert(1)</script>\x1b[2J" in page


def test_the_page_is_self_contained_and_runs_nothing():
    skeleton = Skeleton(render("html", made_of("x")))
    elements = [item for item in skeleton.shape if isinstance(item, tuple)]
    assert {tag for tag, _ in elements}.isdisjoint(
        {"script", "link", "iframe", "object", "embed", "img", "a", "form", "base", "use", "image", "foreignobject"}
    )
    names = {name for _, attributes in elements for name, _ in attributes}
    assert {name for name in names if name.startswith("on") or name in {"style", "href", "src", "xlink:href"}} == set()
    policy = next(dict(attributes) for tag, attributes in elements if dict(attributes).get("http-equiv"))
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    page = render("html", made_of("x")).decode()
    assert re.findall(r"https?://|@import|url\(|expression\(", page) == []


def test_every_element_of_the_page_is_closed():
    void = {"meta", "br", "circle", "path"}
    depth: list[str] = []
    for item in Skeleton(render("html", made_of("x"))).shape:
        if isinstance(item, str):
            if item not in void:
                assert depth.pop() == item
        elif item[0] not in void:
            depth.append(item[0])
    assert depth == []


def test_every_drawing_has_a_title_that_its_label_names():
    elements = [item for item in Skeleton(render("html", made_of("x"))).shape if isinstance(item, tuple)]
    ids = [dict(attributes)["id"] for _, attributes in elements if "id" in dict(attributes)]
    labels = " ".join(dict(attributes).get("aria-labelledby", "") for _, attributes in elements).split()
    assert sorted(labels) == sorted(ids)
    assert len(ids) == len(set(ids)) == 4


def test_the_style_sheet_takes_no_text_but_a_report_number():
    report = dataclasses.replace(made_of("x"), report_id='"; } </style><script>alert(1)</script>')
    page = render("html", report)
    assert b"<script>" not in page
    assert b'content: "Audit report "' in page


def test_no_light_is_told_by_colour_alone():
    text = "".join(Skeleton(render("html", made_of("x"))).text)
    for word in (
        "INTACT",
        "DID-NOT-MATCH",
        "UNDETERMINED",
        "Act",
        "Look",
        "passed",
        "failed",
        "could not be determined",
    ):
        assert word in text


@pytest.mark.parametrize("text", HOSTILE)
def test_json_reads_back_as_the_report_that_it_was_made_of(text):
    report = made_of(text)
    if "\ud800" in text:
        report = identified(made_of(text.replace("\ud800", "\\ud800")))
    assert parse(render("json", made_of(text))) == report


def test_json_is_ascii_and_holds_no_fraction():
    rendered = render("json", made_of("größer\u202e"))
    assert rendered.isascii()
    json.loads(rendered, parse_float=lambda token: pytest.fail(f"a fraction: {token}"))


def test_plain_text_has_page_one():
    text = render("text", made_of("zebra")).decode()
    for expected in (
        "Record: INTACT. zebra",
        "Replay: DID-NOT-MATCH.",
        "! zebra.",
        "1 passed, 0 failed",
        "and 3 more rows",
    ):
        assert expected in text


def test_plain_text_keeps_its_width_where_words_allow():
    text = render("text", made_of("several short words " * 30)).decode()
    page_one = text.partition("\nChecks\n")[0]
    assert max(map(len, (line for line in page_one.splitlines() if not line.startswith("      ")))) <= 100


def test_the_schema_and_the_dataclasses_name_the_same_things():
    from repro.evidence import schema

    found = schema.load("report-1")

    def same(hint: object, described: dict) -> None:
        described = found["$defs"][described["$ref"].rpartition("/")[2]] if "$ref" in described else described
        if isinstance(hint, types.UnionType):
            hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
            described = next((d for d in described.get("anyOf", ()) if d.get("type") != "null"), described)
            same(hint, described) if dataclasses.is_dataclass(hint) else None
        elif dataclasses.is_dataclass(hint):
            hints = typing.get_type_hints(hint)
            assert list(described["properties"]) == [f.name for f in dataclasses.fields(hint)] == described["required"]
            for name, kind in hints.items():
                same(kind, described["properties"][name])
        elif typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
            items = described["items"]
            same(typing.get_args(hint)[0], items if items != {"type": "object"} else described["allOf"][0]["items"])

    same(Report, found)


def test_every_field_of_the_report_is_in_its_document():
    assert list(document(made_of("x"))) == [field.name for field in dataclasses.fields(Report)]
