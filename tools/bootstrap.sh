#!/bin/sh
# Finds a Python that is new enough and lets it run bootstrap.py; `sh tools/bootstrap.sh runtime|dev`.
# With everything in place this is one short start of .venv's own Python.
here=$(dirname "$0")
venv_python=$here/../.venv/bin/python
if [ -x "$venv_python" ] && "$venv_python" -I -S "$here/bootstrap.py" --is-fresh "$1" 2>/dev/null; then
    exit 0
fi
for candidate in "${MYBROKER_PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$candidate" -I "$here/bootstrap.py" "$1"
    fi
done
echo "mybroker needs Python 3.11 or newer and found none (Debian, Ubuntu: apt-get install python3 python3-venv;" \
    "or set MYBROKER_PYTHON=/path/to/python)" >&2
exit 1
