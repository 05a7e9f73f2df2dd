"""The report as JSON, as schemas/report-1.json describes it: ASCII, indented, keys in the order of the report."""

from __future__ import annotations

import json

from repro.audit.report import Report, document

SUFFIX = ".json"


def render(report: Report) -> bytes:
    """Return the report as a JSON document."""
    return (json.dumps(document(report), indent=1) + "\n").encode("ascii")
