"""Leaving the middleware can hang; a process that has given everything else back ends all the same."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """What takes longer in here ends the process, with exit code 1 and the stack on stderr.

    Fast DDS can hang at 100 % CPU when a process leaves while others do: `DomainParticipantImpl::set_listener` waits in
    a busy loop for a discovery callback that needs its lock to end (Fast-DDS issue 6513; seen with the build of ROS 2
    from PyPI). Python's lock is held meanwhile, so that no Python thread and no signal handler could end it:
    `faulthandler` has a thread that does without.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
