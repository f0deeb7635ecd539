#!/usr/bin/env python3
"""Makes the man page from what the program tells of its own commands: make-manual.py PROGRAM > tally.1"""
import json
import subprocess
import sys


def escape(text):
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\n", "\n.br\n")


def option(argument):
    names = []
    for name in argument.get("names") or []:
        dashes = "-" if name["kind"] == "short" else "--"
        names.append(dashes + name["name"])
    value = f" {argument['valueName']}" if argument["kind"] == "option" else ""
    if argument["kind"] == "positional":
        return argument["valueName"]
    return ", ".join(names) + value


def command(described, parents, lines):
    name = " ".join([*parents, described["commandName"]])
    lines.append(f".SS {escape(name)}")
    lines.append(escape(described.get("abstract", "")))
    if described.get("discussion"):
        lines += [".PP", escape(described["discussion"])]
    for argument in described.get("arguments") or []:
        if not argument.get("shouldDisplay", True) or argument.get("valueName") in ("help", "version"):
            continue
        if any(each["name"] in ("help", "version") for each in argument.get("names") or []):
            continue
        lines += [".TP", f".B {escape(option(argument))}", escape(argument.get("abstract", ""))]
        if argument.get("defaultValue") not in (None, "", "false"):
            lines.append(f"(default: {escape(argument['defaultValue'])})")
    for sub in described.get("subcommands") or []:
        if sub["commandName"] != "help":
            command(sub, [*parents, described["commandName"]], lines)


def main():
    dumped = subprocess.run(
        [sys.argv[1], "--experimental-dump-help"], capture_output=True, text=True, check=True)
    root = json.loads(dumped.stdout)["command"]
    lines = [
        '.TH TALLY 1 "" "Tally" "Tally"', ".SH NAME", f"tally \\- {escape(root['abstract'])}", ".SH SYNOPSIS",
        ".B tally", "command [options]", ".SH COMMANDS"]
    for sub in root.get("subcommands") or []:
        if sub["commandName"] != "help":
            command(sub, ["tally"], lines)
    lines += [
        ".SH EXIT STATUS", "0 done; 1 there is no such counter; 2 the server refused; 64 the command line is wrong;",
        "69 the server cannot be reached.", ".SH FILES",
        "A YAML file of settings is read with \\-\\-config or TALLY_CONFIG; see docs/configuration.md."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
