"""The program as a whole: its own words, the manual, completion, closed pipes."""
import os
import re
import shutil
import subprocess
import tempfile

from _case import MUSTER, ROOT, Skip, case, finish, muster


def commands():
    return re.findall(r"^  ([a-z]\w*) ", muster("--help")[0], re.M)


def options_of(command):
    """(name, letter or None, choices) of each option in the command's help."""
    found = []
    text = re.sub(r"\n {10,}", " ", muster(command, "--help")[0])
    for line in text.splitlines():
        option = re.match(r"  (?:-(\w), |    )--([\w-]+)", line)
        choices = re.search(r" \[([\w.-]+(?:\|[\w.-]+)+)\]", line)
        if option:
            found.append((option[2], option[1], choices[1].split("|") if choices else []))
    return found


@case
def version_is_the_one_of_the_tree():
    want = f"muster {(ROOT / 'VERSION').read_text().strip()}\n"
    assert muster("--version")[0] == want
    for command in commands():
        assert muster(command, "--version")[0] == want


@case
def every_command_explains_itself():
    for command in commands():
        assert muster(command, "-h")[0].startswith(f"Usage: muster {command} [OPTION]...")
        assert max(map(len, muster(command, "--help")[0].splitlines())) <= 110


@case
def mistakes_get_one_line_and_exit_2():
    for words, want in ((["completoin"], "did you mean completion?"), (["zzz"], "muster --help"),
                        (["completion"], "wants bash|zsh|fish"), (["completion", "tcsh"], "not 'tcsh'"),
                        (["completion", "bash", "--xyz"], "no option --xyz"),
                        (["generate", "--hlep"], "did you mean --help?"),
                        (["--versoin"], "--help, --version and --man"), (["-n", "3"], "follow a command")):
        out, err = muster(*words, status=2)
        assert out == "" and err.count("\n") == 1 and want in err, err


@case
def a_reader_that_goes_away_is_no_error():
    for words in ("--help", "--man", "completion bash"):
        done = subprocess.run(["sh", "-c", f'("$0" {words}; echo $? >&2) | exec true', MUSTER],
                              capture_output=True, text=True)
        assert done.stderr in ("0\n",), done.stderr


@case
def a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run([MUSTER, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4 and "standard output: cannot write" in done.stderr, done.stderr


@case
def the_manual_names_every_command_and_option():
    page = muster("--man")[0]
    for command in commands():
        assert f"\n.SS {command}\n" in page
        for name, _, _ in options_of(command):
            roff = "\\-\\-" + name.replace("-", "\\-") + "\\fR"
            assert roff in page or name in ("help", "version"), (command, name)
    for line in page.splitlines():
        assert not line.startswith("'"), line
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, text=True,
                              capture_output=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


@case
def exit_statuses_are_listed_where_people_look():
    told = dict(re.findall(r"^  (\d+) +(\S.*)$", muster("--help")[0], re.M))
    assert set(told) >= set("012345") | {"130"}, told
    assert "usage" in told["2"] and "not found" in told["3"] and "interrupted" in told["130"], told
    page = muster("--man")[0].split(".SH EXIT STATUS\n")[1]
    assert dict(re.findall(r"^\.B (\d+) *\n(.*)$", page, re.M)) == told, page


@case
def help_is_laid_out_for_people():
    rows = re.findall(r"^  ([a-z]\S+ +)\S", muster("--help")[0], re.M)
    assert len({len(row) for row in rows}) == 1, rows
    for command in ("check", "top", "devices", "validate-perf"):
        details = muster(command, "--help")[0].split("\n\n")[1].splitlines()
        assert all(len(line) > 70 for line in details[:-1]), details
    assert "\n  source <(muster completion bash)\n" in muster("completion", "--help")[0]
    assert "Puts many devices to work on one language model" in muster("--man")[0]


@case
def scripts_parse_in_their_shells():
    missing = [shell for shell in ("bash", "zsh", "fish") if not shutil.which(shell)]
    for shell in {"bash", "zsh", "fish"} - set(missing):
        done = subprocess.run([shell, "-n"], input=muster("completion", shell)[0], text=True,
                              capture_output=True)
        assert done.returncode == 0 and not done.stderr, (shell, done.stderr)
    if missing:
        raise Skip(f"no {' and no '.join(missing)} here")


def bash_offers(*words):
    script = muster("completion", "bash")[0] + (
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _muster; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@case
def bash_completes_commands_options_and_choices():
    assert set(commands()) <= set(bash_offers("muster", ""))
    assert bash_offers("muster", "comple") == ["completion"]
    assert bash_offers("muster", "completion", "") == []  # the shell's own file names then
    for command in commands():
        options = options_of(command)
        assert {f"--{name}" for name, _, _ in options} == set(bash_offers("muster", command, "--"))
        for name, letter, choices in options:
            if choices:
                assert bash_offers("muster", command, f"--{name}", "") == choices
                assert bash_offers("muster", command, f"--{name}", "=", "") == choices
                assert bash_offers("muster", command, f"--{name}", "=") == choices
                assert bash_offers("muster", command, f"--{name}", choices[0])[0] == choices[0]
                if letter:
                    assert bash_offers("muster", command, f"-{letter}", "") == choices


@case
def a_config_file_for_nobody_is_named():
    with tempfile.TemporaryDirectory() as home:
        os.makedirs(os.path.join(home, "muster"))
        path = os.path.join(home, "muster/config")
        for text, says in (("threads = 2\n[generat]\nn = 3\n", ["line 2", "'generat'"]),
                           ("thraeds = 2\n", ["line 1", "'thraeds'"]),
                           ("[chat]\nbogus = 2\n", ["line 2", "'bogus'"])):
            with open(path, "w") as f:
                f.write(text)
            _, err = muster("devices", status=2, env={"XDG_CONFIG_HOME": home})
            assert all(word in err for word in says), err
            muster("devices", "--help", env={"XDG_CONFIG_HOME": home})
        with open(path, "w") as f:
            f.write("# fine\nthreads = 2\n[generate]\nn = 3\n")
        muster("devices", env={"XDG_CONFIG_HOME": home})


finish()
