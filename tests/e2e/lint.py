"""The checks of `make lint` that are ours: each fault they know must be found, and only those."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

from _case import ROOT, Skip, case, finish

GOOD = "/* Owns nothing. */\n#include \"base/text.h\"\n"


def run(tool, files, *args):
    """(exit status, output) of a tool in a fresh repository with these files."""
    if not shutil.which("git"):
        raise Skip("no git here")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, text in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([sys.executable, str(ROOT / "tools" / tool), *args], cwd=folder,
                              capture_output=True, text=True)
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout


def source_fault(text, want, name="src/text/x.c"):
    status, output = run("check_source.py", {name: text})
    assert status == 1 and want in output and output.count("\n") == 1, output


def source_good(text, name="src/text/x.c"):
    assert run("check_source.py", {name: text}) == (0, "")


@case
def banned_calls_are_found_in_code_alone():
    source_fault(GOOD + "int f(char *s) { return atoi(s); }\n", "x.c:3: atoi")
    source_fault(GOOD + "void f(void) { free(0); }\n", "mu_free")
    source_fault(GOOD + 'void f(void) { printf ("x"); }\n', "mu_text_printf")
    source_good(GOOD + "/* atoi(s) is not used */\nconst char *s = \"atoi(x) \\\" free(y)\"; // rand()\n")
    source_good(GOOD + "void f(void) { mu_free(0); my_system(1); x.free(1); p->free(2); }\n")
    source_good(GOOD + "void f(void) { free(0); }\n", "src/base/x.c")
    source_good(GOOD + "void f(void) { printf(\"\"); }\n", "src/cli/x.c")
    source_fault(GOOD + "void f(char *s) { strcpy(s, s); }\n", "strcpy", "src/base/x.c")
    source_fault(GOOD + "int f(char *s) { return atoi(s); }\n", "atoi", "tests/text/x.c")


@case
def long_functions_and_files_are_found():
    body = "    x();\n"
    source_good(GOOD + "int f(void)\n{\n" + body * 120 + "}\n")
    source_fault(GOOD + "int f(void)\n{\n" + body * 121 + "}\n", "a function of 121 lines")
    source_good(GOOD + "int x;\n" * 1498)
    source_fault(GOOD + "int x;\n" * 1499, "1501 lines")
    source_fault("print(1)\n" * 1501, "1501 lines", "tools/x.py")


@case
def one_machines_paths_and_unsaid_purposes_are_found():
    source_fault(GOOD + "/* see /" + "work/shared */\n", "x.c:3")
    source_fault("see /" + "farm/x\n", "names one machine", "docs/x.md")
    source_fault("http://py" + "pi.org/\n", "names one machine", "x.txt")
    source_good("docs/internals/work/x\n", "x.md")
    source_fault("#include \"base/text.h\"\n", "say first")


ALLOW = "# comment\nbase:\ntext: base\nengine: base text\n"


def layers(files, allow=ALLOW):
    return run("check_layers.py", {"allow": allow, **files}, "src", "allow")


@case
def layers_hold():
    good = {"src/text/x.c": GOOD + '#include "text/text_int.h"\n', "src/engine/a/x.c": '#include "text/text.h"\n'}
    assert layers(good) == (0, "")
    for name, include, want in (("src/text/x.c", "engine/engine.h", "text may not include engine"),
                                ("src/base/x.h", "text/text.h", "base may not include text"),
                                ("src/engine/x.c", "text/text_int.h", "private to text"),
                                ("src/engine/x.cu", "text/other.h", "private to text"),
                                ("src/text/x.c", "base/base_int.h", "private to base"),
                                ("src/text/x.c", "text.h", "write the room's name too"),
                                ("src/attic/x.c", "base/text.h", "has no room 'attic'")):
        status, output = layers({name: f'#include "{include}"\n'})
        assert status == 1 and want in output, output
    status, output = layers({"src/base/x.c": ""}, "a: b\nb: c\nc: a\nbase:\n")
    assert status == 1 and "a b c" in output, output
    status, output = layers({"src/base/x.c": ""}, "base: attic\n")
    assert status == 1 and "unknown room attic" in output, output


finish()
