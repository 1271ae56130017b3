#!/usr/bin/env bash
# Node's BigQuery client for the end-to-end tests, where the machine has Node: from npm, as the lock file says, into the cache,
# once. Where it is is written to target/test-tools-node, which the tests read; empty without Node.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
tools=$root/target/test-tools-node

# The client's own demand.
wanted_node=20

client() {
  local key folder
  key=$(cat "$setup/node/package-lock.json" | sha256sum | cut -c 1-12)
  folder=$cache/node-$key
  if [ ! -e "$folder/complete" ]; then
    say "installing Node's BigQuery client from npm into $folder (once)" >&2
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$setup/node/package.json" "$setup/node/package-lock.json" "$folder"
    # No package needs its install scripts, so none is run.
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
      die "npm could not install the client; is the registry reachable?"
    touch "$folder/complete"
  fi
  printf '%s\n' "$folder/node_modules"
}

main() {
  local have
  mkdir -p "$root/target"
  have=$(node --version 2>/dev/null | tr -d v || true)
  if [ -z "$have" ] || ! command -v npm >/dev/null || ! at_least "$have" "$wanted_node"; then
    say "no Node $wanted_node or newer with npm here: tests leave its client out"
    : >"$tools"
    return
  fi
  alone_in_the_cache
  client >"$tools"
  say "Node $have with its BigQuery client"
}

main
