"""Whether this gateway is draining; set once, by the signal to stop."""


class Drain:
    """A one-way switch: from then on readiness is red and connections are told to close."""

    def __init__(self) -> None:
        self.is_draining = False

    def begin(self) -> None:
        """Start to drain."""
        self.is_draining = True
