#!/usr/bin/env bash
# Sends load through the router that start.sh started, and looks at its trace.
#   deploy/two-servers/send.sh --request-rate 20       what is given goes to `milepost bench` and wins over bench.toml
# Ends with the exit code of the bench: 0 VALID, 3 SUSPECT, 4 INVALID, others: no result.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

runs "$RUN_DIR/router.pid" || fail "the router does not run; start.sh starts it"

verdict=0
"$MILEPOST" bench --config "$here/bench.toml" --base-url "http://127.0.0.1:$ROUTER_PORT" \
  --router-trace "$RUN_DIR/trace.jsonl" --output-dir "$RUN_DIR/bench" "$@" || verdict=$?
case $verdict in
  0 | 3 | 4) ;;
  *) fail "milepost bench ended with $verdict and has no result" ;;
esac
"$MILEPOST" trace check "$RUN_DIR/trace.jsonl"
say "one row a request: $RUN_DIR/bench/latest/requests.csv"
exit "$verdict"
