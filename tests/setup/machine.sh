#!/usr/bin/env bash
# What the build needs from the machine: a C compiler (SQLite and aws-lc are C), make, public root certificates, and Rust.
# And, where root runs the tests, what they make network namespaces with. For Debian 12 or newer; a moment when all is there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
export PATH="$PATH:$HOME/.cargo/bin"

wanted_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

c_compiler() {
  if command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null; then return; fi
  apt_install build-essential
}

roots() { [ -e /etc/ssl/certs/ca-certificates.crt ] || apt_install ca-certificates; }

# The version of a cargo that runs. A rustup without a toolchain has a cargo that does not.
rust_version() { rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p'; }

rust() {
  local have
  have=$(cargo --version >/dev/null 2>&1 && rust_version || true)
  if [ -n "$have" ] && at_least "$have" "$wanted_rust"; then
    say "Rust $have"
    return
  fi
  # Debian's newest Rust, kept current by its security team; the package that is just called rustc is years older.
  apt_install rustc-web cargo-web || die "no Rust $wanted_rust or newer${have:+ (found $have)}. Where rustup is installed: \
'rustup default stable'. Where Debian's older rustc and cargo are: remove them and run this again. Else see https://rustup.rs."
  have=$(rust_version)
  [ -n "$have" ] && at_least "$have" "$wanted_rust" ||
    die "Rust ${have:-does not run} after the installation, and $wanted_rust is needed. See https://rustup.rs."
  say "Rust $have, installed from Debian"
}

# In a shell of its own: without them, tests are skipped, and say so.
namespaces() {
  [ "$(id -u)" = 0 ] || return 0
  if command -v ip >/dev/null && command -v iptables >/dev/null; then return; fi
  (apt_install iproute2 iptables) || say 'IPROUTE2 AND IPTABLES CAN NOT BE INSTALLED HERE: tests of redirected agents will be skipped'
}

c_compiler
roots
namespaces
rust
