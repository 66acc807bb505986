# shellcheck shell=bash disable=SC2154 # common.sh and testbed set what is not set here
# Base trees: a Debian of one suite, made once and then only read.

tree_packages=(
  systemd systemd-sysv libpam-systemd libnss-systemd dbus dbus-user-session uidmap passwd login util-linux mount
  procps iproute2 less ca-certificates strace postgresql-client docker-registry crun
)

# What the benchmark compares with, in a tree of its own: it is half as big again.
peer_packages=(podman passt netavark aardvark-dns bubblewrap redis-tools)

# Every package of the tree that is meant.
packages() {
  printf '%s\n' "${tree_packages[@]}"
  [[ $peers == no ]] || printf '%s\n' "${peer_packages[@]}"
}

# Everything that makes a tree is in its name, so a changed recipe never meets an old tree.
tree_path() {
  local key
  key=$({
    printf '%s\n' "$suite" "$(dpkg --print-architecture 2>/dev/null || uname -m)"
    packages
    declare -f make_tree
    cat "$here/customize"
  } | sha256sum)
  printf '%s' "$cache/trees/$tree_kind-${key:0:16}"
}

# Prints an apt source line for Debian as this computer's own apt reaches it.
debian_source() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg site
  if [[ ! -e /usr/share/keyrings/debian-archive-$suite-automatic.gpg ]]; then
    say "installing the current Debian archive keys (those here do not know $suite)"
    apt_install debian-archive-keyring
    [[ -e /usr/share/keyrings/debian-archive-$suite-automatic.gpg ]] ||
      die "the package debian-archive-keyring here is too old for $suite, so its signatures cannot be checked" "enable this computer's -updates suite, then: apt-get install debian-archive-keyring"
  fi
  # The suite is not asked for: any Debian archive that is configured carries all of them.
  site=$(debian_site)
  if [[ -z $site ]]; then
    apt-get update >&2
    site=$(debian_site)
  fi
  [[ -n $site ]] || die "apt is configured with no Debian archive" "set TESTBED_MIRROR to the URL of one"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$site" "$suite"
}

debian_site() {
  if [[ -n ${TESTBED_MIRROR:-} ]]; then
    printf '%s' "$TESTBED_MIRROR"
    return
  fi
  local sites
  # shellcheck disable=SC2016 # apt itself fills in the field
  mapfile -t sites < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian')
  printf '%s' "${sites[0]:-}"
}

apt_install() {
  # Another part of a test run may be installing something too.
  local -a install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends)
  "${install[@]}" "$@" >&2 && return
  apt-get update >&2
  "${install[@]}" "$@" >&2
}

need_command() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null || die "'$1' is missing and there is no apt-get to install it" "install the package that has it"
  say "installing $2"
  apt_install "$2"
}

# Sets `tree` to a complete base tree, making it when there is none.
ensure_tree() {
  tree=$(tree_path)
  [[ -d $tree ]] && return
  exec 8>"$cache/lock/tree-$tree_kind"
  flock 8
  if [[ ! -d $tree ]]; then
    need_command mmdebstrap mmdebstrap
    say "making the $tree_kind tree (about 40 s, cached afterwards)"
    local part
    # Leavings of a run that was killed; the lock says that nobody is at work on them.
    for part in "$cache/trees/$tree_kind-"*.part; do
      rm -rf --one-file-system "$part"
    done
    make_tree "$tree.part"
    mv -T "$tree.part" "$tree"
    prune_trees
  fi
  exec 8>&-
}

make_tree() {
  local source log=$cache/trees/$tree_kind.log
  local -a proxy=()
  source=$(debian_source)
  # mmdebstrap does not read this computer's apt configuration; a proxy is the one thing it would miss.
  local name value
  for name in Acquire::http::Proxy Acquire::https::Proxy; do
    value=$(apt-config dump --format '%v%n' "$name" 2>/dev/null || true)
    [[ -z $value ]] || proxy+=("--aptopt=$name \"$value\"")
  done
  # In a mount namespace of its own: whatever it mounts goes with it, even when it is killed.
  if ! unshare --mount --propagation private mmdebstrap --mode=root --variant=minbase --format=directory \
    --include="$(packages | paste -sd,)" \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' "${proxy[@]}" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='force-unsafe-io' \
    --customize-hook="$here/customize" "$suite" "$1" "$source" >"$log" 2>&1 </dev/null 8>&- 9>&-; then
    tail -n 30 "$log" >&2
    die "making the $tree_kind tree failed" "the whole log is in $log"
  fi
}

# Old trees go once no machine's state lies on them.
prune_trees() {
  local old user used
  for old in "$cache/trees/$tree_kind-"*; do
    [[ -d $old && $old != "$tree" && $old != *.part ]] || continue
    used=no
    for user in "$cache/state/$suite"*/tree; do
      if [[ -e $user && $(<"$user") == "${old##*/}" ]]; then used=yes; fi
    done
    [[ $used == yes ]] || rm -rf --one-file-system "$old"
  done
}
