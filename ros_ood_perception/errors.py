"""The base class of the errors that this package raises on purpose."""

from __future__ import annotations


class PerceptionError(Exception):
    """An error with a message for the user: it names the file, field and value, and the remedy.

    A command catches this one class (and `OSError`), prints the message and ends with an exit code. Any other exception
    is a fault in the program and shows its traceback.
    """
