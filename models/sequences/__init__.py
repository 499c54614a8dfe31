"""Models that classify, regress or tag sequences."""
