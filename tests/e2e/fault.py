"""Commands under every fault: each allocation, read and write of a command is made to fail once.

The program must then end by itself, with an exit status of its table and at most one line of error.
Needs the build with internal checks, which make test gives.
"""
import os
import re
import subprocess
import tempfile

from _case import MUSTER, ROOT, Skip, case, finish

GOLDEN = ROOT / "tests/golden"
# Command lines that allocate, read or write in a way of their own.
COMMANDS = (["--help"], ["--man"], ["completion", "bash"], ["completion", "--help"],
            ["inspect", str(GOLDEN / "1_tiny/llama_gqa"), "--json"], ["inspect", "synth:"],
            ["tokenize", str(GOLDEN / "sentencepiece/bpe"), "--file", str(GOLDEN / "chat_mini.jsonl")],
            ["tokenize", str(GOLDEN / "sentencepiece/unigram"), "--file", str(GOLDEN / "chat_mini.jsonl")],
            ["generate", "synth:nano", "--tokens", "1,2", "-n", "2", "--devices", "cpu:4", "--dp", "2", "--pp", "2",
             "--json"],
            ["generate", "synth:nano", "--tokens", "1,2", "-n", "2", "--devices", "cpu:4", "--tp", "2", "--pp", "2"],
            ["generate", "synth:nano", "--tokens", "1,2", "-n", "2", "--device-map", "disk"],
            ["generate", str(GOLDEN / "1_tiny/llama_gqa"), "-p", "a", "-p", "b", "--choices", "2", "--stop", "x", "-n", "2"],
            ["convert", str(GOLDEN / "1_tiny/qwen2"), os.path.join(tempfile.gettempdir(), "muster-fault.gguf"),
             "--weights", "q4_k", "--quiet"])
MOST = 400  # of one point; beyond it a sample, evenly spread


def run(words, fault):
    return subprocess.run([MUSTER, *words], env=dict(os.environ, MUSTER_FAULT=fault), stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60)


def passages(words):
    """How often a command passes each fault point."""
    found = re.findall(rb"fault point (\w+) passed (\d+)", run(words, "count").stderr)
    if not found:
        raise Skip("this build has no fault points")
    return {name.decode(): int(count) for name, count in found}


@case
def every_fault_ends_in_order():
    for words in COMMANDS:
        for point, count in passages(words).items():
            for n in range(1, count + 1, max(1, count // MOST)):
                done = run(words, f"{point}:{n}")
                told = done.stderr.decode(errors="replace")
                ends = (0, 5) if point == "step" else (0, 3, 4)
                assert done.returncode in ends, (words, point, n, done.returncode, told)
                assert told.count("\n") <= 1, (words, point, n, told)
                assert done.returncode == 0 or told.startswith("muster: "), (words, point, n, told)


@case
def the_rank_that_failed_is_told():
    """Not one that stopped for its sake, though stages are at several steps, or stream weights from the disk."""
    prompt = ",".join(str(i * 7 % 500) for i in range(400))
    device_map = '{"model":0,"lm_head":"cpu","model.layers.1":1,"model.layers.1.mlp":"disk","model.layers.2.mlp":"disk"}'
    for where in (["--devices", "cpu:8", "--tp", "2", "--pp", "4"], ["--devices", "cpu:2", "--device-map", device_map]):
        words = ["generate", "synth:micro", "--tokens", prompt, "-n", "4", "--ignore-eos", *where]
        for n in range(1, passages(words)["step"] + 1):
            done = run(words, f"step:{n}")
            told = done.stderr.decode(errors="replace")
            assert done.returncode == 5 and "made to fail" in told and told.count("\n") == 1, (n, done.returncode, told)


finish()
