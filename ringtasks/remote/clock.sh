# Sets $now to hundredths of a second, by a clock that is never set.
now() {
  if { read -r now rest </proc/uptime; } 2>/dev/null; then
    now=${now%.*}${now#*.}
  else
    now=$(($(date +%s) * 100))
  fi
}

# Sleeps for $1 seconds, or for 1 where sleep(1) takes whole seconds only. Fails if it cannot run.
pause() {
  sleep "$1" 2>/dev/null || sleep 1
}
