#!/usr/bin/env bash
# Plays many seeded worlds with a release build: `tests/simulation/many.sh [how many] [first seed]`, else 100000 from 0.
# Says how far it is and how fast; ends at the first world that breaks a promise, with its story and the command that plays it
# again. Needs a Rust toolchain and its C compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
export MILEPOST_SEEDS="${1:-100000}" MILEPOST_FIRST_SEED="${2:-0}"
cargo test --release --package milepost --test simulation worlds -- --nocapture
