"""muster plan as a user runs it: catalogue names, racks, refusals, its JSON and its drawings."""
import json
import os
import pathlib
import tempfile

from _case import case, finish, muster

PREDICTED = ["decode_tokens_per_s", "prefill_tokens_per_s", "ttft_ms", "tpot_ms"]
MEMORY = ["weights_bytes", "kv_bytes", "activation_bytes", "budget_bytes"]


def plan(*words, status=0):
    return json.loads(muster("plan", *words, "--json", status=status)[0])


@case
def json_is_the_contract():
    d = plan("llama-3.1-70b", "--on", "4xA100-80G", "--engine", "vllm")
    assert d["chosen"] == 0 and d["why"]
    for c in d["candidates"]:
        assert len(c["devices"]) == c["tp"] * c["pp"] * c["dp"]
        assert all(c["predicted"][k] > 0 for k in PREDICTED)
        for device in c["devices"]:
            assert all(device[k] >= 0 for k in MEMORY)
            assert not c["fits"] or device["total_bytes"] <= device["budget_bytes"]
    fitting = [c["predicted"]["tpot_ms"] for c in d["candidates"] if c["fits"]]
    assert fitting == sorted(fitting)


@case
def what_does_not_fit_is_refused_with_what_would():
    words = ("plan", "Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", "--engine", "vllm", "--on")
    out, err = muster(*words, "rtx_4000_ada", status=4)
    assert "too little" in out and err.count("\n") == 1
    assert "22." in err and "17.6" in err and "1 more rtx_4000_ada" in err, err
    assert "would fit" not in muster(*words, "2xrtx_4000_ada")[1]
    d = plan("llama-3.1-70b", "--on", "h100", status=4)
    assert d["chosen"] is None and "more h100_sxm" in d["nearest"]


@case
def names_that_are_not_there_get_the_nearest():
    for words, want in ((["llama-3.1-71b", "--on", "h100"], "llama-3.1-70b"),
                        (["llama-3.1-8b", "--on", "h1000"], "h100"),
                        (["llama-3.1-8b@q9", "--on", "h100"], "q8_0"),
                        (["llama-3.1-8b", "--on", "h100", "--network", "ib_nrd"], "ib_ndr"),
                        (["llama-3.1-8b", "--on", "h100", "--tp", "2"], "--on")):
        status = 3 if words[0] == "llama-3.1-71b" else 2
        out, err = muster("plan", *words, status=status)
        assert out == "" and err.count("\n") == 1 and want in err, err


@case
def a_context_beyond_the_model_is_refused_unless_asked_for():
    words = ("plan", "llama-2-7b", "--on", "h100", "--input", "8000", "--output", "200")
    out, err = muster(*words, status=4)
    assert out == "" and "4096" in err and "8200" in err and "--input 3896" in err, err
    out, err = muster(*words, "--beyond-context", "--json")
    assert "warning" in err and "4096" in err and json.loads(out)["candidates"][0]["fits"]


@case
def degrees_go_as_far_as_they_can():
    d = plan("llama-3.1-70b", "--on", "2x8xh100", "--pp", "16")
    assert {(c["tp"], c["pp"], c["dp"]) for c in d["candidates"]} == {(1, 16, 1)}
    for words, want in ((["--tp", "16"], "--pp"), (["--pp", "100"], "80 layers"),
                        (["--tp", "3", "--engine", "vllm"], "64 heads")):
        err = muster("plan", "llama-3.1-70b", "--on", "128xh100", *words, status=2)[1]
        assert err.count("\n") == 1 and want in err, err


@case
def a_config_alone_is_enough():
    with tempfile.TemporaryDirectory() as folder:
        config = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
                  "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192,
                  "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
                  "tie_word_embeddings": True, "head_dim": 64}
        path = pathlib.Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        for model in (folder, str(path)):
            assert plan(model, "--on", "l4")["weights"][0]["bytes"] == 2471628800


@case
def models_and_engines_are_known_by_many_names():
    for name, on_shape, type in (
            ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b", "bf16"),
            ("llama3.1-8b", "llama-3.1-8b", "bf16"), ("llama3.1:8b", "llama-3.1-8b", "bf16"),
            ("gpt-oss:20b", "gpt-oss-20b", "mxfp4"),
            ("allenai/OLMo-2-1124-7B", "olmo-2-7b", "bf16"),
            ("TheBloke/Llama-2-7B-Chat-GGUF@q4_k_m", "llama-2-7b", "q4_k_m"),
            ("Qwen/Qwen2.5-32B-Instruct-GPTQ-Int4", "qwen2.5-32b", "awq"),
            ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "llama-3.2-1b", "nf4"),
            ("google/gemma-2-9b-it", "gemma-2-9b", "bf16")):
        d = plan(name, "--on", "h200", "--engine", "vllm" if type != "q4_k_m" else "llama.cpp")
        same = plan(f"{on_shape}@{type}", "--on", "h200")
        assert d["weights"][0]["type"] == type, d["weights"]
        assert d["weights"][0]["bytes"] == same["weights"][0]["bytes"], name
    assert plan("llama-3.1-8b", "--on", "h100", "--engine", "VLLM")["engine"] == "vllm"
    for name, want in (("gpt-4", "lists them all"), ("llama-3.1-71b-instruct", "llama-3.1-70b"),
                       ("./llama-3.1-8b", "./llama-3.1-8b"), ("x.gguf", "x.gguf")):
        err = muster("plan", name, "--on", "h100", status=3)[1]
        assert want in err and "synth:" not in err and err.count("\n") == 1, err
    assert "nearest is synth:" in muster("plan", "synth:llama-3.1-71b", "--on", "h100", status=3)[1]


@case
def device_maps_are_made_of_names_too():
    d = json.loads(muster("plan", "llama-3.1-8b", "--device-map", "auto", "--max-memory",
                          "0=10GiB,1=10GiB", "--json")[0])
    assert d["device_map"] and d["sizes"]["total"] == 16060522496 + 512  # and the rotary table
    for words in (["llama-3.1-8b@awq", "--device-map", "auto"],
                  ["llama-3.1-8b", "--on", "h100", "--max-memory", "0=1GiB"],
                  ["llama-3.1-8b", "--device-map", "foo", "--max-memory", "0=1GiB"],
                  ["llama-3.1-8b", "--device-map", "auto", "--max-memory", "0=xGiB"],
                  ["llama-3.1-8b", "--device-map", "auto"],
                  ["llama-3.1-8b", "--engine", "vlm", "--on", "h100"]):
        out, err = muster("plan", *words, status=2)
        assert out == "" and err.count("\n") == 1, err


@case
def a_model_has_the_type_it_is_published_in():
    for model, want in (("deepseek-v3", "fp8_block"), ("deepseek-ai/DeepSeek-R1", "fp8_block"),
                        ("gpt-oss-120b", "mxfp4"), ("llama-3.1-8b", "bf16"),
                        ("deepseek-v3@bf16", "bf16")):
        d = plan(model, "--on", "16xh200", "--engine", "vllm")
        assert [w["type"] for w in d["weights"]] == [want], (model, d["weights"])
    eight = plan("deepseek-v3", "--on", "8xh200", "--engine", "vllm")
    assert eight["candidates"][0]["fits"] and 670e9 < eight["weights"][0]["bytes"] < 690e9


@case
def types_and_goals_are_compared():
    d = plan("llama-3.1-8b", "--on", "2xh100", "--weights", "all", "--engine", "vllm")
    assert {c["weights"] for c in d["candidates"]} == {"bf16", "fp8", "int8", "awq"}
    d = plan("llama-3.1-8b", "--on", "2xrtx_4090", "--weights", "all", "--goal", "fit")
    assert d["candidates"][0]["fits"] and len(d["candidates"][0]["devices"]) == 1
    assert {c["weights"] for c in d["candidates"]} >= {"bf16", "fp8", "awq", "q4_k"}
    fast = plan("llama-3.1-8b", "--on", "4xh100", "--batch", "64", "--goal", "throughput")
    cost = plan("llama-3.1-8b", "--on", "4xh100", "--batch", "64", "--goal", "cost")
    assert len(fast["candidates"][0]["devices"]) > len(cost["candidates"][0]["devices"])


@case
def every_engine_has_a_word():
    for engine in ("muster", "vllm", "sglang", "trtllm", "llama.cpp", "transformers"):
        d = plan("llama-3.1-8b", "--on", "2xh100", "--engine", engine, "--batch", "4")
        assert d["engine"] == engine and d["candidates"][0]["fits"]
    d = plan("llama-3.1-8b", "--on", "6xh100")
    assert {c["tp"] for c in d["candidates"]} == {1, 2, 3, 4, 5, 6}
    d = plan("llama-3.1-8b", "--on", "6xh100", "--engine", "vllm")
    assert {c["tp"] for c in d["candidates"]} == {1, 2, 4}


@case
def pictures_and_lines_to_copy():
    with tempfile.TemporaryDirectory() as folder:
        svg = os.path.join(folder, "plan.svg")
        out, _ = muster("plan", "llama-3.1-70b", "--on", "4xA100-80G+2xL40S", "--engine", "vllm",
                        "--pp", "6", "--svg", svg)
        assert pathlib.Path(svg).read_text().count("l40s") == 2
    assert "┌" in out and "VLLM_PP_LAYER_PARTITION=" in out and "device_map=" in out
    assert "predicted" in out and "published limits" in out


def lines(*words):
    return [line for line in muster("plan", *words)[0].split("\n\n")[-1].splitlines() if line]


@case
def lines_to_copy_do_what_was_planned():
    hub = "meta-llama/Llama-3.1-70B"
    four = lines("llama-3.1-70b", "--on", "4xA100-80G", "--engine", "vllm")
    assert any(l.startswith(f"vllm serve {hub} --tensor-parallel-size 4") for l in four), four
    eight = lines("llama-3.1-70b@fp8", "--on", "2xh100", "--engine", "vllm")
    assert any(f"vllm serve {hub} --quantization fp8" in l for l in eight), eight
    awq = lines("llama-3.1-70b@awq", "--on", "h100", "--engine", "vllm")
    assert f"of {hub} in awq" in awq[0] and 'vllm serve "$MODEL"' in awq[1], awq
    gguf = lines("TheBloke/Llama-2-7B-GGUF@q4_0", "--on", "l4", "--engine", "llama.cpp")
    assert "meta-llama/Llama-2-7b-hf" in gguf[0], gguf
    named = lines("Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", "--on", "h100", "--engine", "vllm")
    assert "vllm serve Qwen/Qwen2.5-Coder-32B-Instruct-AWQ " in named[0], named
    whole = lines("llama-3.1-8b", "--on", "h100", "--engine", "transformers")
    calls = [l for l in whole if "from_pretrained" in l]
    assert calls and all(l.endswith("})") and l.count("(") == l.count(")") for l in calls), whole
    llama = lines("llama-3.1-70b@q4_k_m", "--on", "2xrtx_4090", "--engine", "llama.cpp")
    assert ".gguf" in llama[0] and "-ngl" in llama[1] and "-ts" in llama[1], llama
    assert not any("vllm" in l or "from_pretrained" in l for l in llama), llama
    assert lines("llama-3.1-8b", "--on", "h100", "--engine", "trtllm")[0].startswith("trtllm-serve")
    three = lines("llama-3.1-8b", "--on", "3xh100", "--tp", "3")
    assert not any("vllm" in l for l in three) and "GPUs yet" in three[0], three
    cpu = lines("synth:llama-3.2-1b@q8_0", "--on", "2xepyc_9354", "--tp", "2")
    assert cpu == ["muster generate synth:llama-3.2-1b@q8_0 --devices cpu:2 --tp 2 --pp 1 -p \"...\""]
    for out in (four, eight, awq, named, whole, llama, three):
        assert not any("@" in l or "llama-3.1-70b" in l for l in out), out


@case
def best_map_names_every_module():
    d = json.loads(muster("plan", "llama-3.1-70b", "--on", "4xA100-80G", "--engine", "transformers",
                          "--device-map", "best")[0])
    layers = [d["device_map"][f"model.layers.{i}"] for i in range(80)]
    assert layers == sorted(layers) and d["device_map"]["lm_head"] == layers[-1]


@case
def an_edited_catalogue_is_used():
    with tempfile.TemporaryDirectory() as folder:
        row = "toy\t\t16\t15\t100\t10\t\t\t\t\t50\tnone\tpcie4\t4\t\tmade up\n"
        pathlib.Path(folder, "devices.tsv").write_text(row)
        env = {"MUSTER_SHARE": folder}
        out = muster("plan", "llama-3.2-1b", "--on", "2xtoy", "--json", env=env)[0]
        assert json.loads(out)["candidates"][0]["devices"][0]["name"] == "toy"
        muster("plan", "llama-3.2-1b", "--on", "h100", status=2, env=env)
    _, err = muster("plan", "llama-3.2-1b", "--on", "h100", status=2,
                    env={"MUSTER_SHARE": "/nonexistent"})
    assert "MUSTER_SHARE" in err and "/nonexistent" in err, err


@case
def a_rack_may_be_a_file():
    example = pathlib.Path(__file__).parents[2] / "docs" / "rack.yaml"
    d = plan("llama-3.1-8b", "--on", str(example), "--engine", "vllm")
    assert max(len(c["devices"]) for c in d["candidates"]) > 8
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rack.yaml")
        path.write_text("hosts:\n  - count: 2\n    devices: [{device: a100-80g, count: 4}]\n"
                        "  - devices: [{device: l40s, budget: 40GiB}]  # one more\n")
        d = plan("llama-3.1-70b", "--on", str(path), "--pp", "3", "--tp", "3")
        assert len(d["candidates"][0]["devices"]) == 9
        path.write_text("hosts:\n  - devices: [{device: h100_sxn}]\n")
        assert "h100_sxm" in muster("plan", "llama-3.1-8b", "--on", str(path), status=2)[1]
        path.write_text("hosts:\n  - devices:\n      - {device: h100, cout: 8}\n")
        err = muster("plan", "llama-3.1-8b", "--on", str(path), status=3)[1]
        assert "line 3" in err and "cout" in err and len(err.splitlines()) == 1
        path.write_text("hosts:\n  - devices:\n      - device: h100\n  - devices:\n"
                        "      - count: 2\n        device: a100x\n")
        err = muster("plan", "llama-3.1-8b", "--on", str(path), status=2)[1]
        assert "line 6" in err and "a100x" in err, err


@case
def a_file_that_is_not_there_is_called_one():
    for words in (["--on", "none.yaml"], ["--on", "./none"], ["--device-map", "none.json"]):
        err = muster("plan", "llama-3.1-8b", *words, status=3)[1]
        assert f"{' '.join(words)}: there is no such file" in err, err


@case
def a_map_without_a_gpu_is_remarked_on():
    words = ["plan", "llama-3.1-8b", "--device-map", "auto", "--max-memory"]
    assert "all of it is on the disk" in muster(*words, "0=1MiB,cpu=1MiB")[1]
    assert "all of it is" not in muster(*words, "0=40GiB,cpu=1MiB")[1]
    assert "all of it is" not in muster("plan", "llama-3.1-8b", "--device-map", "cpu")[1]


@case
def this_machine_is_planned_for():
    with tempfile.TemporaryDirectory() as folder:
        env = {"XDG_CACHE_HOME": folder}
        for _ in range(2):  # the second time from what was measured
            d = json.loads(muster("plan", "synth:nano", "--json", env=env)[0])
            assert d["candidates"][0]["fits"]
            assert "measured" in d["candidates"][0]["predicted"]["from"]
        assert pathlib.Path(folder, "muster", "costs.tsv").read_text().count("\n") == 1
        here = muster("plan", "synth:nano", "--device-map", "0", env=env)[0].splitlines()[-1]
        away = muster("plan", "synth:nano", "--device-map", '{"":"disk"}', env=env)[0].splitlines()
        assert here.startswith("predicted for muster on this machine"), here
        assert "from the disk" in away[-1] and "from" not in here, away
        words = ["generate", "synth:nano", "--tokens", "1,2,3", "-n", "2", "--json"]
        assert json.loads(muster(*words, env=env)[0])["predicted"]["decode_tokens_per_s"] > 0
        env = {"XDG_CACHE_HOME": folder + "/none"}  # nobody who generates waits for costs
        assert "decode_tokens_per_s" not in json.loads(muster(*words, env=env)[0])["predicted"]
    muster("plan", "synth:nano", "--engine", "vllm", status=2)


finish()
