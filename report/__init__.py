"""What `earful report` and `make demo` show: read from analytics_v1, laid out for a terminal or as JSON."""

from __future__ import annotations

from report.model import Report
from report.queries import DEFAULT_CALLS, DEFAULT_REVIEWS, read
from report.render import render

__all__ = ["DEFAULT_CALLS", "DEFAULT_REVIEWS", "Report", "read", "render"]
