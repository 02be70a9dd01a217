"""Ranks as processes give what ranks as threads give, bit for bit, and only the first one speaks."""
import json
import subprocess
import tempfile

from _case import MUSTER, ROOT, case, finish, muster
from _mpi import finish_run, launch, leftovers, need_mpi

TINY = str(ROOT / "tests/golden/1_tiny/llama_gqa")
ASKED = ["--tokens", "1,2,3,4,5,6,7,8,9", "-n", "12", "--greedy", "--ignore-eos", "--json"]
# Processes, and what each has and does.
PLACEMENTS = [(2, "--tp 2"), (3, "--tp 3"), (4, "--tp 4"), (2, "--pp 2"), (4, "--tp 2 --pp 2"), (2, "--dp 2"),
              (4, "--dp 2 --tp 2"), (4, "--dp 2 --pp 2"), (2, "--devices cpu:2 --tp 4"),
              (2, "--devices cpu:2 --tp 2 --pp 2"), (2, "--devices cpu:3 --pp 3 --dp 2"),
              (2, "--devices cpu:4 --tp 2 --pp 2 --dp 2")]


def over(n, *words, status=0):
    need_mpi()
    code, out, said, err = finish_run(launch((n, {}, words)))
    assert code == status, (n, words, code, err)
    return out, said


@case
def answers_have_the_same_bits():
    for model in ("synth:micro", TINY):
        alone = json.loads(muster("generate", model, *ASKED)[0])
        for n, placement in PLACEMENTS:
            out, said = over(n, "generate", model, *ASKED, *placement.split())
            together = json.loads(out)
            assert not said, said
            for key in ("ids", "text", "digest"):
                assert together[key] == alone[key], (model, n, placement, key)
            devices = n * (int(placement.split("cpu:")[1][0]) if "cpu:" in placement else 1)
            assert len(together["measured"]["devices"]) == devices, placement
            for measured in together["measured"]["devices"]:
                assert measured["weights_bytes"] > 0, placement


@case
def long_prompts_and_small_pieces_have_the_same_bits():
    asked = ["--tokens", ",".join(str(i % 500) for i in range(300)), "-n", "4", "--ignore-eos", "--seed", "7",
             "--temperature", "1", "--json"]
    alone = json.loads(muster("generate", "synth:micro", *asked)[0])
    for n, placement in ((4, "--tp 2 --pp 2"), (3, "--pp 3 --prefill-chunk 32"), (4, "--tp 4 --prefill-chunk 7")):
        out, _ = over(n, "generate", "synth:micro", *asked, *placement.split())
        assert json.loads(out)["digest"] == alone["digest"], placement


@case
def perplexity_has_the_same_bits():
    text = str(ROOT / "README.md")
    asked = ["perplexity", TINY, "--file", text, "--window", "128", "--json"]
    alone = json.loads(muster(*asked)[0])
    for n, placement in ((4, "--tp 2 --pp 2"), (2, "--tp 2")):
        assert json.loads(over(n, *asked, *placement.split())[0]) == alone, placement


@case
def logits_have_the_same_bits():
    need_mpi()
    with tempfile.TemporaryDirectory() as folder:
        for n, name in ((1, "alone"), (4, "together")):
            words = ["logits", TINY, "--tokens", "1,2,3,4,5", "--out", f"{folder}/{name}"]
            over(n, *words) if n > 1 else muster(*words)
        with open(f"{folder}/alone", "rb") as a, open(f"{folder}/together", "rb") as b:
            assert a.read() == b.read()


@case
def device_maps_have_the_same_bits():
    """By rule and by hand, over any number of processes; a map that comes back, and one with parts elsewhere."""
    back = '{"model":0,"lm_head":2,"model.layers.1":1,"model.layers.0.mlp":2}'
    away = '{"model":1,"lm_head":"disk","model.layers.0.mlp":"cpu","model.layers.1":0}'
    for model in ("synth:nano", TINY):
        alone = json.loads(muster("generate", model, *ASKED)[0])
        for n, *words in ((2, "auto"), (3, "balanced"), (3, back), (2, back, "--devices", "cpu:2"), (2, away),
                          (2, away, "--offload-compute"), (2, "disk"), (4, "balanced", "--dp", "2")):
            out, said = over(n, "generate", model, *ASKED, "--device-map", *words)
            together = json.loads(out)
            assert not said and together["digest"] == alone["digest"], (model, n, words, said)
            assert together["measured"]["devices"] == together["predicted"]["devices"], (model, n, words)


@case
def maps_that_differ_are_told():
    need_mpi()
    code, _, said, err = finish_run(launch(
        (1, {}, ["generate", "synth:nano", *ASKED, "--device-map", "auto"]),
        (1, {}, ["generate", "synth:nano", *ASKED, "--device-map", "balanced"])))
    assert code == 5 and len(said) == 1 and 'option --device-map "balanced"' in said[0], err


@case
def only_the_first_speaks():
    out, said = over(3, "generate", "synth:nano", "--tokens", "1,2", "-n", "4", "--greedy", "--tp", "3")
    assert out.count("\n") == 1 and not said, (out, said)
    out, said = over(3, "--version")
    assert out.count("muster") == 1, out
    out, said = over(3, "inspect", "synth:nano")
    assert out.count("synth:nano") == muster("inspect", "synth:nano")[0].count("synth:nano"), out


@case
def what_is_wrong_is_said_once():
    for words, status in ((["generate", "synth:nano", "--tokens", "1", "--tp", "9"], 2),
                          (["generate", "synth:none", "--tokens", "1"], 3),
                          (["generate", "synth:nano", "--tokens", "900"], 3),
                          (["generate", "synth:nano", "--nonsense"], 2),
                          (["generate", "synth:micro", "--tokens", "1", "--devices", "cpu:1x1MiB"], 4)):
        _, said = over(2, *words, status=status)
        assert len([line for line in said if not line.startswith("muster: the ")]) == 1, (words, said)


@case
def a_missing_plug_in_is_named():
    need_mpi()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cp", MUSTER, f"{folder}/muster"], check=True)
        code, _, said, err = finish_run(launch((2, {}, [f"{folder}/muster", "generate", "synth:nano", "--tokens", "1"])))
        assert code == 3 and len(said) == 1 and "libmuster-mpi.so" in said[0], (code, said, err)
        done = subprocess.run([f"{folder}/muster", "generate", "synth:nano", "--tokens", "1", "-n", "1"],
                              capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr


@case
def nothing_is_left():
    before = leftovers()
    over(2, "generate", "synth:nano", "--tokens", "1", "-n", "2", "--tp", "2")
    assert leftovers() <= before, leftovers() - before


finish()
