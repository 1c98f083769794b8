#!/usr/bin/env bash
# Builds every fuzz target with the stable toolchain, and runs each for SECONDS. Fails on a crash, a hang or a leak of memory.
#   fuzz/run.sh SECONDS [TARGET…]
# Findings are left in fuzz/artifacts/TARGET/, what was learnt in fuzz/corpus/TARGET/.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET…]}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# Coverage for the parsers only, by the compiler pass that cargo-fuzz uses too; its own way to ask for it needs nightly.
export RUSTC_WRAPPER=$PWD/rustc-with-coverage.sh
# A directory of its own: cargo does not tell what the wrapper built from what it did not.
export CARGO_TARGET_DIR=$PWD/target
cargo build "${targets[@]/#/--bin=}"

failed=()
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    seeds=()
    longest=1500
    case $target in
    sdp)
        # What real clients offer.
        seeds+=(../tests/offers)
        longest=20000
        ;;
    dtls) longest=6000 ;;
    esac
    if [ -d "seeds/$target" ]; then seeds+=("seeds/$target"); fi
    echo "== $target, $seconds s"
    if ! "$CARGO_TARGET_DIR/debug/$target" "corpus/$target" "${seeds[@]}" -artifact_prefix="artifacts/$target/" \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len="$longest" -print_final_stats=1 \
        >"artifacts/$target/log" 2>&1; then
        tail -n 60 "artifacts/$target/log"
        echo "fuzz target $target failed: fuzz/artifacts/$target/" >&2
        # What it was, for who sees only this output.
        for found in "artifacts/$target"/{crash,timeout,oom,leak}-*; do
            if [ -f "$found" ]; then echo "$found, in base64:" && base64 "$found"; fi
        done
        failed+=("$target")
        continue
    fi
    grep -E 'INITED|DONE' "artifacts/$target/log" | tail -n 2
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
