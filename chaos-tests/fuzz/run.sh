#!/usr/bin/env bash
# Runs each fuzz target for so many seconds, or those that are named:  run.sh SECONDS [TARGET…]
#
# It builds the targets as `cargo fuzz` would, with plain cargo: only a nightly compiler is needed, and where there is
# none it says so and is content. Without a sanitizer: the crate has next to no unsafe code, and a build without one
# takes a fraction of the time. `cargo +nightly fuzz run TARGET` in chaos-tests has the sanitizer, and the same corpus.
#
# New inputs that reach new code stay in target/fuzz/corpus; what crashed is in target/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: run.sh SECONDS [TARGET…]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(segment_scan frame ledger operations)

skip() {
	printf '\n*** FUZZING IS LEFT OUT: %s ***\n\n' "$1" >&2
	exit 0
}
[ "$(uname -s)" = Linux ] || skip 'the targets run on Linux only'
command -v rustup >/dev/null || skip 'rustup is missing, so there is no nightly compiler'
rustup run nightly rustc --version >/dev/null 2>&1 || skip 'there is no nightly compiler: rustup toolchain install nightly'
command -v c++ >/dev/null || skip 'there is no C++ compiler, which libFuzzer needs'

work=$(cd ../.. && pwd)/target/fuzz
RUSTC_WRAPPER="$PWD/instrument.sh" CARGO_INCREMENTAL=0 \
	rustup run nightly cargo build --locked --target-dir "$work"

failed=()
for target in "${targets[@]}"; do
	mkdir -p "$work/corpus/$target" "$work/artifacts/$target" "corpus/$target"
	echo "fuzzing $target for $seconds s"
	# A step of `operations` has a byte or two, and libFuzzer must not begin with logs of four steps.
	lengths=(-max_len=4096 -len_control=10)
	[ "$target" != operations ] || lengths=(-max_len=250 -len_control=0)
	"$work/debug/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 "${lengths[@]}" \
		-print_final_stats=1 -verbosity=0 -artifact_prefix="$work/artifacts/$target/" \
		"$work/corpus/$target" "corpus/$target" || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
	echo "failed: ${failed[*]}; the inputs are in $work/artifacts, copy them to corpus/ once they are understood" >&2
	exit 1
fi
