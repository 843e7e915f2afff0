# What the scripts share: installing what is missing, quickly when nothing is. Sourced, not run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }

# need_packages NAME...: installs those Debian packages that are missing; without root, names them and goes on.
need_packages() {
  local missing=() name
  for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    say "missing Debian packages, which only root can install: ${missing[*]}"
    return 1
  fi
  say "installing ${missing[*]}"
  mkdir -p "$root/build"
  # Debian starts a package's service at once; ours are started by those who need them, on loopback. invoke-rc.d(8)
  local veto=/usr/sbin/policy-rc.d vetoed=""
  if [ ! -e $veto ]; then printf '#!/bin/sh\nexit 101\n' >$veto && chmod 755 $veto && vetoed=yes; fi
  # Two scripts at once would meet at apt's lock; it waits for the other instead of failing.
  local apt=(apt-get -o DPkg::Lock::Timeout=300 -qq)
  if ! { DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
         { "${apt[@]}" update &&
           DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; }; } \
       >"$root/build/apt.log" 2>&1 </dev/null; then
    [ -z "$vetoed" ] || rm -f $veto
    tail -n 20 "$root/build/apt.log" >&2
    say "apt-get could not install: ${missing[*]}"
    return 1
  fi
  [ -z "$vetoed" ] || rm -f $veto
}

# What the wheel is made from, as one hash: it is built again only when that changes.
sources() {
  (cd "$root" && find pyproject.toml README.md pyrkt specs -type f ! -path '*/__pycache__/*' ! -path 'pyrkt/stage1/stage1' \
     ! -path 'pyrkt/stage1/launcher' ! -path 'pyrkt/runtime/interpreter-*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64)
}

# need_venv [GROUP]: makes .venv and installs the wheel (stage1 is compiled on the way) and, asked, the group's tools.
need_venv() {
  local group=${1:-} stamp=$venv/.wheel want="" python=/usr/bin/python3 tools=""
  [ -z "$group" ] || tools=$(sha256sum <"$root/pyproject.toml")
  [ "$(cat "$venv/.group" 2>/dev/null)" != "$tools" ] || tools=""
  if [ -x "$venv/bin/pip" ] && [ -z "$tools" ]; then
    # In a tree set up by scripts/develop the package is a link to the sources: nothing to install.
    [ -L "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pyrkt" ] && return 0
    want=$(sources)
    [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return 0
  fi
  if ! mkdir -p "$root/build" 2>/dev/null || [ ! -w "$root/build" ] || { [ -e "$venv" ] && [ ! -w "$venv" ]; }; then
    say "$root is not yours to write to: run this as its owner, or in a copy of your own"
    return 1
  fi
  [ -x "$python" ] || python=python3
  if [ ! -x "$venv/bin/pip" ]; then
    # A venv without pip is what is left where python3-venv is missing.
    rm -rf "$venv"
    logged "make $venv" "$python" -m venv "$venv" || { rm -rf "$venv"; return 1; }
  fi
  local pip=("$venv/bin/pip" --quiet --disable-pip-version-check)
  if [ -n "$tools" ]; then
    say "installing the development tools"
    # PEP 735 groups are younger than Debian's pip.
    "$venv/bin/python" - "$root/pyproject.toml" "$group" >"$root/build/$group.txt" <<'PY' || return 1
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print("\n".join(tomllib.load(file)["dependency-groups"][sys.argv[2]]))
PY
    logged "install the tools" "${pip[@]}" install wheel -r "$root/build/$group.txt" || return 1
    printf '%s\n' "$tools" >"$venv/.group"
    [ -L "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pyrkt" ] && return 0
  fi
  [ -n "$want" ] || want=$(sources)
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return 0
  say "building and installing the wheel"
  logged "build the wheel" "${pip[@]}" install wheel &&
    logged "build the wheel" "${pip[@]}" install --force-reinstall --no-deps "$root" &&
    logged "install what the wheel needs" "${pip[@]}" install "$root" || return 1
  printf '%s\n' "$want" >"$stamp"
}

# logged WHAT COMMAND...: runs the command quietly; if it fails, says what could not be done and where the reason is.
logged() {
  local what=$1 log=$root/build/venv.log words; shift
  "$@" >"$log" 2>&1 </dev/null && return 0
  # The first complaint of the program that failed; pip's own come around it and say that something did.
  words=$(grep -v -i -E 'subprocess|pip|wheel' "$log" | grep -i -m 1 -E 'not set|not available|no such file|error:' ||
            tail -n 1 "$log")
  words=$(printf '%s' "$words" | sed 's/^[[:space:]]*//')
  say "could not $what: ${words:-it said nothing} (all of it: $log)"
  return 1
}
