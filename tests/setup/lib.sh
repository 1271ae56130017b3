# Shared by the setup scripts: how they speak, where they keep things, how they become root. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

setup=$root/tests/setup

# Outside the tree: a fresh clone, or `git clean`, finds it all again.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bqwitness

say() { printf 'setup: %s\n' "$*"; }

die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root for: $*. Run it as root, or install sudo."
  fi
}

# at_least HAVE WANT: is version HAVE the same as WANT, or newer?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Installs Debian packages, never removing another to make room.
apt_install() {
  command -v apt-get >/dev/null || die "this is no Debian (no apt-get); install the equivalents of: $*"
  say "installing Debian packages: $*"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-remove --no-install-recommends "$@" >/dev/null
}

# --- Python environments ---------------------------------------------------------------------------------------------

# One setup at a time works on the cache; the others wait.
alone_in_the_cache() {
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
}

need_python() {
  first_python 3,11 >/dev/null || apt_install python3 python3-venv
  first_python 3,11 >/dev/null || die "no Python 3.11 or newer that can make virtual environments (package python3-venv)"
}

# Every Python that may be here; a shim that only looks like one is weeded out by running it.
pythons() {
  printf '%s\n' python3.14 python3.13 python3.12 python3.11 python3
  if command -v pyenv >/dev/null; then ls -d "$(pyenv root)"/versions/3.*/bin/python3 2>/dev/null | sort -rV || true; fi
}

runs() { "$1" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < ($2))" 2>/dev/null; }

# first_python 3,13: the first one of at least that version that really runs and can make environments.
first_python() {
  local python
  while read -r python; do
    if runs "$python" "$1"; then
      "$python" -c 'import sys; print(sys.executable)'
      return
    fi
  done < <(pythons)
  return 1
}

# environment NAME PYTHON: prints the folder of an environment with the packages of NAME.txt, made if it isn't there.
# The list is whole (what `pip freeze` says), so nothing is resolved, and nothing is built from source.
environment() {
  local name=$1 python=$2 key folder
  key=$({ "$python" --version; cat "$setup/$name.txt"; } | sha256sum | cut -c 1-12)
  folder=$cache/$name-$key
  if [ ! -e "$folder/complete" ]; then
    say "installing $name from PyPI into $folder (once)" >&2
    rm -rf "$folder"
    "$python" -m venv "$folder" >&2
    "$folder/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: -r "$setup/$name.txt" >&2 ||
      die "pip could not install $name; is PyPI reachable?"
    touch "$folder/complete"
  fi
  printf '%s\n' "$folder"
}
