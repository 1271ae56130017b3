#!/usr/bin/env bash
# promtool, which tests alerts: out of Debian's package prometheus, whose server is not installed with it. Where it is is written to
# target/test-tools-promtool, which the tests read.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
tools=$root/target/test-tools-promtool

unpack() {
  local folder=$1 work
  command -v apt-get >/dev/null || die "this is no Debian (no apt-get); put promtool of Prometheus on the PATH"
  say "unpacking promtool of Debian's package prometheus into $folder (once)" >&2
  rm -rf "$folder"
  mkdir -p "$folder"
  work=$(mktemp -d)
  as_root apt-get update -qq >&2
  # Into a folder of apt's own user, as it asks for.
  chmod 755 "$work"
  (cd "$work" && apt-get download -qq prometheus >&2) || die "Debian's package prometheus could not be downloaded"
  dpkg-deb -x "$work"/prometheus_*.deb "$work/tree"
  cp "$work/tree/usr/bin/promtool" "$folder/promtool"
  rm -rf "$work"
  "$folder/promtool" --version >/dev/null 2>&1 || die "the promtool of Debian's package does not run here"
  touch "$folder/complete"
}

main() {
  local folder
  mkdir -p "$root/target"
  if command -v promtool >"$tools"; then return; fi
  folder=$cache/promtool-$(. /etc/os-release && printf '%s' "${VERSION_ID:-unknown}")-$(uname -m)
  alone_in_the_cache
  [ -e "$folder/complete" ] || unpack "$folder"
  printf '%s\n' "$folder/promtool" >"$tools"
}

main
