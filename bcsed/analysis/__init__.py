"""Diagnose score tables, trace pipelines, compare runs."""
