"""The command line, `discl`. Imports the heavy parts only when a command needs them."""

from infra.cli.app import main

__all__ = ["main"]
