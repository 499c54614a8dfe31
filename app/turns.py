"""Work that waits, by whose it is, where everyone gets as much done as everyone else."""


class WaitingWork:
    """Steps that wait, by flow: a caller, or what else takes turns with others."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    def add(self, flow: str, steps: int) -> None:
        """Count work that waits from now on."""
        self.steps[flow] = self.steps.get(flow, 0) + steps

    def remove(self, flow: str, steps: int) -> bool:
        """Count work no more that was added; return whether the flow has none left."""
        left = self.steps[flow] - steps
        if left:
            self.steps[flow] = left
        else:
            del self.steps[flow]
        return not left

    def before(self, flow: str, steps: int) -> int:
        """Return the steps that are run before new work of ``flow`` can begin.

        While the flow's own work is done, every other flow gets as much, if it asks for that much.
        """
        own = self.steps.get(flow, 0)
        turn = own + steps
        return own + sum(min(turn, n) for name, n in self.steps.items() if name != flow)
