#!/bin/bash
# Before Sentinel starts, waits until the masters that it knows accept connections; the unit says for how long at most.
#
# After all hosts have restarted together, a Redis says no more how much of its master's data it has. Sentinels that were there
# before the master would make any other one the master, be it one that had gone first and lacks what the rest acknowledged.
set -euo pipefail

# Sentinel writes there who is master. Its user may write anything, and root runs this: nothing but addresses and ports is taken.
known=/etc/redis/redis-sentinel.conf

while read -r address port; do
  # shellcheck disable=SC2016  # the inner shell's parameters
  until timeout 1 bash -c 'exec 3<> "/dev/tcp/$0/$1"' "$address" "$port" 2> /dev/null; do
    sleep 0.2
  done
done < <(sed -n 's/^sentinel monitor [^ ]* \([0-9a-fA-F.:]*\) \([0-9]*\) .*/\1 \2/p' "$known")
