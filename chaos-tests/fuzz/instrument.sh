#!/usr/bin/env bash
# Cargo calls this in place of the compiler. Only what reads the bytes of an input gets libFuzzer's counters: with the
# rest instrumented too, the build takes twice as long and the fuzzer learns nothing from it.
set -eu

rustc=$1
shift
name=
previous=
for argument in "$@"; do
	[ "$previous" = --crate-name ] && name=$argument
	previous=$argument
done
case $name in
arrow_zerobus_sdk_wrapper | arrow_zerobus_sdk_wrapper_fuzz | segment_scan | frame | ledger | operations | \
	arrow_array | arrow_buffer | arrow_data | arrow_ipc | arrow_schema | arrow_select | flatbuffers | sled)
	# What cargo-fuzz gives the compiler.
	exec "$rustc" "$@" \
		-Cpasses=sancov-module \
		-Cllvm-args=-sanitizer-coverage-level=4 \
		-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
		-Cllvm-args=-sanitizer-coverage-pc-table \
		-Cllvm-args=-sanitizer-coverage-trace-compares \
		-Cllvm-args=-simplifycfg-branch-fold-threshold=0
	;;
esac
exec "$rustc" "$@"
