#!/usr/bin/env bash
# Ends what start.sh started and nothing else: the router first, so that no request meets a server that goes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

# The router gives streams --shutdown-grace-period-secs (180); a server ends when its requests have.
STOP_SECS=${STOP_SECS:-190}

# stop NAME: asks it to end, waits, and ends its process group if it stays.
stop() {
  local file=$RUN_DIR/$1.pid end=$((SECONDS + STOP_SECS)) pid
  if runs "$file"; then
    # It may end by itself just now.
    kill -TERM "$pid" 2> /dev/null || true
    while runs "$file" && [ "$SECONDS" -lt "$end" ]; do sleep 0.1; done
    if runs "$file"; then
      say "$1 (pid $pid) did not end in $STOP_SECS s: killed"
      kill -KILL -- "-$pid" || true
    else
      say "$1 has ended"
    fi
  fi
  rm -f "$file"
}

stop router
stop server-a
stop server-b
