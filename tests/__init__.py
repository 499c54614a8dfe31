"""Tests, and what benchmarks share with them."""
