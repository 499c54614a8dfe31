"""The runner process: queue, batch, run."""
