#!/bin/sh
# tools/demo.sh MUSTER: what the program does, on this machine and a small real model. Fetches the
# model once (98 MB); without a network the random model of the tests shows the same steps.
set -eu
muster=$1
cd "$(dirname "$0")/.."

show() {
    printf '\n$ muster'
    for word in "$@"; do
        case $word in *" "*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    "$muster" "$@"
}

if ! model=$(python3 tests/oracle/fetch.py smollm2); then
    model=tests/golden/1_tiny/llama_gqa
    echo "No network, it seems: using the small model of the tests. Its weights are random, and so" \
        "is its text." >&2
fi

show devices
show inspect "$model"
show generate "$model" --chat "What is the capital of France?" -n 64 --greedy

cat <<END

Next:
  $muster generate $model --chat "Your own question"
  $muster --help
END
