#!/usr/bin/env bash
# What the end-to-end tests need: the Python BigQuery client, and a BigQuery emulator. Each is a virtual environment in the
# cache, named by what is pinned in it, made once. Where they are is written to target/test-tools, which the tests read.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
setup=$root/tests/setup
tools=$root/target/test-tools

# Nothing to do: made by these scripts from these lists, and the cache was not emptied since.
ready() {
  local newer path
  [ -e "$tools" ] || return 1
  newer=$(find "$setup" -type f -newer "$tools")
  [ -z "$newer" ] || return 1
  while IFS='=' read -r _ path; do
    case $path in /*) [ -e "$path" ] || return 1 ;; esac
  done <"$tools"
  grep -qx "asked_for=${BQWITNESS_EMULATOR:-}" "$tools"
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

# DuckDB would download its extensions at its first start; the signed files are on PyPI too, and it looks for them in HOME.
duckdb_home() {
  local folder=$1 extensions
  for extensions in "$folder"/lib/python3.*/site-packages/duckdb_extension_*/extensions/*; do
    local target=$folder/home/.duckdb/extensions/${extensions##*/}/$(duckdb_platform)
    mkdir -p "$target"
    ln -sf "$extensions"/*.duckdb_extension "$target/"
  done
  printf '%s\n' "$folder/home"
}

duckdb_platform() {
  case $(uname -m) in
    x86_64) echo linux_amd64 ;;
    aarch64) echo linux_arm64 ;;
    *) die "DuckDB has no extensions for $(uname -m); the emulator runs on x86_64 and aarch64" ;;
  esac
}

main() {
  first_python 3,11 >/dev/null || apt_install python3 python3-venv
  local python emulator emulator_python client folder home
  python=$(first_python 3,11) || die "no Python 3.11 or newer that can make virtual environments (package python3-venv)"
  # local-bigquery answers most like BigQuery, and needs 3.13; bqemulator runs on what Debian 12 has. BQWITNESS_EMULATOR
  # chooses one of them.
  emulator=${BQWITNESS_EMULATOR:-}
  if emulator_python=$(first_python 3,13); then
    : "${emulator:=local-bigquery}"
  else
    : "${emulator:=bqemulator}"
  fi
  case $emulator in
    local-bigquery) [ -n "$emulator_python" ] || die "local-bigquery needs a Python 3.13 or newer" ;;
    bqemulator) emulator_python=$python ;;
    *) die "BQWITNESS_EMULATOR is local-bigquery or bqemulator, not $emulator" ;;
  esac

  mkdir -p "$cache" "$root/target"
  exec 9>"$cache/lock"
  flock 9
  client=$(environment client "$python")
  folder=$(environment "$emulator" "$emulator_python")
  home=$(duckdb_home "$folder")
  cat >"$tools" <<EOF
asked_for=${BQWITNESS_EMULATOR:-}
client_python=$client/bin/python
emulator=$emulator
emulator_program=$folder/bin/$emulator
emulator_home=$home
EOF
}

ready || main
say "$(sed -n 's/^emulator=\(.*\)/Python client, and \1 as the BigQuery emulator/p' "$tools")"
