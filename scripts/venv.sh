# Sourced by demo, test and the like, in the checkout's top folder: make_venv [EXTRA] makes .venv or brings it up to date.
# What was installed is remembered by a hash of pyproject.toml, so that a second run starts at once.

find_python() {
  local python
  for python in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$python"; return; }
  done
  echo "$0: no Python 3.11 or later found; install python3 (with venv), or name one in PYTHON" >&2
  return 1
}

make_venv() {
  local extra="${1:-}" python stamp
  stamp="$(cksum pyproject.toml momentum_push/__init__.py | tr -d '\n') ${extra}"
  if [ -x .venv/bin/python ] && grep -qxF "$stamp" .venv/.installed 2>/dev/null; then
    return
  fi
  python="$(find_python)"
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$python" -m venv --clear .venv || {
      echo "$0: cannot make .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2
      return 1
    }
  fi
  echo "$0: installing into .venv …" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}" >&2
  echo "$stamp" >> .venv/.installed
}
