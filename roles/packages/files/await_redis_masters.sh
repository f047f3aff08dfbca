#!/bin/bash
# Before Sentinel starts, waits until the masters that it knows accept connections, a minute at most.
#
# After all hosts have restarted together, a Redis says no more how much of its master's data it has. Sentinels that were there
# before the master would make any other one the master, be it one that had gone first and lacks what the rest acknowledged.
set -euo pipefail

known=/etc/redis/redis-sentinel.conf # Sentinel writes there who is master
end=$((SECONDS + 60))

while read -r address port; do
  until timeout 1 bash -c "exec 3<> /dev/tcp/$address/$port" 2> /dev/null || ((SECONDS >= end)); do
    sleep 0.2
  done
done < <(sed -n 's/^sentinel monitor [^ ]* \([^ ]*\) \([^ ]*\) .*/\1 \2/p' "$known")
