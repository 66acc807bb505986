# Shared by packaging/try and tests/run: steps told to the reader, what a machine needs, the build.
# shellcheck shell=bash

started=$SECONDS

step() { printf '\n== [%3ds] %s\n' "$((SECONDS - started))" "$*" >&2; }

die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# Installs Debian packages that are missing.
need_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null | grep -q '^ii' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "this needs: ${missing[*]}" 'install them with your distribution'"'"'s package manager'
  is_root || die "Debian packages are missing: ${missing[*]}" "sudo apt-get install ${missing[*]}"
  step "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
}

# A Rust of at least the version that Cargo.toml asks for.
need_rust() {
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  local wanted have
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  command -v cargo >/dev/null || die "cargo is missing; Rust $wanted or later is needed" 'install it with rustup (https://rustup.rs)'
  have=$(rustc --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -1)" = "$wanted" ] ||
    die "Rust $wanted or later is needed, this is $have" 'rustup update'
}

# The release binary; prints where it is.
build_release() {
  cargo build --release --locked --quiet >&2
  printf '%s/release/steading\n' "$(cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
}
