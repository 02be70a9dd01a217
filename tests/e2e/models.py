"""Running a model as a user does: what it answers, and what bad input gets."""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

from _case import MUSTER, ROOT, Skip, case, finish, muster

GOLDEN = ROOT / "tests/golden"
MODEL = str(GOLDEN / "1_tiny/llama_gqa")
GGUF = str(GOLDEN / "6_quant/gguf/legacy_mix.gguf")


def generate(*words, model=MODEL, **more):
    out, _ = muster("generate", model, "--json", "--ignore-eos", *words, **more)
    return json.loads(out)


def refused(status, *words, says, **more):
    out, err = muster(*words, status=status, **more)
    assert out == "", out
    assert err.count("\n") == 1 and err.startswith("muster: "), err
    for word in [says] if isinstance(says, str) else says:
        assert word in err, f"'{word}' is not in: {err}"
    return err


class ModelCopy(tempfile.TemporaryDirectory):
    """A copy of the small model to break."""

    def __enter__(self):
        path = pathlib.Path(super().__enter__()) / "model"
        shutil.copytree(MODEL, path)
        return path


def edit_tensor(path, name, change):
    """Calls change(header entry, data as bytearray of that tensor) on a safetensors file."""
    raw = bytearray(path.read_bytes())
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + n])
    entry = header[name]
    begin, end = entry["data_offsets"]
    data = raw[8 + n + begin : 8 + n + end]
    change(entry, data)
    raw[8 + n + begin : 8 + n + end] = data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n :])


@case
def an_answer_is_the_same_on_any_threads_devices_and_chunks():
    want = generate("--tokens", "5,6,7,8,9", "-n", "12", "--greedy")
    assert len(want["ids"]) == 12 and want["finish_reason"] == "length"
    for words in (["--threads", "3"], ["--devices", "cpu:2"], ["--devices", "cpu:2", "--pp", "2"],
                  ["--prefill-chunk", "2"], ["--devices", "cpu:3"]):
        got = generate("--tokens", "5,6,7,8,9", "-n", "12", "--greedy", *words)
        assert (got["ids"], got["digest"]) == (want["ids"], want["digest"]), words


@case
def predicted_memory_is_what_was_used():
    got = generate("--tokens", "5,6,7", "-n", "3")
    assert got["predicted"]["devices"] == got["measured"]["devices"]
    assert got["measured"]["decode_tokens_per_s"] > 0


@case
def a_seed_repeats():
    first = generate("--tokens", "5,6", "-n", "8", "--temperature", "1")
    again = generate("--tokens", "5,6", "-n", "8", "--temperature", "1", "--seed", str(first["seed"]))
    assert first["ids"] == again["ids"]


@case
def logprobs_are_sorted_and_hold_the_token():
    got = generate("--tokens", "5,6", "-n", "4", "--greedy", "--logprobs", "3")
    for token, entry in zip(got["ids"], got["logprobs"]):
        assert entry["id"] == token and len(entry["top"]) == 3
        values = [p for _, p in entry["top"]]
        assert values == sorted(values, reverse=True) and entry["top"][0] == [token, entry["logprob"]]


@case
def text_in_text_out():
    out, _ = muster("generate", MODEL, "-p", "the cat", "-n", "5", "--greedy")
    assert out == generate("-p", "the cat", "-n", "5", "--greedy")["text"] + "\n"
    piped, _ = muster("generate", MODEL, "-p", "-", "-n", "5", "--greedy", stdin="the cat")
    assert piped == out


@case
def a_stop_text_ends_and_is_not_shown():
    text = generate("-p", "the cat", "-n", "30", "--greedy")["text"]
    stop = text[8:11]
    got = generate("-p", "the cat", "-n", "30", "--greedy", "--stop", stop)
    assert got["finish_reason"] == "stop" and got["text"] == text[: text.index(stop)]


@case
def a_prompt_past_the_context_is_refused():
    refused(3, "generate", MODEL, "--tokens", "1,2,3,4,5", "-n", "1", "--context", "5",
            says="context of 5")


@case
def a_token_beyond_the_vocabulary_is_refused():
    refused(3, "generate", MODEL, "--tokens", "1,99999", says="99999")


@case
def an_unknown_option_names_the_nearest():
    refused(2, "generate", MODEL, "--tokns", "1", says="--tokens")


@case
def a_folder_without_a_model_is_refused():
    with tempfile.TemporaryDirectory() as empty:
        refused(3, "generate", empty, "--tokens", "1", says=empty)
    refused(3, "generate", "/nowhere/at-all", "--tokens", "1", says="/nowhere/at-all")


@case
def a_half_downloaded_file_is_refused():
    with ModelCopy() as model:
        path = model / "model.safetensors"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(3, "generate", str(model), "--tokens", "1", says="model.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "half.gguf"
        path.write_bytes(pathlib.Path(GGUF).read_bytes()[:200000])
        refused(3, "generate", str(path), "--tokens", "1", says="half.gguf")


@case
def a_tensor_of_the_wrong_shape_is_refused():
    def change(entry, data):
        entry["shape"] = entry["shape"][::-1]

    with ModelCopy() as model:
        edit_tensor(model / "model.safetensors", "model.layers.1.mlp.up_proj.weight", change)
        refused(3, "generate", str(model), "--tokens", "1",
                says=["model.layers.1.mlp.up_proj.weight", "176"])


@case
def nan_weights_are_named():
    def change(entry, data):
        data[400:404] = struct.pack("<f", float("nan"))

    for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight",
                 "model.layers.0.input_layernorm.weight"):
        with ModelCopy() as model:
            edit_tensor(model / "model.safetensors", name,
                        lambda entry, data: data.__setitem__(slice(40, 44),
                                                             struct.pack("<f", float("nan"))))
            refused(3, "generate", str(model), "--tokens", "1,2", "-n", "2", "--json", says=name)


@case
def a_missing_tensor_is_named():
    with ModelCopy() as model:
        path = model / "model.safetensors"
        raw = path.read_bytes().replace(b"model.norm.weight", b"model.nurm.weight")
        path.write_bytes(raw)
        refused(3, "generate", str(model), "--tokens", "1", says="model.norm.weight")


@case
def what_does_not_fit_is_refused_with_what_would():
    for model, budget in ((MODEL, "100 KiB"), ("synth:llama-3.1-8b@f16", "1.00 GiB")):
        out, err = muster("generate", model, "--tokens", "1,2", "--devices",
                          "cpu:1x" + budget.replace(" ", "").replace(".00", ""), status=4)
        lines = err.splitlines()
        assert out == "" and lines[0].startswith("device ") and "too little" in lines[1], err
        assert lines[-1].startswith("muster: ") and "weights" in lines[-1], err
        assert "budget of " + budget in lines[-1], err
    assert "would fit: --devices cpu:" in err, err


@case
def only_regular_files_are_written_and_never_the_source():
    with tempfile.TemporaryDirectory() as folder:
        fifo, link, real = (os.path.join(folder, n) for n in ("fifo", "link.gguf", "real.gguf"))
        os.mkfifo(fifo)
        refused(2, "convert", MODEL, fifo, says="no regular file")
        shutil.copyfile(GGUF, real)
        os.symlink("real.gguf", link)
        refused(2, "convert", real, link, says="is what would be converted")
        muster("convert", GGUF, link, "--quiet")
        assert os.path.islink(link) and pathlib.Path(real).stat().st_size > 300000


@case
def weights_quantised_while_loading_are_those_that_convert_writes():
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("q8_0", "q4_k", "iq4_nl"):
            path = os.path.join(folder, kind + ".gguf")
            muster("convert", "synth:micro@bf16", path, "--weights", kind, "--quiet")
            words = ("--tokens", "5,6,7", "-n", "4", "--greedy")
            want = generate(*words, model=path)
            for more in ([], ["--devices", "cpu:3"]):
                got = generate(*words, "--weights", kind, *more, model="synth:micro@bf16")
                assert got["digest"] == want["digest"], kind
            assert generate(*words, "--weights", kind, model="synth:micro@bf16")["predicted"]["devices"] == \
                want["predicted"]["devices"]
    as_it_is = generate("--tokens", "5,6", "-n", "2", "--greedy", model="synth:micro@q4_0")
    assert generate("--tokens", "5,6", "-n", "2", "--greedy", "--weights", "q8_0",
                    model="synth:micro@q4_0")["digest"] == as_it_is["digest"]
    _, said = muster("generate", MODEL, "--tokens", "1,2", "-n", "2", "--weights", "q4_k", "--json")
    assert "take q5_0" in said, said
    refused(2, "generate", MODEL, "--tokens", "1,2", "--weights", "iq2_xs", says=["iq2_xs", "q4_k"])


@case
def a_converted_folder_brings_its_tokenizer():
    texts = ["Hello, world! 123\n\n", " é 日本語 🙂", "<|endoftext|>", "", "  x"]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("llama_gqa", "llama3_tied", "qwen2"):
            path = os.path.join(folder, name + ".gguf")
            _, said = muster("convert", str(GOLDEN / "1_tiny" / name), path)
            assert "tokenizer" not in said, said
            for words in ([], ["--add-special"], ["--no-special"]):
                want, got = (muster("tokenize", model, "--batch", *words, stdin=json.dumps(texts))[0]
                             for model in (str(GOLDEN / "1_tiny" / name), path))
                assert want == got, (name, words)
    with ModelCopy() as model:
        config = json.loads((model / "tokenizer.json").read_text())
        config["pre_tokenizer"] = {"type": "Digits", "individual_digits": True}
        (model / "tokenizer.json").write_text(json.dumps(config))
        _, said = muster("convert", str(model), str(model / "out.gguf"))
        assert "the tokenizer is not carried over" in said and "no name for" in said, said


@case
def a_file_written_without_a_tokenizer_says_so():
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "nano.gguf")
        muster("convert", "synth:nano", out, "--quiet")
        assert b"tokenizer.ggml.model\x08\0\0\0\x08\0\0\0\0\0\0\0no_vocab" in pathlib.Path(out).read_bytes()
        refused(3, "tokenize", out, stdin="x", says="there is no tokenizer")
        want = generate("--tokens", "1,2", "-n", "2", "--greedy", model=out)
        got = generate("--prompts", "-", "-n", "2", "--greedy", model=out, stdin=lines({"prompt": [1, 2]}))
        assert got["text"] is None and got["ids"] == want["ids"]
        refused(3, "generate", out, "-p", "x", says="there is no tokenizer")


@case
def inspect_tells_what_is_there_and_what_is_not():
    def inspect(model):
        return json.loads(muster("inspect", str(model), "--json")[0])

    whole, gguf = inspect(MODEL), inspect(GGUF)
    assert whole["tokenizer"]["kind"] == "bpe" and whole["tokenizer"]["tokens"] == 512, whole
    assert whole["parameters"] > 0 and "part" not in whole and gguf["main_type"], gguf
    shard = inspect(GOLDEN / "1_tiny/llama_bias_sharded/model-00002-of-00003.safetensors")
    assert shard["part"] == {"number": 2, "of": 3} and "parameters" not in shard, shard
    said, _ = muster("inspect", str(GOLDEN / "1_tiny/llama_bias_sharded/model-00002-of-00003.safetensors"))
    assert "part           2 of 3" in said and "parameters" not in said, said
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(os.path.join(MODEL, "config.json"), folder)
        bare = inspect(folder)
        assert bare["n_tensors"] == 0 and "tokenizer" not in bare and bare["layers"] > 0, bare
        assert "none here" in muster("inspect", folder)[0]
        broken = os.path.join(folder, "broken.gguf")
        pathlib.Path(broken).write_bytes(pathlib.Path(GGUF).read_bytes()[:3000])
        refused(3, "inspect", broken, says="broken.gguf")
    names = json.loads(muster("inspect", "synth:", "--json")[0])
    assert "llama-3.2-1b" in names and len(names) > 20, names


@case
def options_that_would_do_nothing_are_refused_and_prompts_do_not_meet():
    refused(2, "generate", MODEL, "--tokens", "1", "--logprobs", "2", says="--json")
    refused(2, "chat", MODEL, "hi", "--logprobs", "2", says="no log-probabilities")
    refused(2, "tokenize", MODEL, "--decode", "--add-special", says="--decode")
    plain = generate("--tokens", "5,6", "-n", "2", "--greedy")["ids"]
    assert generate("--tokens", "5,6", "-n", "2", "--greedy", env={"MUSTER_PROMPT": "x"})["ids"] == plain
    assert generate("-n", "2", "--greedy", env={"MUSTER_TOKENS": "5,6"})["ids"] == plain
    refused(2, "generate", MODEL, "--tokens", "1", "--prompt", "x", says="only one")


def lines(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


@case
def prompts_together_are_answered_as_alone():
    prompts = ["the cat", "a dog and", "x"]
    words = ["-n", "9", "--temperature", "1", "--seed", "7"]
    alone = [generate("-p", p, *words) for p in prompts]
    flags = [word for p in prompts for word in ("-p", p)]
    for streams in ("1", "2", "0"):
        together = generate(*flags, *words, "--streams", streams)
        for i, (want, got) in enumerate(zip(alone, together["answers"], strict=True)):
            assert (got["prompt"], got["choice"]) == (i + 1, 1)
            assert all(got[key] == want[key] for key in ("ids", "text", "finish_reason", "digest"))
        assert together["measured"]["tokens"] == 27
    text, _ = muster("generate", MODEL, *flags, *words, "--ignore-eos")
    assert text == "\n".join(f"==> {i + 1} <==\n{a['text']}\n" for i, a in enumerate(alone)), text
    mixed = lines({"prompt": "the cat"}, {"prompt": [5, 6]})
    read = generate("--prompts", "-", *words, stdin="\n" + mixed)["answers"]
    assert read[0]["ids"] == alone[0]["ids"]
    assert read[1]["ids"] == generate("--tokens", "5,6", *words)["ids"]
    refused(3, "generate", MODEL, "--prompts", "-", stdin=lines({"prompt": "a"}, {"prompt": 3}),
            says=["standard input:2", "messages"])
    refused(3, "generate", MODEL, "--prompts", "-", stdin=lines({"prompt": [-1]}), says="no token id")
    refused(3, "generate", MODEL, "--prompts", "-", stdin="\n", says="no prompt")
    refused(3, "generate", "synth:nano", "-p", "a", says=["no tokenizer", "--tokens"])
    refused(3, "generate", MODEL, "-p", "the cat", "-p", "", says=["prompt 2: ", "prompt is empty"])


@case
def of_many_prompts_the_faulty_one_is_named():
    def faulty(*objects, says, words=()):
        refused(3, "generate", MODEL, "--prompts", "-", *words, stdin="\n" + lines(*objects),
                says=["standard input:3: ", *says])
    good = {"prompt": "a"}
    faulty(good, {"prompt": [5, 99999]}, says=["99999"])
    faulty(good, {"prompt": []}, says=["empty"])
    faulty(good, {"prompt": [5] * 600}, says=["context of 512"])
    faulty(good, {"prompt": [5] * 500}, {"prompt": [5] * 400}, words=["-n", "20"], says=["context of 512"])
    faulty(good, {"prompt": "b", "promt": "c"}, says=['"promt" is unknown beside "prompt"'])
    faulty(good, {"messages": [], "tool": []}, says=['"tool"', "messages, tools, documents"])
    faulty(good, {"prompt": "b", "messages": []}, says=["messages"])


@case
def choices_share_a_seed_and_differ():
    got = generate("-p", "the cat", "-n", "9", "--temperature", "1", "--choices", "3")["answers"]
    assert [a["choice"] for a in got] == [1, 2, 3] and len({a["seed"] for a in got}) == 1, got
    assert len({str(a["ids"]) for a in got}) > 1, got
    first = generate("-p", "the cat", "-n", "9", "--temperature", "1", "--seed", str(got[0]["seed"]))
    assert first["ids"] == got[0]["ids"]


def threads(pid):
    """The names of a process's threads."""
    return {comm.read_text().strip() for comm in pathlib.Path(f"/proc/{pid}/task").glob("*/comm")}


@case
def an_interrupted_answer_is_printed_as_far_as_it_came():
    for more in ([], ["--choices", "2"]):
        run = subprocess.Popen([MUSTER, "generate", "synth:micro", "--tokens", "1,2", "--json", "--ignore-eos",
                                "-n", "2000", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while run.poll() is None and "muster-sched" not in threads(run.pid):  # it still loads
            time.sleep(0.01)
        time.sleep(0.1)
        run.send_signal(2)
        out, err = run.communicate(timeout=30)
        got = json.loads(out)
        assert run.returncode == 130 and err == "muster: interrupted\n", (run.returncode, err)
        for answer in got.get("answers", [got]):
            assert answer["finish_reason"] == "cancelled" and answer["ids"], answer


@case
def a_profile_names_every_operation_and_changes_no_bit():
    for model, has in ((MODEL, ["gate_up", "down"]), ("synth:nano-moe", ["router", "experts_down"])):
        words = ["--tokens", "5,6,7", "-n", "9", "--greedy"]
        plain, got = generate(*words, model=model), generate(*words, "--profile", model=model)
        assert got["digest"] == plain["digest"] and "profile" not in plain["measured"]
        (device,) = got["measured"]["profile"]
        assert (device["prefill"]["steps"], device["decode"]["steps"]) == (1, 8), device
        named = {o["name"]: o for o in device["decode"]["operations"]}
        assert all(o["seconds"] > 0 for o in named.values())
        assert {"embed", "qkv", "attention", "o", "logits", *has} <= set(named), named
        assert named["logits"]["weight_bytes"] > 0 == named["attention"]["weight_bytes"]
    _, told = muster("generate", MODEL, "--tokens", "5,6,7", "-n", "3", "--ignore-eos", "--profile")
    assert "reading the prompt, 1 step\n" in told and "decoding, 2 steps" in told, told
    assert re.search(r"^start +1 ", told, re.M), told
    for prompt, chunk in (("5", "512"), ("5,6,7", "2")):
        _, told = muster("generate", MODEL, "--tokens", prompt, "--prefill-chunk", chunk, "-n", "0", "--profile")
        assert "reading the prompt" in told and "decoding" not in told, told


@case
def a_chat_takes_commands_between_messages():
    with ModelCopy() as model, tempfile.TemporaryDirectory() as folder:
        (model / "chat_template.jinja").write_text(
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
        saved = os.path.join(folder, "saved.json")

        def chat(*entries, status=0):
            return muster("chat", str(model), "-n", "4", "--greedy", "--ignore-eos", status=status,
                          stdin="".join(entry + "\n" for entry in entries))

        def said():
            with open(saved) as f:
                return [(m["role"], m["content"]) for m in json.load(f)["messages"]]

        out, err = chat("one\\", "two", f"/save {saved}", "/quit", "never")
        assert said() == [("user", "one\ntwo"), ("assistant", out[:-1])] and err == "", (out, err)
        again, _ = chat(f"/load {saved}", "/regenerate", f"/save {saved}")
        assert again == out and len(said()) == 2
        chat("/system be brief", "x", "/reset", f"/save {saved}")
        assert said() == [("system", "be brief")]
        chat("/system a", "x", "/system b", f"/save {saved}")
        assert said()[0] == ("system", "b") and [role for role, _ in said()] == ["system", "user", "assistant"]
        chat("/system a", "/system", "/not/a/command", f"/save {saved}")
        assert said()[0] == ("user", "/not/a/command")
        assert "no command /nothing" in chat("/nothing", status=2)[1]
        assert "/regenerate" in chat("/help")[1]
        assert "no question" in chat("/regenerate", status=2)[1]
        assert "nowhere" in chat("/load /nowhere", status=3)[1]
        pathlib.Path(saved).write_text("{}")
        assert "messages" in chat(f"/load {saved}", status=3)[1]
        alone, _ = chat("one")
        out, err = chat("/load /nowhere", "one", "/nothing", status=3)
        assert out == alone and err.count("\n") == 2 and "/nowhere" in err and "/nothing" in err, (out, err)
        _, err = chat(f"/save {saved}", "/nothing", status=2)
        assert err == "muster: there is no command /nothing; /help lists them\n", err
        out, err = chat("one " * 4000, "/reset", "one", status=3)
        assert out == alone and err.count("\n") == 1, (out, err)
        (model / "chat_template.jinja").write_text("{{ raise_exception('never') if messages|length > 1 else 'x' }}")
        chat("one", "/save " + saved, "two", status=3)
        assert [role for role, _ in said()] == ["user", "assistant"], said()


@case
def a_transcript_is_kept_and_gone_on_from():
    with ModelCopy() as model, tempfile.TemporaryDirectory() as folder:
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        kept = pathlib.Path(folder, "kept.json")
        words = ["chat", str(model), "-n", "4", "--greedy", "--ignore-eos", "--transcript", str(kept)]

        def roles():
            return [m["role"] for m in json.loads(kept.read_text())["messages"]]
        muster(*words, "--system", "be brief", stdin="one\n")
        assert roles() == ["system", "user", "assistant"]
        muster(*words, "two")
        assert roles() == ["system"] + 2 * ["user", "assistant"]
        run = subprocess.Popen([MUSTER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        run.stdin.write(b"three\n")
        run.stdin.flush()
        for _ in range(200):
            if len(roles()) == 7:
                break
            time.sleep(0.05)
        run.kill()
        run.communicate()
        assert roles() == ["system"] + 3 * ["user", "assistant"]
        refused(3, *words[:-1], folder + "/no/such.json", "hi", says="no/such.json")
        kept.write_text("[]")
        refused(3, *words, "hi", says=[str(kept), "messages"])
        assert kept.read_text() == "[]"


class Terminal:
    """The program at a terminal of its own."""

    def __init__(self, *words, columns=80, **env):
        self.came = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execvpe(MUSTER, [MUSTER, *words], dict(os.environ, TERM="xterm", **env))

    def read_until(self, text):
        """What came, up to the text; fails when that does not come in time."""
        while text.encode() not in self.came:
            assert select.select([self.fd], [], [], 60)[0], self.came
            self.came += os.read(self.fd, 65536)
        got, text, self.came = self.came.partition(text.encode())
        return (got + text).decode(errors="replace")

    def read_all(self):
        """What came until its end."""
        got = b""
        while select.select([self.fd], [], [], 60)[0]:
            try:
                piece = os.read(self.fd, 65536)
            except OSError:  # Linux says that the other end is gone
                piece = b""
            if not piece:
                break
            got += piece
        os.close(self.fd)
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0, got
        return got.decode()

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def end_with(self, key):
        """Its status after the key, which is pressed again while it stays: what comes as the terminal changes its
        mode is lost."""
        for _ in range(40):
            os.write(self.fd, key.encode())
            for _ in range(20):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    os.close(self.fd)
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.05)
        raise AssertionError(f"it does not end with {key!r}")


@case
def a_signal_at_the_prompt_leaves_the_terminal_as_it_was():
    with ModelCopy() as model, tempfile.TemporaryDirectory() as state:
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        terminal = Terminal("chat", str(model), XDG_STATE_HOME=state, MUSTER_NO_STORE="1")
        before = termios.tcgetattr(terminal.fd)
        terminal.read_until("> ")
        for _ in range(100):  # until the editor reads keys one by one
            if not termios.tcgetattr(terminal.fd)[3] & termios.ICANON:
                break
            time.sleep(0.05)
        else:
            terminal.end_with("\x04")
            raise Skip("no libedit here")
        os.kill(terminal.pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 130
        after = termios.tcgetattr(terminal.fd)
        os.close(terminal.fd)
    assert after == before, (before, after)


@case
def progress_stays_on_one_line_of_any_terminal():
    for words in (["generate", MODEL, "--tokens", "1", "-n", "0"], ["prove", "synth:nano", "--quick", "-n", "2"]):
        bars = 0
        for columns in (1, 12, 24, 40, 80, 300):
            told = Terminal(*words, columns=columns).read_all()
            drawn = [line.split("\033[K")[0] for line in told.split("\r") if "\033[K" in line]
            assert len(drawn) > 1 and all(len(line) < max(columns, 1) for line in drawn), (columns, drawn)
            bars += any(line.startswith("[") for line in drawn)
        assert bars >= 3, words


@case
def a_chat_at_a_terminal_stops_answers_and_keeps_its_history():
    with ModelCopy() as model, tempfile.TemporaryDirectory() as state:
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        words = ["chat", str(model), "--greedy", "-n", "4"]
        chat = Terminal(*words, XDG_STATE_HOME=state, LC_ALL="C")
        chat.read_until("> ")
        chat.type("one caf\u00e9 \u4f60\r")
        chat.read_until("> ")
        chat.type(f"/save {state}/saved.json\r")
        chat.read_until("> ")
        assert "one caf\u00e9 \u4f60" in pathlib.Path(state, "saved.json").read_text()
        chat.type("/load /nowhere\r")
        assert "/nowhere: cannot open" in chat.read_until("> ")
        assert chat.end_with("\x15\x04") == 0
        history = pathlib.Path(state, "muster/chat_history")
        if not history.exists():
            raise Skip("no libedit here")
        assert "one" in history.read_text()
        chat = Terminal(*words, XDG_STATE_HOME=state)
        chat.read_until("> ")
        chat.type("\x1b[A")
        chat.read_until("/load /nowhere")
        chat.type("\x03")
        chat.read_until("Ctrl-C again")
        chat.read_until("> ")
        chat.type("two\r")
        chat.read_until("> ")
        assert chat.end_with("\x03") == 130
        assert "two" in history.read_text()


@case
def more_than_the_models_context_is_refused():
    refused(3, "generate", MODEL, "--tokens", "1,2", "--context", "513", says=["context of 512", "--context 512"])
    refused(3, "generate", MODEL, "--tokens", "1,2", "-n", "511", says="context of 512")
    assert len(generate("--tokens", ",".join(["7"] * 500), "--greedy")["ids"]) == 12


@case
def a_closed_standard_output_is_an_error_and_harms_no_file():
    done = subprocess.run(["sh", "-c", f"'{MUSTER}' generate '{MODEL}' --tokens 1 -n 2 --json >&-"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "Bad file descriptor" in done.stderr, done


@case
def an_interrupt_ends_a_command_that_waits_for_input():
    run = subprocess.Popen([MUSTER, "tokenize", MODEL], stdin=subprocess.PIPE)
    try:
        run.wait(0.5)
        raise AssertionError("it did not wait")
    except subprocess.TimeoutExpired:
        run.send_signal(2)
    assert run.wait(10) == 130


@case
def a_conversation_a_line_uses_the_models_template():
    line = json.dumps({"messages": [{"role": "user", "content": "x"}]})
    refused(3, "template", MODEL, stdin=line, says="no chat template")


@case
def too_many_devices_are_refused_with_the_reason():
    refused(2, "generate", MODEL, "--tokens", "1", "--devices", "cpu:9", "--tp", "9", says="--tp 6")


@case
def a_full_disk_leaves_nothing():
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full")
    done = subprocess.run([MUSTER, "generate", MODEL, "--tokens", "1", "-n", "2", "--json"],
                          stdout=open("/dev/full", "w"), stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 4 and "No space left" in done.stderr, done


@case
def a_closed_pipe_ends_quietly():
    done = subprocess.run(["sh", "-c", f"'{MUSTER}' generate '{MODEL}' -p x -n 200 --greedy --ignore-eos "
                           "| head -c 5"], capture_output=True, timeout=60)
    assert done.stderr == b"" and len(done.stdout) == 5, done


def fault_points(words):
    """How often each fault point is passed in this run; {} in builds without them."""
    _, err = muster(*words, env={"MUSTER_FAULT": "count"})
    found = {}
    for line in err.splitlines():
        if line.startswith("fault point "):
            _, _, name, _, count = line.split()
            found[name] = int(count)
    return found


@case
def every_failing_allocation_read_and_thread_is_survived():
    words = ["generate", MODEL, "-p", "the cat", "-n", "4", "--devices", "cpu:2", "--threads", "2",
             "--json", "--seed", "1"]
    passed = fault_points(words)
    if not passed:
        raise Skip("this build has no fault points")
    assert passed["thread"] >= 4 and passed["read"] >= 3 and passed["alloc"] >= 50, passed
    want = json.loads(muster(*words)[0])["ids"]
    step = max(1, passed["alloc"] // int(os.environ.get("MUSTER_TEST_FAULTS", "150")))
    for name, every in (("thread", 1), ("read", 1), ("write", 1), ("alloc", step)):
        for n in range(1, passed[name] + 1, every):
            done = subprocess.run([MUSTER, *words], capture_output=True, text=True, timeout=60,
                                  env=dict(os.environ, MUSTER_FAULT=f"{name}:{n}"))
            where = f"{name}:{n}: exit {done.returncode} {done.stderr}"
            if done.returncode == 0:  # it did without, as for a config file or a pinned thread
                assert json.loads(done.stdout)["ids"] == want, where
            else:
                assert done.returncode in (3, 4), where
                assert done.stderr.count("\n") == 1 and done.stderr.startswith("muster: "), where


@case
def experts_and_latents_answer_the_same_from_the_file_convert_makes():
    for name in ("mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3"):
        model = str(GOLDEN / "1_tiny" / name)
        with tempfile.TemporaryDirectory() as folder:
            gguf = f"{folder}/model.gguf"
            muster("convert", model, gguf, "--quiet")
            words = ("--tokens", "1,2,3,40,50,60,7", "-n", "12", "--greedy", "--compute", "f32")
            assert generate(*words, model=gguf)["digest"] == generate(*words, model=model)["digest"], name


@case
def what_gguf_has_no_words_for_is_not_written():
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model"
        shutil.copytree(GOLDEN / "1_tiny/gpt_oss", model)
        config = json.loads((model / "config.json").read_text())
        config["layer_types"] = ["full_attention", "sliding_attention"] * 2
        (model / "config.json").write_text(json.dumps(config))
        refused(3, "convert", str(model), f"{folder}/model.gguf", "--quiet", says="sliding layers")
        assert not os.path.exists(f"{folder}/model.gguf")


finish()
