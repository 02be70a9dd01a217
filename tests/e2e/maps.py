"""Device maps as a user runs them: by rule and by hand, with parts on cpu and disk."""
import json
import pathlib
import tempfile

from _case import ROOT, case, finish, muster

TINY = ROOT / "tests/golden/1_tiny"
LEGACY = ROOT / "tests/golden/6_quant/gguf/legacy_mix.gguf"
WORDS = ["--tokens", "5,6,7,8,9", "-n", "8", "--ignore-eos", "--seed", "3", "--json"]


def generate(model, *words, status=0):
    out, err = muster("generate", str(model), *WORDS, *words, status=status)
    return json.loads(out) if status == 0 else err


def by_map(model, device_map, *words):
    """Runs a map; what was used must be what was predicted."""
    text = device_map if isinstance(device_map, str) else json.dumps(device_map)
    found = generate(model, "--device-map", text, *words)
    assert found["measured"]["devices"] == found["predicted"]["devices"], found
    return found


def purpose(found, device, name):
    return {d["device"]: d for d in found["predicted"]["devices"]}[device][name]


@case
def maps_by_rule_leave_no_trace():
    for model in (TINY / "llama_gqa", TINY / "llama3_tied", TINY / "mixtral", TINY / "qwen2_moe", TINY / "gpt_oss",
                  TINY / "deepseek_v3", LEGACY, "synth:nano-latent@q8_0"):
        one = generate(model)
        weights = one["predicted"]["devices"][0]["weights_bytes"]
        some = f"0={weights // 2},1={weights // 4},cpu={weights}"
        little = f"0={weights // 3},cpu={weights // 3}"
        for words in (["auto", "--devices", "cpu:2"], ["balanced", "--devices", "cpu:3"],
                      ["balanced_low_0", "--devices", "cpu:2"], ["best", "--devices", "cpu:2"],
                      ["sequential", "--devices", "cpu:2", "--max-memory", some], ["cpu"], ["disk"],
                      ["sequential", "--max-memory", little], ["cpu", "--offload-compute"],
                      ["auto", "--devices", "cpu:4", "--dp", "2"]):
            found = by_map(model, *words)
            assert (found["digest"], found["ids"]) == (one["digest"], one["ids"]), (model, words)


@case
def maps_by_hand_leave_no_trace():
    for model in (TINY / "llama_gqa", TINY / "llama3_tied", TINY / "qwen2_moe", LEGACY, "synth:micro@q4_k"):
        one = generate(model)
        back = {"model": 0, "lm_head": 0, "model.rotary_emb": 1, "model.layers.1": 1}
        split = {"model": 2, "lm_head": "disk", "model.norm": 1, "model.layers.0.input_layernorm": 1,
                 "model.layers.0.self_attn": 0, "model.layers.0.post_attention_layernorm": 2,
                 "model.layers.0.mlp": "cpu", "model.layers.1.self_attn": "disk",
                 "model.layers.1.mlp": "cuda:1"}
        for device_map, *words in ((back, ), (split, ), (split, "--offload-compute"),
                                   ({"model": "disk", "lm_head": 1, "model.embed_tokens": "cpu"}, )):
            found = by_map(model, device_map, "--devices", "cpu:3", *words)
            assert found["digest"] == one["digest"], (model, device_map, words)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "map.json")
        path.write_text(json.dumps({"": 1}))
        found = by_map(TINY / "llama_gqa", str(path), "--devices", "cpu:2")
        assert [d["device"] for d in found["predicted"]["devices"]] == ["cpu:1"]


@case
def what_lies_elsewhere_takes_the_buffer_and_no_more():
    model = "synth:micro@q8_0"
    here, cpu, disk = generate(model), by_map(model, "cpu"), by_map(model, "disk")
    weights = purpose(here, "cpu", "weights_bytes")
    for found in (cpu, disk):
        assert purpose(found, "cpu", "weights_bytes") < weights / 50
        assert 0 < purpose(found, "cpu", "staging_bytes") < weights / 3
    assert purpose(cpu, "host", "total_bytes") + purpose(cpu, "cpu", "weights_bytes") == weights
    assert len(disk["predicted"]["devices"]) == 1
    need = purpose(disk, "cpu", "total_bytes")
    assert by_map(model, "disk", "--devices", f"cpu:1x{need}")["digest"] == here["digest"]
    err = generate(model, "--device-map", "disk", "--devices", f"cpu:1x{need - 1}", status=4)
    assert "staging" in err and "too little" in err, err
    host = purpose(cpu, "host", "total_bytes")
    assert by_map(model, "cpu", "--max-memory", f"cpu={host}")["digest"] == here["digest"]
    assert "host" in generate(model, "--device-map", "cpu", "--max-memory", f"cpu={host - 1}", status=4)
    # What budgets leave is found without being told, and what does not fit goes to the cpu.
    need = purpose(here, "cpu", "total_bytes")
    tight = by_map(model, "auto", "--devices", f"cpu:1x{need - weights // 4}")
    assert tight["digest"] == here["digest"] and purpose(tight, "host", "weights_bytes") > 0


@case
def logits_are_the_same_bytes():
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, words in enumerate(([], ["--device-map", "disk"],
                                   ["--device-map", "balanced", "--devices", "cpu:2"])):
            files.append(pathlib.Path(folder, str(i)))
            muster("logits", str(TINY / "mixtral"), "--tokens", "1,2,3", "--positions", "all", *words,
                   "--out", str(files[-1]))
        assert len({f.read_bytes() for f in files}) == 1


@case
def maps_that_cannot_be_are_refused_in_one_line():
    whole = {"model": 0, "lm_head": 0}
    for device_map, words, status, text in (
        ({"model": 0, "lm_hea": 0}, [], 3, "no module 'lm_hea'"),
        ({**whole, "model.layers.9": 0}, [], 3, "no module 'model.layers.9'"),
        ({"model.layers": 0, "lm_head": 0}, [], 3, "model.embed_tokens"),
        ({**whole, "model.layers.0.self_attn.q_proj": "cpu"}, [], 3, "q_proj"),
        ({**whole, "model.layers.1.mlp.up_proj.weight": "disk"}, [], 3, "up_proj"),
        ({"model": 0, "lm_head": 1}, [], 2, "there are 1"),
        ({**whole, "lm_head": "mps"}, [], 3, "mps"),
        ({**whole, "lm_head": "tpu"}, [], 2, "tpu"),
        (whole, ["--tp", "2", "--devices", "cpu:2"], 2, "without --tp"),
        (whole, ["--pp", "2", "--devices", "cpu:2"], 2, "without --pp"),
        ("fastest", [], 2, "fastest"), ("{", [], 3, "--device-map"), ("7", [], 2, "device 7"),
        (whole, ["--max-memory", "0=lots"], 2, "lots")):
        text_map = device_map if isinstance(device_map, str) else json.dumps(device_map)
        err = generate(TINY / "llama_gqa", "--device-map", text_map, *words, status=status)
        assert text in err and err.count("\n") == 1, err
    for words in (["--max-memory", "0=1GiB"], ["--offload-compute"]):
        assert "goes with a --device-map" in generate(TINY / "llama_gqa", *words, status=2)


@case
def prove_runs_maps_too():
    names = "tp1,balanced2,back2xdp2,split3xt1,offload1,offload2,disk1xt2"
    for model in (TINY / "llama_gqa", TINY / "mixtral", LEGACY, "synth:micro@q4_k"):
        out, _ = muster("prove", str(model), "--quick", "-n", "4", "--placements", names, "--device-map",
                        '{"model":1,"lm_head":"disk","model.layers.0.mlp":0}', "--json")
        found = json.loads(out)
        assert found["same_bits"] and [p["placement"] for p in found["placements"]] == names.split(",") + ["map2"]
        ran = [p for p in found["placements"] if "refused" not in p]
        assert len(ran) >= 5, found
        for p in ran:
            assert p["measured"]["devices"] == p["predicted"]["devices"], p
    out, _ = muster("prove", "synth:nano", "--quick", "-n", "2", "--placements", "tp1,back9")
    assert "back9 is refused" in out and "same bits in all 1 placements" in out, out
    muster("prove", "synth:nano", "--placements", "tp2xback2", status=2)


finish()
