#!/usr/bin/env bash
# Java with its compiler, for the agent that is written in it (`java FILE.java`): Debian's package, where the machine has none. Without
# it, what is about Java is skipped, and says so.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if command -v java >/dev/null && command -v javac >/dev/null; then exit 0; fi
(apt_install default-jdk-headless) || say 'JAVA CAN NOT BE INSTALLED HERE: its trust store will not be tested'
