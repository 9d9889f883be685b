"""The figures as Markdown."""


def markdown(results, about):
    parts = [
        "# What was seen with real servers\n",
        f"{about['date']}; {about['machine']}; auth-sidecar {about['version']}. {about['rate']:g} requests/s in all, shared by "
        "the clients of a server. `README.md` beside this file says what the phases are.\n",
    ]
    for result in results:
        parts += [f"## {result['server']}\n", *server(result), ""]
    return "\n".join(parts)


def server(result):
    yield f"Tokens of {result['lifetime']} s. First token, from the start of the process: " + ", ".join(
        f"{name} {1000 * seconds:.0f} ms" for name, seconds in result["first"].items()) + ".\n"
    yield "| Phase | s | requests | 200 | 503 | else | refused by the service, and sent again | token calls | rejected | slowest 200, ms | |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"
    for row in result["rows"]:
        statuses = row["statuses"]
        other = sum(count for kind, count in statuses.items() if kind not in ("200", "503"))
        kinds = [f"{count} × {kind}" for kind, count in statuses.items() if kind not in ("200", "503")]
        cells = [
            row["phase"], f"{row['seconds']:.0f}", row["requests"], statuses["200"], statuses["503"], other, row["refused"],
            row["calls"], row["rejected"], f"{1000 * row['slowest']:.0f}", "; ".join(row["notes"] + kinds),
        ]
        yield "| " + " | ".join(map(str, cells)) + " |"
    yield ""
    for line in result["problems"]:
        yield f"- **{line}**"
    if not result["problems"]:
        yield "No failure that could have been avoided."
