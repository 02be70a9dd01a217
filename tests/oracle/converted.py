#!/usr/bin/env python3
"""GGUF files that convert makes of folders, read by llama.cpp: the same logits.

    tests/oracle/converted.py --muster PROGRAM --oracle FOLDER --cache DIR [--only NAME]

Every checkpoint of ORACLE/1_tiny is written in F32, so that the peer rounds no activation, and run by
both on a short prompt. llama.cpp must have been built by `make peers`. Ends with 'N passed, N failed'.
"""
import argparse
import array
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile

import fetch

PROMPT = "1,2,3,40,50,60,7"
# The peer's attention works in 16 bits in places; a wrong name, order or scale shows as 0.3 and more.
TOLERANCE = 0.05


def muster_logits(muster, model, folder):
    out = folder / "logits.safetensors"
    context = min(512, json.loads((model / "config.json").read_text())["max_position_embeddings"])
    subprocess.run([muster, "logits", model, "--tokens", PROMPT, "--positions", str(PROMPT.count(",")),
                    "--compute", "f32", "--context", str(context), "--out", out], check=True)
    raw = out.read_bytes()
    return array.array("f", raw[8 + struct.unpack("<Q", raw[:8])[0]:])


def copied(source, copy, config_of):
    """A copy of the checkpoint with another configuration."""
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    path = copy / "config.json"
    config = json.loads(path.read_text())
    config_of(config)
    path.write_text(json.dumps(config))
    return copy


def as_files_say(config):
    """In GGUF every sixth layer of gemma3 is full, whatever its number of layers."""
    if config["model_type"] == "gemma3_text":
        config["layer_types"] = ["sliding_attention"] * config["num_hidden_layers"]


def as_the_peer_computes(config):
    """llama.cpp rounds the borders of yarn's ramp to whole dimensions in every model."""
    as_files_say(config)
    if config["model_type"] == "gpt_oss":
        config["rope_scaling"]["truncate"] = True


def compare(muster, peer, source):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model, gguf = copied(source, folder / "model", as_files_say), folder / "model.gguf"
        done = subprocess.run([muster, "convert", model, gguf, "--quiet", "--weights", "f32"],
                              capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip()
        ours = muster_logits(muster, copied(source, folder / "peer", as_the_peer_computes), folder)
        done = subprocess.run([peer, gguf, PROMPT], capture_output=True)
        theirs = array.array("f", done.stdout)
        if done.returncode or len(theirs) != len(ours):
            return f"llama.cpp: {done.stderr.decode(errors='replace').strip()[-200:]}"
        worst = max(abs(a - b) for a, b in zip(ours, theirs))
        return "" if worst <= TOLERANCE else f"logits differ by {worst:.3g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--muster", required=True)
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        peer = fetch.llamacpp_program(pathlib.Path(args.cache), "logits", pathlib.Path(folder))
        for source in sorted(pathlib.Path(args.oracle, "1_tiny").iterdir()):
            if args.only not in source.name:
                continue
            why = compare(args.muster, peer, source)
            print(f"FAIL {source.name}: {why}" if why else f"ok {source.name}")
            passed, failed = passed + (not why), failed + bool(why)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
