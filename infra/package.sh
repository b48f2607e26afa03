#!/usr/bin/env bash
# Makes the zip of the Lambda functions, with your engines in it:
#
#   infra/package.sh roost.zip my-engines other-engines==2.0
#
# PYTHON (3.13) and ARCHITECTURE (arm64) must be those of the functions. Only wheels are taken, so
# the machine that runs this may be another one.
set -euo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
out="${1:?usage: infra/package.sh OUT.zip [REQUIREMENT…]}"
shift
python="${PYTHON:-3.13}"
case "${ARCHITECTURE:-arm64}" in
  arm64) machine=aarch64 ;;
  x86_64) machine=x86_64 ;;
  *) echo "ARCHITECTURE is arm64 or x86_64" >&2; exit 2 ;;
esac

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/wheels" "$root"
python3 -m pip install --quiet --disable-pip-version-check --target "$work/code" \
  --python-version "$python" --implementation cp --only-binary=:all: \
  --platform "manylinux2014_$machine" --platform "manylinux_2_28_$machine" \
  "$(echo "$work"/wheels/*.whl)[lambda]" "$@"

# Lambda takes 250 MB unpacked: what no function needs stays out.
rm -rf "$work"/code/bin "$work"/code/typer "$work"/code/rich
find "$work/code" -name __pycache__ -type d -prune -exec rm -rf {} +
# The same code makes the same zip: these two name this build's temporary folder.
find "$work/code" -path '*.dist-info/*' \( -name RECORD -o -name direct_url.json \) -delete
# What is not compiled here is compiled at every cold start, as the code is read-only there: 1.2 s of
# CPU. The bytecode must be of the functions' version.
if [ "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$python" ]; then
  python3 -m compileall -q --invalidation-mode unchecked-hash -s "$work/code" -p /var/task "$work/code"
else
  echo "no bytecode in it: python3 is not $python here, so functions start more slowly" >&2
fi
find "$work/code" -exec touch -d 2000-01-01T00:00:00Z {} +
(cd "$work/code" && find . -type f | LC_ALL=C sort | python3 -c '
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as out:
    for line in sys.stdin:
        out.write(line.rstrip("\n"))
' "$work/out.zip")
mv "$work/out.zip" "$out"
size="$(du -sm "$work/code" | cut -f1)"
echo "$out: $size MB unpacked, sha256 $(sha256sum "$out" | cut -d" " -f1)"
[ "$size" -le 250 ] || { echo "Lambda takes 250 MB unpacked; use a container image" >&2; exit 1; }
