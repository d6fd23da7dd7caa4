# What the scripts here share: a daemon of their own, an image, checks that count. Source it inside contrib/lib/isolated.
# shellcheck shell=bash
. "$LINNET_SOURCE_DIR/contrib/lib/common.sh"
[ -n "${LINNET_ISOLATED:-}" ] || die "run this by contrib/lib/isolated"
bin=$LINNET_BIN_DIR
work=$(mktemp -d /tmp/linnet-test-XXXXXX)
failed=0
declare -A daemon=()

# check DESCRIPTION COMMAND...: goes on after a failure; `finish` tells.
check() {
  local what=$1
  shift
  if "$@" >"$work/check.out" 2>&1; then
    echo "ok    $what"
  else
    echo "FAIL  $what"
    tail -c 4000 "$work/check.out" | sed 's/^/      /'
    failed=$((failed + 1))
  fi
}
# is EXPECTED COMMAND...: the command succeeds and prints exactly this.
is() {
  local expected=$1 got
  shift
  got=$("$@") || { echo "exit code $?: $got"; return 1; }
  [ "$got" = "$expected" ] || { printf 'expected: %s\ngot:      %s\n' "$expected" "$got"; return 1; }
}
# fails CODE PATTERN COMMAND...: the command ends with this code, and what it says matches.
fails() {
  local code=$1 pattern=$2 said rc=0
  shift 2
  said=$("$@" 2>&1) || rc=$?
  [ "$rc" = "$code" ] && grep -qE -- "$pattern" <<<"$said" || { printf 'exit code %s: %s\n' "$rc" "$said"; return 1; }
}

# Each daemon NAME has root, state and socket below $work/NAME.
start_daemon() {
  local name=$1
  mkdir -p "$work/$name/net.d"
  printf '[network]\nconf_dir = "%s"\n' "$work/$name/net.d" >"$work/$name/linnet.toml"
  "$bin/linnetd" --config "$work/$name/linnet.toml" --root "$work/$name/root" --state "$work/$name/state" \
    --socket "$work/$name/linnet.sock" >>"$work/$name/log" 2>&1 &
  daemon[$name]=$!
  wait_for 20 answers "$name" || { tail -20 "$work/$name/log"; die "daemon $name does not answer"; }
}
answers() { "$bin/linnet" --address "$work/$1/linnet.sock" version; }
kill_daemon() {
  kill -KILL "${daemon[$1]}"
  wait "${daemon[$1]}" 2>/dev/null || true
}
# The command line for a daemon.
on() {
  local name=$1
  shift
  "$bin/linnet" --address "$work/$name/linnet.sock" "$@"
}

# A root file system with busybox and a page for its web server.
make_rootfs() {
  local root=$work/rootfs applet
  mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,root,www}
  cp "$(readlink -f "$(command -v busybox)")" "$root/bin/busybox"
  for applet in $(busybox --list); do [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"; done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  echo 'a page from the pod' >"$root/www/index.html"
  tar --numeric-owner --owner=0 --group=0 -C "$root" -cf "$work/rootfs.tar" .
}
fetch() { curl -fsS --max-time 5 "$@"; }
census() { "$LINNET_SOURCE_DIR/contrib/lib/census" --settled; }
census_is() { diff "$1" <(census); }

finish() {
  local name
  for name in "${!daemon[@]}"; do end_process "${daemon[$name]}" 10; done
  if ((failed)); then
    for name in "${!daemon[@]}"; do echo "-- log of daemon $name"; tail -40 "$work/$name/log"; done
  fi
  rm -rf --one-file-system "$work"
  printf '%d failed\n' "$failed"
  exit $((failed > 0))
}
trap finish EXIT
