"""Child processes that end with their parent, however it ends. Otherwise they would keep CPU, GPU and stdout.

A command is started through this module, which asks the kernel for a signal and then becomes the command:

    [sys.executable, "-m", "ros_ood_perception.parent_process", str(os.getpid()), *command]

A process of `multiprocessing` calls `end_with_parent` first.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

PR_SET_PDEATHSIG = 1
"""Option of Linux' `prctl`: a signal to this process when the thread that started it ends. It is kept over exec."""


def ends_with_this_process(command: list[str]) -> list[str]:
    """A command that gets SIGTERM when this process ends. Start it in the main thread, which the kernel watches."""
    return [sys.executable, "-m", "ros_ood_perception.parent_process", str(os.getpid()), *command]


def end_with_parent() -> None:
    """In a process that `multiprocessing` has spawned: end it at once when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        # A pipe that the parent holds open. The kernel closes it however the parent ends.
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main(arguments: list[str]) -> None:
    """Become a command. The arguments are the parent's process id and the command."""
    parent, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        # The parent ended before the kernel was asked.
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
