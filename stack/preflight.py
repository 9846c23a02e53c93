"""Checks, before anything is downloaded, that this machine can run the embedded stack.

Run by any Python 3 (`python3 stack/preflight.py`): prints one sentence and exits 1 for the first thing that
is missing, prints nothing and exits 0 otherwise. It imports nothing but the standard library, and keeps to
old syntax, because it must be able to say that this Python is too old.
"""

import os
import platform
import sys
import sysconfig

__all__ = ["libpython_folder", "problem"]


def libpython_folder():  # type: () -> str | None
    """The folder of this Python's shared library, or None. Triton's Python stub is linked against it."""
    name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
    base = sys.base_prefix
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        os.path.join(base, "lib"),  # a relocated Python knows its LIBDIR wrongly
        "/usr/lib/x86_64-linux-gnu",  # Debian: package libpython3.x
    ]
    for folder in folders:
        if folder and os.path.exists(os.path.join(folder, name)):
            return str(folder)
    return None


def problem():  # type: () -> str | None
    """The first thing that is missing, as one sentence, or None."""
    version = "%d.%d" % sys.version_info[:2]
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "Earful's embedded stack needs Linux on x86-64; this is %s on %s." % (sys.platform, platform.machine())
    if version not in ("3.11", "3.12"):
        return "Earful needs Python 3.11 or 3.12; %s is %s: install one, or name it with PYTHON=." % (
            sys.executable,
            version,
        )
    libc, number = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in number.split(".")[:2]) < (2, 35):
        return "Earful's Triton server needs glibc 2.35 or later; this system has %s %s." % (libc or "no glibc", number)
    if libpython_folder() is None:
        return (
            "Triton's Python backend needs libpython%s.so, which %s lacks: install the package libpython%s "
            "(Debian, Ubuntu), or a Python built with --enable-shared." % (version, sys.executable, version)
        )
    try:
        import ensurepip  # noqa: F401  # what `python -m venv` needs; Debian packs it apart
    except ImportError:
        return "Python %s cannot make virtual environments: install the package python%s-venv." % (version, version)
    return None


if __name__ == "__main__":
    found = problem()
    if found is not None:
        print(found)
        sys.exit(1)
