#!/usr/bin/env bash
# What the end-to-end tests need: the Python BigQuery client, a BigQuery emulator, and GoogleSQL's parser. Each is a virtual environment in the
# cache, named by what is pinned in it, made once. Where they are is written to target/test-tools, which the tests read.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
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
  local python emulator emulator_python client folder home parser other other_python other_folder
  need_python
  python=$(first_python 3,11)
  # local-bigquery answers most like BigQuery, and needs 3.13; bqemulator runs on what Debian 12 has. BQWITNESS_EMULATOR
  # chooses one of them.
  emulator=${BQWITNESS_EMULATOR:-}
  if emulator_python=$(first_python 3,13); then
    : "${emulator:=local-bigquery}"
  else
    : "${emulator:=bqemulator}"
  fi
  # Some tests ask both.
  case $emulator in
    local-bigquery) other=bqemulator other_python=$python ;;
    *) other=local-bigquery other_python=$emulator_python ;;
  esac
  case $emulator in
    local-bigquery) [ -n "$emulator_python" ] || die "local-bigquery needs a Python 3.13 or newer" ;;
    bqemulator) emulator_python=$python ;;
    *) die "BQWITNESS_EMULATOR is local-bigquery or bqemulator, not $emulator" ;;
  esac

  mkdir -p "$root/target"
  alone_in_the_cache
  client=$(environment client "$python")
  folder=$(environment "$emulator" "$emulator_python")
  home=$(duckdb_home "$folder")
  if [ -n "$other_python" ]; then other_folder=$(environment "$other" "$other_python"); fi
  [ -n "${other_folder:-}" ] || say "NO PYTHON 3.13 HERE, WHICH $other NEEDS: tests against it will be skipped"
  parser=$(environment zetasql "$python") || say 'NO GOOGLESQL PARSER HERE: its test will be skipped'
  cat >"$tools" <<EOF
asked_for=${BQWITNESS_EMULATOR:-}
client_python=$client/bin/python
${parser:+parser_python=$parser/bin/python}
emulator=$emulator
emulator_program=$folder/bin/$emulator
emulator_home=$home
${other_folder:+other_emulator=$other
other_emulator_program=$other_folder/bin/$other
other_emulator_home=$(duckdb_home "$other_folder")}
EOF
}

ready || main
say "$(sed -n 's/^emulator=\(.*\)/Python client, and \1 as the BigQuery emulator/p' "$tools")"
