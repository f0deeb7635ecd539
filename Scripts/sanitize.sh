#!/usr/bin/env bash
# Runs the whole test suite, the client tests too, with everything built for one sanitizer:
# thread or address.
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizer=$1
scratch=.build-$sanitizer
flags=(--sanitize="$sanitizer" --scratch-path "$scratch")
# A sanitizer's report must fail the run.
export TSAN_OPTIONS="halt_on_error=1"
export ASAN_OPTIONS="detect_leaks=0 quarantine_size_mb=8"
swift build --build-tests "${flags[@]}"
TALLY_SIMULATION_SEEDS=${TALLY_SIMULATION_SEEDS:-50} swift test --skip-build "${flags[@]}"
TALLY_BINARY=$scratch/debug/tally .venv/bin/python -m pytest -q --timeout 3600 Tests/ClientTests
