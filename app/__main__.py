"""``python -m app`` is ``gatecast``."""

from app.cli import main

main()
