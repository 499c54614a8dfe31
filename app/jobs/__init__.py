"""Bulk jobs: whole files that a process of their own forecasts while requests are answered."""
