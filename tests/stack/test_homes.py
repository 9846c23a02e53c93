"""What a test session that was killed left behind is gone with the next."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from settings import PROJECT
from tests.homes import end_what_was_left, temporary_home

KILLED = """
import os, signal
from stack.process import Child
from tests.homes import temporary_home
with temporary_home() as home:
    child = Child("sleeper", home=home)
    child.start(["sleep", "600"], env={})
    print(home, child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_session_left_is_ended_and_removed() -> None:
    with temporary_home() as mine:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        home, pid = killed.stdout.split()
        assert psutil.pid_exists(int(pid))
        assert Path(home).is_dir()
        end_what_was_left.__wrapped__()
        assert not psutil.pid_exists(int(pid))
        assert not Path(home).exists()
        assert mine.is_dir(), "the owner lives"
