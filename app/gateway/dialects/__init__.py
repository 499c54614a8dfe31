"""Adapters for clients of other forecast APIs; each is one thin file over the same core."""
