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

show devices --measure
show inspect "$model"
# The reference arithmetic gives the words that other implementations give; the default is faster.
show chat "$model" "What is the capital of France?" --greedy --compute f32 --verbose ||
    show generate "$model" --prompt "What is the capital of France?" --greedy -n 32 --verbose
show generate "$model" --prompt "Once upon a time" --greedy -n 64 --ignore-eos --verbose

cat <<END

Next:
  $muster chat $model                       a conversation
  $muster generate $model -p "..." --json   everything about an answer
  $muster generate $model -p "..." --devices cpu:2    two devices, the same bits
  $muster --help
END
