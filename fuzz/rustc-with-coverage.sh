#!/usr/bin/env bash
# Stands before rustc (RUSTC_WRAPPER): what the fuzzer is to see into gets coverage counters, everything else is built as always.
set -euo pipefail
rustc=$1
shift
crate=
previous=
for argument in "$@"; do
    [ "$previous" = --crate-name ] && crate=$argument
    previous=$argument
done
case $crate in
exedra | rtc_dtls)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
