#!/bin/sh
# Prints the first Python that can run Earful: $PYTHON if set, else python3.12, python3.11 or python3.
# If none can, says in one sentence why the likeliest one cannot, and fails.
why="Earful needs Python 3.11 or 3.12, and no python3 is on the PATH."
for python in ${PYTHON:-python3.12 python3.11 python3}; do
    command -v "$python" >/dev/null || continue
    if said=$("$python" "$(dirname "$0")/preflight.py" 2>&1); then
        command -v "$python"
        exit 0
    fi
    why=${said:-$why}
done
echo "$why" >&2
exit 1
