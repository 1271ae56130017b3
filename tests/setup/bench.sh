#!/usr/bin/env bash
# What `make bench` compares with: HAProxy. Without it the figures are taken all the same, and say that it is missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ -x /usr/sbin/haproxy ] && exit 0
# In a shell of its own: a machine that can't install it has figures all the same.
(apt_install haproxy) || say 'HAPROXY CAN NOT BE INSTALLED HERE: make bench will leave the comparison out'
