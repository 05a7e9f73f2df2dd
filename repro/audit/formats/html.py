"""The report as one HTML page: no script, no link, nothing loaded. It reads without colour and prints on A4."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2

from repro.audit.curves import HEIGHT, WIDTH, Plot, plot
from repro.audit.report import Curve, Report, Table
from repro.audit.visible import visible
from repro.audit.wording import size

SUFFIX = ".html"

_TEMPLATE: Final = Path(__file__).with_name("report.html.jinja")
_OPEN: Final = frozenset({"Checks", "Metrics, bit by bit", "Outputs", "Differences between record and replay", "Gaps"})
_OPEN_ROWS: Final = 40
"""A longer table is folded, whatever it holds."""
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z")
_REPORT_ID: Final = re.compile(r"[0-9a-f-]{1,40}")


def render(report: Report) -> bytes:
    """Return the page as UTF-8."""
    page = _template().render(
        report=report,
        plots=tuple(_plots(report)),
        width=WIDTH,
        height=HEIGHT,
        unfolded=_unfolded,
        # The one text that stands in the style sheet, where HTML's escapes do not hold.
        footer=report.report_id if _REPORT_ID.fullmatch(report.report_id) else "",
    )
    return page.encode("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"moment": _moment, "short": _short, "command": _command, "size": size, "clip": _clip}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _finalize(value: Any) -> Any:
    """Make text visible before it is escaped; markup of the template's own macros has been through here already."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else visible(value)


def _moment(iso: str) -> str:
    """Return `2026-11-20 14:03:22 UTC` for `2026-11-20T14:03:22.123456Z`, and anything else as it is."""
    found = _TIME.fullmatch(iso)
    return f"{found[1]} {found[2]} UTC" if found else iso or "not known"


def _short(digest: str) -> str:
    """Return the first 12 hexadecimal digits of a digest."""
    return digest.removeprefix("sha256:").removeprefix("blake3:")[:12] or "none"


def _clip(text: str) -> str:
    """Return a text at most 120 characters long: page one must stay one page."""
    return text if len(text) <= 120 else f"{text[:60]}…{text[-59:]}"


def _command(argv: tuple[str, ...]) -> str:
    """Return a command as a shell would be given it."""
    return shlex.join(argv) if argv else "not known"


def _unfolded(table: Table) -> bool:
    return table.title in _OPEN and len(table.rows) <= _OPEN_ROWS


def _plots(report: Report) -> Iterator[tuple[Curve, Plot]]:
    for curve in report.curves:
        original, replay = ([(step, float(value)) for step, value in side] for side in (curve.original, curve.replay))
        yield (
            curve,
            plot(original, replay, marker=curve.first_difference, steps=curve.step_function, last_step=curve.last_step),
        )
