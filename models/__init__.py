"""PyTorch: what the networks are, how they learn, how good they are."""
