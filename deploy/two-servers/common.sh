# Settings and helpers of start.sh, send.sh and stop.sh, which read this file; it does nothing by itself.
#
# Everything can be set from outside:
#   SERVERS       sglang, or simulated (`milepost worker`, no GPU)                       [sglang]
#   MODEL         model of the servers                                                   [meta-llama/Llama-3.1-8B-Instruct]
#   PORT_A PORT_B ports of the servers                                                   [8000 8001]
#   GPU_A GPU_B   CUDA_VISIBLE_DEVICES of each                                           [0 1]
#   ROUTER_PORT METRICS_PORT   ports of milepost                                         [30000 29000]
#   POLICY        who gets a request                                                     [cache_aware]
#   SGLANG_FLAGS  flags of both servers; deploy/presets has two sets                     [--enable-metrics --enable-cache-report]
#   MILEPOST_FLAGS more flags of the router                                              []
#   RUN_DIR       where pid files, logs, trace and results are                           [./two-servers-run]
#   MILEPOST PYTHON   the programs                                                       [milepost python3]
#   START_SECS    longest wait for a server; a large model loads for minutes             [1800]
# shellcheck shell=bash

SERVERS=${SERVERS:-sglang}
MODEL=${MODEL:-meta-llama/Llama-3.1-8B-Instruct}
PORT_A=${PORT_A:-8000} PORT_B=${PORT_B:-8001}
GPU_A=${GPU_A:-0} GPU_B=${GPU_B:-1}
ROUTER_PORT=${ROUTER_PORT:-30000} METRICS_PORT=${METRICS_PORT:-29000}
POLICY=${POLICY:-cache_aware}
SGLANG_FLAGS=${SGLANG_FLAGS:---enable-metrics --enable-cache-report}
MILEPOST_FLAGS=${MILEPOST_FLAGS:-}
RUN_DIR=${RUN_DIR:-./two-servers-run}
MILEPOST=${MILEPOST:-milepost} PYTHON=${PYTHON:-python3}
START_SECS=${START_SECS:-1800}

say() { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# When a process began, in clock ticks since boot: with its number it names one process for good. Fails if there is none.
# The name of the program, which may hold blanks, is cut off first.
began() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2> /dev/null) || return 1
  read -ra fields <<< "${stat##*) }"
  printf '%s' "${fields[19]}"
}

# What a pid file names: true if that very process still runs; its number is then in $pid. A process that was gone before it
# could be looked at has no start in its file.
runs() {
  local since
  [ -f "$1" ] && read -r pid since < "$1" && [ -n "$since" ] && [ "$(began "$pid")" = "$since" ]
}

# launch NAME COMMAND...: in the background, in a process group of its own, with a log and a pid file.
launch() {
  local name=$1; shift
  setsid "$@" > "$RUN_DIR/$name.log" 2>&1 < /dev/null &
  printf '%s %s\n' "$!" "$(began "$!")" > "$RUN_DIR/$name.pid"
}

# port_is_free PORT: nobody answers there.
port_is_free() { ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# wait_for NAME URL SECS: until it answers with 200; fails as soon as the process is gone.
wait_for() {
  local name=$1 url=$2 end=$((SECONDS + $3))
  until curl --silent --fail --max-time 25 --output /dev/null "$url"; do
    runs "$RUN_DIR/$name.pid" || { tail -n 5 "$RUN_DIR/$name.log" >&2; fail "$name ended; $RUN_DIR/$name.log says why"; }
    [ "$SECONDS" -lt "$end" ] || fail "$name did not answer $url in $3 s; see $RUN_DIR/$name.log"
    sleep 0.2
  done
  say "$name is up: $url"
}
