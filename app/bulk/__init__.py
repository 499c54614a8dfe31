"""Forecasts of whole files that survive a kill: read, run, kept in a journal, put together."""
