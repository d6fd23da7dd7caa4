# Shell helpers of the project's scripts. Source it; it defines functions only, and TOP, the top of the source tree.
# shellcheck shell=bash
# shellcheck disable=SC2034  # for those who source it
TOP=$(realpath -m "$(dirname "${BASH_SOURCE[0]}")/../..")
ME=$(basename "$0")

say() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { say "$*"; exit 1; }

# Prints a script's own leading comment: what --help shows.
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

# retry TIMES COMMAND...: for what depends on a network; waits a little longer after each failure.
retry() {
  local times=$1 i
  shift
  for ((i = 1; ; i++)); do
    "$@" && return
    ((i < times)) || return 1
    say "failed ($i of $times), again in $((i * 3)) s: $*"
    sleep $((i * 3))
  done
}

# wait_for SECONDS COMMAND...: polls until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

# need PROGRAM...: names all that is missing at once.
need() {
  local program missing=()
  for program; do command -v "$program" >/dev/null || missing+=("$program"); done
  ((${#missing[@]} == 0)) || die "missing: ${missing[*]} (contrib/deps installs what the project needs)"
}

# Where built helper programs, images and virtual machines are kept between runs.
linnet_cache() { printf '%s/linnet' "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}"; }
linnet_tools() { printf '%s' "${LINNET_TOOLS:-$(linnet_cache)/tools}"; }

# find_go MINOR: the path of a Go command that is at least 1.MINOR or, from 1.21 on, fetches what a module asks for.
find_go() {
  local go minor
  for go in "$(command -v go)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
    [ -x "$go" ] || continue
    minor=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if ((${minor:-0} >= $1 || ${minor:-0} >= 21)); then
      printf '%s' "$go"
      return
    fi
  done
  return 1
}

# end_process PID [SECONDS]: TERM, then KILL; returns when it is gone.
end_process() {
  local pid=$1 limit=${2:-10}
  kill "$pid" 2>/dev/null || return 0
  wait_for "$limit" process_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true # it may be nobody's child here
  wait_for 5 process_gone "$pid" || say "process $pid does not end"
}
# A zombie is gone: only its parent has not looked yet.
process_gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

# go_module NAME MODULE@VERSION...: makes the current directory a Go module that requires exactly these, and sets up the
# environment to build their commands as dependencies. (`go install command@version` would ask the proxy for version
# lists, which not every proxy gives.) Returns 77, the code for "skipped", where there is no usable Go.
go_module() {
  local name=$1 go need
  shift
  if ! go=$(find_go 26); then
    # Debian 12's own golang is too old to be worth its 500 MB; a machine with backports may have a newer one.
    if [ "$(id -u)" = 0 ] && dpkg --compare-versions "$(apt-cache policy golang 2>/dev/null |
      sed -n 's/.*Candidate: \([^ ]*:\)\?//p')" ge 1.21; then
      DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends golang >/dev/null || true
    fi
    go=$(find_go 26) || { say "missing: Go >= 1.26, or >= 1.21 which fetches it (found: $(go_found))"; return 77; }
  fi
  PATH=$(dirname "$go"):$PATH
  export PATH CGO_ENABLED=0 GOTOOLCHAIN=auto GOWORK=off GOFLAGS="-mod=mod -buildvcs=false -trimpath"
  {
    printf 'module linnet/%s\ngo 1.26\n' "$name"
    for need; do printf 'require %s %s\n' "${need%@*}" "${need#*@}"; done
  } >go.mod
}
go_found() { go version 2>/dev/null | awk '{ print $3 }' | grep . || echo none; }
