#!/usr/bin/env bash
# Starts two SGLang servers and milepost in front of them; all of it is up when this ends, or nothing is.
#   SERVERS=simulated deploy/two-servers/start.sh      without a GPU
# common.sh lists what can be set.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

mkdir -p "$RUN_DIR"
pid=
for name in server-a server-b router; do
  ! runs "$RUN_DIR/$name.pid" || fail "$name runs already (pid $pid); stop.sh ends it"
done
for port in "$PORT_A" "$PORT_B" "$ROUTER_PORT" "$METRICS_PORT"; do
  port_is_free "$port" || fail "port $port is in use: choose another (PORT_A, PORT_B, ROUTER_PORT, METRICS_PORT)"
done

trap '[ $? = 0 ] || "$here/stop.sh"' EXIT

# server NAME PORT GPU
server() {
  # The flags are words of a command line, to be split at blanks.
  # shellcheck disable=SC2086
  case $SERVERS in
    sglang)
      # Ports of NCCL are given, as servers that start together may draw the same one.
      launch "$1" env CUDA_VISIBLE_DEVICES="$3" "$PYTHON" -m sglang.launch_server --model-path "$MODEL" \
        --host 127.0.0.1 --port "$2" --nccl-port "$(($2 + 1000))" $SGLANG_FLAGS ;;
    simulated) launch "$1" "$MILEPOST" worker --host 127.0.0.1 --port "$2" --model-path "$MODEL" ;;
    *) fail "SERVERS: sglang or simulated, got $SERVERS" ;;
  esac
}

server server-a "$PORT_A" "$GPU_A"
server server-b "$PORT_B" "$GPU_B"
# It generates a token, so a server that answers has its model loaded.
wait_for server-a "http://127.0.0.1:$PORT_A/health_generate" "$START_SECS"
wait_for server-b "http://127.0.0.1:$PORT_B/health_generate" "$START_SECS"

# shellcheck disable=SC2086
launch router "$MILEPOST" route --host 127.0.0.1 --port "$ROUTER_PORT" \
  --prometheus-host 127.0.0.1 --prometheus-port "$METRICS_PORT" \
  --worker-urls "http://127.0.0.1:$PORT_A" "http://127.0.0.1:$PORT_B" \
  --policy "$POLICY" --trace-log "$RUN_DIR/trace.jsonl" $MILEPOST_FLAGS
wait_for router "http://127.0.0.1:$ROUTER_PORT/readiness" 30
say "next: $here/send.sh"
