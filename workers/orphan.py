"""A child process that does not outlive its parent, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["end_with"]

#: prctl(2): the signal that a process gets when the thread that started it ends, also by SIGKILL.
PR_SET_PDEATHSIG = 1
#: Loaded before any fork: after one, only this thread is there.
_libc = ctypes.CDLL(None, use_errno=True)


def end_with(parent: int, code: int = 1) -> None:
    """Called in the child: SIGTERM when the parent is gone; ends at once with this code if it is gone already."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(code)
