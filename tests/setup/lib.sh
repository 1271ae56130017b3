# Shared by the setup scripts: how they speak, where they keep things, how they become root. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

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
