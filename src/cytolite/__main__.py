"""`python -m cytolite`, and the entry point of the `cytolite` command."""

from cytolite.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
