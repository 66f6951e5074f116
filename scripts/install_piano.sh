#!/usr/bin/env bash
# Installs what the RoboPianist tasks need (extra "piano") into a Python environment.
#
#   scripts/install_piano.sh [--system] [PYTHON]
#
# PYTHON is the interpreter of the environment; default: $PYTHON, else .venv/bin/python.
# --system also installs the system libraries with apt-get, which needs root.
#
# Two steps, because pip cannot say --no-deps inside an extra: robopianist and note-seq ask for
# packages that need a C compiler and PortAudio, or have no wheel for Python 3.13, and that nothing
# here uses (plots, notebooks, loudspeakers).
set -euo pipefail
cd "$(dirname "$0")/.."

libraries=(libegl1 libosmesa6 libfluidsynth3)
system=no
python=${PYTHON:-.venv/bin/python}
for argument in "$@"; do
  case $argument in
    --system) system=yes ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "unknown option $argument; legal: --system, --help" >&2; exit 2 ;;
    *) python=$argument ;;
  esac
done
if ! "$python" -c 'import sys' 2>/dev/null; then
  echo "no Python at '$python': name the interpreter of an environment, or run 'make test' first" >&2
  exit 2
fi

if [ "$system" = yes ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "--system needs root: sudo apt-get install ${libraries[*]}" >&2
    exit 2
  fi
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install --yes "${libraries[@]}"
fi

"$python" -m pip install --disable-pip-version-check -c constraints.txt -e '.[piano]'
"$python" -m pip install --disable-pip-version-check --no-deps -c constraints.txt \
  robopianist dm-control dm-env-wrappers mujoco-utils note-seq pretty-midi
"$python" -c 'from steelyard.envs.robopianist_import import import_robopianist; import_robopianist()'

echo "RoboPianist is installed."
echo "System libraries: pictures need libegl1 (or libosmesa6), sound with a sound font libfluidsynth3:"
echo "  apt-get install ${libraries[*]}"
