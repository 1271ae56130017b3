#!/usr/bin/env bash
# Writes go.mod and go.sum anew. Run by hand, to move to other versions: versions.sh KUBERNETES HELM, as in
# `versions.sh 1.36.3 4.2.4`. Helm must be one that is made for the same minor version of Kubernetes' libraries.
#
# Kubernetes' own go.mod asks for its "staging" modules (k8s.io/api and so on) at v0.0.0, which exists nowhere, and points
# to folders of its repository, which are no part of its module. A module that depends on it must say where they really
# are: for Kubernetes 1.N.P all are published as v0.N.P.
set -euo pipefail
cd "$(dirname "$0")"

kubernetes=${1:?which Kubernetes, as 1.36.3}
helm=${2:?which Helm, as 4.2.4}
export GOFLAGS=-mod=mod GOWORK=off

field() { sed -n "s/.*\"$1\": \"\(.*\)\",\{0,1\}/\1/p"; }
theirs=$(go mod download -json "k8s.io/kubernetes@v$kubernetes" | field GoMod)
etcd=$(sed -n 's|.*go.etcd.io/etcd/server/v3 \(v[^ ]*\).*|\1|p' "$theirs")
go=$(sed -n 's/^go //p' "$theirs")

{
  echo 'module bqwitness.dev/tests/cluster'
  printf '\n// Made by versions.sh.\ngo %s\n\n' "$go"
  echo 'require ('
  printf '\tgo.etcd.io/etcd/server/v3 %s\n' "$etcd"
  printf '\thelm.sh/helm/v4 v%s\n' "$helm"
  printf '\tk8s.io/kubernetes v%s\n' "$kubernetes"
  printf ')\n\nreplace (\n'
  sed -n 's|^[[:space:]]*\(k8s.io/[^ ]*\) => ./staging/.*|\1|p' "$theirs" |
    while read -r staging; do printf '\t%s => %s v0.%s\n' "$staging" "$staging" "${kubernetes#1.}"; done
  echo ')'
} >go.mod
rm -f go.sum
go mod tidy
