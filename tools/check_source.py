#!/usr/bin/env python3
"""What no compiler checks: calls we do without, how long things may grow, words that must stay out.

Looks at the files git tracks or would track. Prints one line a fault; exit status 1 if there are any.
"""
import pathlib
import re
import subprocess
import sys

FILE_LINES, FUNCTION_LINES = 1500, 120

# Everywhere in C: the safe way is in brackets.
BANNED = {
    "strcpy": "mu_text_str", "strcat": "mu_text_str", "strncpy": "mu_text_add", "strncat": "mu_text_add",
    "sprintf": "mu_text_printf", "vsprintf": "mu_text_printf", "strtok": "strcspn", "gets": "mu_fd_read",
    "atoi": "mu_parse_i64", "atol": "mu_parse_i64", "atof": "mu_parse_f64", "strtol": "mu_parse_i64",
    "strtoul": "mu_parse_u64", "strtoll": "mu_parse_i64", "strtoull": "mu_parse_u64",
    "sscanf": "mu_parse_*", "alloca": "mu_alloc", "rand": "mu_philox", "srand": "mu_philox",
    "system": "execve", "popen": "execve", "setlocale": "nothing: numbers have one spelling",
    "localtime": "localtime_r", "gmtime": "gmtime_r", "strerror": "mu_fail_errno",
}
# In src, but for base (which wraps them) and cli (which alone prints and ends the process).
OURS = {
    "malloc": "mu_alloc", "calloc": "mu_calloc", "realloc": "mu_realloc", "free": "mu_free",
    "strdup": "mu_strdup", "strndup": "mu_strndup", "aligned_alloc": "mu_alloc_aligned",
    "posix_memalign": "mu_alloc_aligned", "printf": "mu_text_printf", "fprintf": "mu_log",
    "puts": "mu_text_str", "putchar": "mu_text_char", "perror": "mu_fail_errno", "exit": "mu_fail",
    "_exit": "mu_fail", "abort": "MU_ASSERT", "strtod": "mu_parse_f64", "strtof": "mu_parse_f64",
    "assert": "MU_ASSERT",
}
# Spelled in pieces, so that this file passes its own check.
MACHINE = re.compile(r"(?<!\w)/(?:wo" r"rk|fa" r"rm)/|py" r"pi\.org|python" r"hosted|deb\.deb" r"ian")

COMMENT_OR_LITERAL = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


def code_only(text):
    """The text with comments and literals blanked, lines kept."""
    return COMMENT_OR_LITERAL.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def c_faults(path, text):
    lines = code_only(text).splitlines()
    room = path.parts[1] if path.parts[0] == "src" else None
    banned = dict(BANNED)
    if room and room not in ("base", "cli"):
        banned.update(OURS)
    if not text.lstrip().startswith("/*"):
        yield 1, "say first what this file owns, in a comment"
    start = 0
    for number, line in enumerate(lines, 1):
        for name in CALL.findall(line):
            if name in banned:
                yield number, f"{name} is not used here; use {banned[name]}"
        # The formatter puts a function's braces, and nothing else's, alone in the first column.
        if line.rstrip() == "{":
            start = number
        elif line.rstrip() == "}" and start:
            if number - start - 1 > FUNCTION_LINES:
                yield start, f"a function of {number - start - 1} lines; {FUNCTION_LINES} is the most"
            start = 0


def faults_of(path):
    try:
        text = path.read_text()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if MACHINE.search(line):
            yield number, "names one machine's path, or a package registry"
    if path.suffix in (".c", ".h", ".cu", ".cuh"):
        yield from c_faults(path, text)
    if path.suffix in (".c", ".h", ".cu", ".cuh", ".py", ".sh"):
        lines = text.splitlines()
        if len(lines) > FILE_LINES:
            yield 1, f"{len(lines)} lines; {FILE_LINES} is the most"


def main():
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, check=True, text=True).stdout
    faults = 0
    for name in sorted(filter(None, listed.split("\0"))):
        if name.startswith("tests/golden/") or "/corpus/" in name:
            continue
        for number, fault in faults_of(pathlib.Path(name)):
            print(f"{name}:{number}: {fault}")
            faults += 1
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
