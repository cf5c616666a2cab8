# Runs Python of the environment that "ray" is installed for: "ray" may be on PATH without it.
#
# parameters: arguments...

rt_ray=$(command -v ray) || {
  echo "there is no program 'ray'" >&2
  exit 127
}
rt_python=$(sed -n '1s/^#! *\(\/.*python[0-9.]*\) *$/\1/p' "$rt_ray" 2>/dev/null)
# pip and uv begin it as a shell program if the path of Python is long or has spaces.
[ -x "$rt_python" ] || rt_python=$(
  sed -n "2s/^'''exec' [\"']\{0,1\}\(\/[^\"']*python[0-9.]*\)[\"' ].*/\1/p" "$rt_ray" 2>/dev/null
)
[ -x "$rt_python" ] || rt_python=python3
exec "$rt_python" "$@"
