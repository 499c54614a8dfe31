"""The gateway process: HTTP to tensors and back."""
