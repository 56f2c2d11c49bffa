"""`python -m maekit` is `mae`."""

from maekit.cli import console

if __name__ == "__main__":
    console()
