"""``python -m app`` is ``gatecast``."""

from app.cli import main

if __name__ == "__main__":  # processes that this one starts import it, too
    main()
