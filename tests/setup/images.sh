#!/usr/bin/env bash
# Builds the Dockerfile's images where there is no registry, and runs each program in its image: as its user, on a root that can't be
# written. A base is made of Debian's packages, and the programs are those of target/debug: what is tried is everything of the
# Dockerfile but the compiler's stage. Needs root, and this machine must be of the base's Debian release, or older.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

base=localhost/bqwitness-base:trial
release=bookworm # that of DEBIAN in the Dockerfile

need() {
  [ "$(id -u)" = 0 ] || die "needs root: buildah's chroot isolation, mounts, a network namespace"
  local missing=()
  command -v buildah >/dev/null || missing+=(buildah)
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  command -v iptables >/dev/null || missing+=(iptables)
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

make_base() {
  buildah images -q "$base" 2>/dev/null | grep -q . && return
  say "making a base of Debian's packages ($release)"
  local container
  mmdebstrap --quiet --variant=minbase "$release" "$work/base.tar"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/base.tar" / >/dev/null
  buildah commit --quiet --rm "$container" "$base" >/dev/null
}

# The compiler's stage, without the compiler.
programs() {
  mkdir -p "$work/stage/out"
  for program in bqwitness bqwitness-{proxy,redirect,recorder,keeper,operator}; do
    strip -o "$work/stage/out/$program" "$root/target/debug/$program" ||
      die "$program is not built; run \`cargo build --workspace --bins\`"
  done
}

image() {
  say "building image $1"
  (cd "$root" && buildah bud --quiet --isolation chroot --pull-never --build-arg "DEBIAN=$base" \
    --build-context "build=$work/stage" --target "$1" -t "localhost/bqwitness-$1:trial" . >/dev/null)
}

# inside IMAGE USER NETWORK CAPABILITIES COMMAND...: on a root that can't be written.
inside() {
  local root_of container user=$2 network=$3 capabilities=$4 code=0
  container=$(buildah from --pull-never "localhost/bqwitness-$1:trial")
  root_of=$(buildah mount "$container")
  shift 4
  nsenter --net="$network" unshare --mount sh -c 'set -e; root=$1 user=$2 capabilities=$3; shift 3
    mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"; mount -t proc proc "$root/proc"
    exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --bounding-set="$capabilities" --no-new-privs "$@"' \
    sh "$root_of" "$user" "$capabilities" "$@" || code=$?
  buildah rm "$container" >/dev/null
  return $code
}

# Its programs say who they are; nobody in it becomes another user.
try_image() {
  local name=$1 user=$2 found
  shift 2
  [ "$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "localhost/bqwitness-$name:trial")" = "$user:$user" ] ||
    die "image $name is not user $user's"
  found=$(inside "$name" 0 /proc/self/ns/net -all,+dac_read_search find / -xdev -type f -perm /6000)
  [ -z "$found" ] || die "programs of image $name change their user: $found"
  found=$(inside "$name" 0 /proc/self/ns/net -all sh -c 'cd /usr/local/bin && echo *')
  [ "$found" = "$*" ] || die "image $name has the programs: $found"
  for program in "$@"; do
    inside "$name" "$user" /proc/self/ns/net -all "$program" --version
    inside "$name" "$user" /proc/self/ns/net -all "$program" --help >/dev/null
  done
}

# The rules are set, read back and tried, in a network of their own.
try_redirect() {
  local network=bqwitness-image-$$
  ip netns add "$network"
  trap 'ip netns del "$network"; rm -rf "$work"' EXIT
  ip -n "$network" link set lo up
  inside proxy 0 "/run/netns/$network" -all,+net_admin bqwitness-redirect --proxy-uid 61337 >&2
  ip netns exec "$network" iptables -t nat -S BQWITNESS | grep -q -- '--to-ports 15001' || die "no rules were set"
  ip netns del "$network"
  trap 'rm -rf "$work"' EXIT
}

main() {
  need
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  make_base
  programs
  for name in proxy recorder operator; do image "$name"; done
  try_image proxy 61337 bqwitness-proxy bqwitness-redirect
  try_image recorder 65532 bqwitness bqwitness-keeper bqwitness-recorder
  try_image operator 65532 bqwitness-operator
  try_redirect
  say "the images are as they should be; \`buildah rmi localhost/bqwitness-{proxy,recorder,operator,base}:trial\` takes them away"
}

main
