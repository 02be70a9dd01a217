#!/bin/sh
# tools/packages.sh KIND...: installs what tools/packages.txt lists for these kinds and is missing.
# Asks for root only when something is missing, and says what it is about to do.
set -eu
list=$(dirname "$0")/packages.txt

wanted=
for kind in "$@"; do
    wanted="$wanted $(awk -v kind="$kind" '$1 !~ /^#/ && $2 == kind { print $1 }' "$list")"
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "This is not Debian, so nothing was installed. Needed, by Debian's names:" $wanted >&2
    exit 0
fi

missing=
for package in $wanted; do
    case " $missing " in *" $package "*) continue ;; esac
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
    root=sudo
    if ! command -v sudo >/dev/null; then
        echo "Missing:$missing" >&2
        echo "As root: apt-get update && apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi
echo "Installing with apt-get:$missing" >&2
$root apt-get -qq update ||
    { echo "The package lists could not be fetched; is there a network?" >&2; exit 1; }
$root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >&2
