# Makes .venv what pyproject.toml asks for; sourced by the scripts beside it, with $root set.
#
# ensure_environment [GROUP...]   installs atlas and these dependency groups into $root/.venv: with uv where
# it is there, else with venv and pip. Says nothing and touches nothing when that was done before. Whatever
# it prints goes to standard error. Plain POSIX sh, for Linux and macOS.

venv=${root:?}/.venv
python=$venv/bin/python

ensure_environment() {
  fingerprint="$root $(cat "$root/pyproject.toml" "$root/uv.lock" | cksum)"
  if is_ready run "$@"; then return 0; fi
  echo "Setting up $venv${*:+ with $*} (this takes a moment, once)" >&2
  quiet=--quiet
  if [ -t 2 ]; then quiet=; fi
  install_with_uv "$@" || install_with_pip "$@" || return 1
  # A process that may write no bytecode (PYTHONDONTWRITEBYTECODE) would compile everything at each start.
  "$python" -m compileall -q "$root/src" >&2 || return 1
  for group in run "$@"; do echo "$fingerprint" >"$venv/.ready-$group"; done
}

is_ready() {
  [ -x "$python" ] || return 1
  for group in "$@"; do
    [ "$(cat "$venv/.ready-$group" 2>/dev/null)" = "$fingerprint" ] || return 1
  done
}

install_with_uv() {
  command -v uv >/dev/null 2>&1 || return 1
  (
    unset VIRTUAL_ENV
    for group in "$@"; do
      set -- "$@" --group "$group"
      shift
    done
    cd "$root" &&
      UV_PROJECT_ENVIRONMENT=.venv uv sync ${quiet:+"$quiet"} --frozen --inexact --compile-bytecode --no-default-groups "$@" </dev/null >&2
  ) || {
    echo "uv could not do it; trying pip" >&2
    return 1
  }
}

install_with_pip() {
  if ! usable "$python" || ! { has_pip || "$python" -m ensurepip >/dev/null 2>&1; }; then
    base=$(find_python) || return 1
    "$base" -m venv --clear "$venv" || return 1
  fi
  (
    for group in "$@"; do
      set -- "$@" --group "$group"
      shift
    done
    cd "$root" &&
      "$python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" </dev/null >&2 &&
      "$python" -m pip install ${quiet:+"$quiet"} --disable-pip-version-check --editable . "$@" </dev/null >&2
  )
}

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

has_pip() { "$python" -m pip --version >/dev/null 2>&1; }

find_python() {
  without_venv=
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    usable "$name" || continue
    if "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      echo "$name"
      return 0
    fi
    without_venv=$name
  done
  if [ -n "$without_venv" ]; then
    echo "error: $without_venv comes without its venv module" >&2
    echo "hint: apt-get install python3-venv, or install uv" >&2
  else
    echo "error: no Python 3.11 or newer found (looked for python3, python3.14 ... python3.11, python)" >&2
    echo "hint: install one, or uv, which brings its own" >&2
  fi
  return 1
}
