"""Figures of a report: matplotlib Figure objects turned into inline SVG."""
