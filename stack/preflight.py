"""Checks, before anything is downloaded, that this machine can run the embedded stack.

Run by any Python 3 (`python3 stack/preflight.py`): says one sentence and exits 1 for the first thing that
is missing, prints nothing and exits 0 otherwise. It imports nothing but the standard library, and keeps
to old syntax, because it must be able to say that this Python is too old.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig

__all__ = ["home_problem", "libpython_folder", "problem"]

_PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def libpython_folder() -> str | None:
    """The folder of this Python's shared library, or None. Triton's Python stub is linked against it."""
    name = f"libpython{_version()}.so.1.0"
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        os.path.join(sys.base_prefix, "lib"),  # a relocated Python knows its LIBDIR wrongly
        "/usr/lib/x86_64-linux-gnu",  # Debian: package libpython3.x
    ]
    for folder in folders:
        if folder and os.path.exists(os.path.join(folder, name)):
            return str(folder)
    return None


def home_problem(home: str) -> str | None:
    """Why Triton cannot live in this folder, as one sentence, or None."""
    if re.fullmatch(r"[\w@%+=:./-]*", home, re.ASCII):
        return None
    return (
        "Triton's Python backend hands the name of its folder to a shell as it stands, and Kafka takes it for a list: "
        f"{home} may hold only ASCII letters, digits and @%+=:./_-; EARFUL_HOME=DIR names another folder."
    )


def _home() -> str:
    """Where the stack will live, as settings.py finds it."""
    named = os.environ.get("EARFUL_HOME")
    if not named and os.path.exists(".env"):
        with open(".env", encoding="utf-8", errors="replace") as file:
            lines = [line.partition("=") for line in file if line.startswith("EARFUL_HOME=")]
        named = lines[-1][2].strip().strip("\"'") if lines else None
    return os.path.abspath(named or os.path.join(_PROJECT, ".earful"))


def problem() -> str | None:
    """The first thing that is missing, as one sentence, or None."""
    version = _version()
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"Earful's embedded stack needs Linux on x86-64; this is {sys.platform} on {platform.machine()}."
    if version not in ("3.11", "3.12"):
        return f"Earful needs Python 3.11 or 3.12; {sys.executable} is {version}: install one, or name it with PYTHON=."
    libc, number = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in number.split(".")[:2]) < (2, 35):
        return f"Earful's Triton server needs glibc 2.35 or later; this system has {libc or 'another libc'} {number}."
    if libpython_folder() is None:
        return (
            f"Triton's Python backend needs libpython{version}.so, which {sys.executable} lacks: install the package "
            f"libpython{version} (Debian, Ubuntu), or a Python built with --enable-shared."
        )
    try:
        import ensurepip  # noqa: F401  # what `python -m venv` needs; Debian packs it apart
    except ImportError:
        return f"Python {version} cannot make virtual environments: install the package python{version}-venv."
    return home_problem(_home())


def _version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


if __name__ == "__main__":
    found = problem()
    if found is not None:
        sys.exit(found)
