"""The results as Markdown, with the goals."""

from statistics import median

from .cases import TITLES
from .subjects import VARIANTS

PEERS = ["nginx", "haproxy", "envoy"]
ONCE = {
    "ready_ms": ("start to first good answer, ms", 0),
    "idle_mib": ("idle memory, MiB", 1),
    "loaded_mib": ("memory after all load, MiB", 1),
    "kib_per_connection": ("KiB per idle connection", 1),
}


def markdown(results):
    about = results["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parts = [
        "# Results\n",
        f"{about['date']}; {about['machine']}. {versions}.",
        f"Medians of {about['rounds']} interleaved rounds of {about['seconds']} s"
        + (" (a quick run: for orientation only)." if about["quick"] else "."),
        "How to read this: `bench/README.md`.\n",
    ]
    if results["failed"]:
        parts += ["**Not all answers were good, so these do not count:**\n"]
        parts += [f"- {line}" for line in results["failed"]] + [""]
    if any(kind == "auth-sidecar" for _, kind in results["subjects"]):
        parts += ["## Goals\n", *goals(results), ""]
    parts += ["## Processor time per request, µs\n", *load_table(results, "us"), ""]
    parts += ["## Requests per second\n", *load_table(results, "rate"), ""]
    parts += ["## Latency, ms (p50 / p99)\n", *load_table(results, "p50", "p99"), ""]
    if results["once"]:
        parts += ["## Memory and start\n", *once_table(results), ""]
    return "\n".join(parts)


def number(value, digits=None):
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value + 0.0:,.{digits}f}"


def of(results, case, subject, figure="us"):
    values = results["load"].get(case, {}).get(subject, {}).get(figure)
    return median(values) if values else None


def once(results, subject, figure):
    values = results["once"].get(subject, {}).get(figure)
    return median(values) if values else None


def table(head, rows):
    yield "| | " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * len(head)
    for title, cells in rows:
        yield f"| {title} | " + " | ".join(cells) + " |"


def load_table(results, *figures):
    names = [name for name, _ in results["subjects"]]
    rows = []
    for case in results["load"]:
        cells = []
        for name in names:
            values = [of(results, case, name, figure) for figure in figures]
            cells.append("–" if None in values else " / ".join(number(value) for value in values))
        rows.append((TITLES[case], cells))
    return table(names, rows)


def once_table(results):
    names = [name for name, kind in results["subjects"] if kind not in VARIANTS]
    rows = []
    for figure, (title, digits) in ONCE.items():
        rows.append((title, [number(once(results, name, figure), digits) for name in names]))
    return table(names, rows)


def goals(results):
    rows = []
    for title, measured, bound, said in goal_list(results):
        if measured is None or bound is None:
            rows.append((title, [number(measured), said, "not measured"]))
        else:
            verdict = "met" if measured <= bound else f"**missed by {100 * (measured / bound - 1):.0f} %**"
            rows.append((title, [number(measured), f"{said} = {number(bound)}", verdict]))
    rows += [
        variant(results, "renewing", "auth-sidecar", "renewing the token every second: difference in µs, worst case"),
        variant(results, "auth-sidecar", "unlogged", "access log of errors and not off: difference in µs, worst case"),
    ]
    return table(["measured", "goal: at most", ""], rows)


def goal_list(results):
    """Each goal as title, what was measured, what it may be at most, and how that is said."""
    ours = "auth-sidecar"

    def times(factor, case, subjects, figure="us"):
        values = [of(results, case, subject, figure) for subject in subjects]
        values = [value for value in values if value is not None]
        return factor * min(values) if values else None

    for factor, subject in [(0.90, "nginx"), (0.85, "haproxy"), (0.30, "envoy"), (1.30, "relay")]:
        bound = times(factor, "get32", [subject])
        yield f"{TITLES['get32']}, µs", of(results, "get32", ours), bound, f"{factor:.2f} × {subject}"
    better = "the better of nginx and HAProxy"
    for factor, cases in [(0.90, ["get1", "get256", "post", "post10"]), (0.85, ["https", "https64k"])]:
        for case in cases:
            bound = times(factor, case, PEERS[:2])
            yield f"{TITLES[case]}, µs", of(results, case, ours), bound, f"{factor:.2f} × {better}"
    yield f"{TITLES['get512']}, µs", of(results, "get512", ours), times(1.3, "get32", [ours]), "1.30 × itself at 32"
    for case in ["get64k", "get16m"]:
        yield f"{TITLES[case]}, µs", of(results, case, ours), times(0.85, case, ["haproxy"]), "0.85 × haproxy"
    yield f"{TITLES['close']}, µs", of(results, "close", ours), times(1.1, "close", ["nginx"]), "1.10 × nginx"
    yield f"{TITLES['idle2000']}, µs", of(results, "idle2000", ours), times(1.1, "get32", [ours]), "1.10 × itself without them"
    yield "p99 at 32 connections, ms", of(results, "get32", ours, "p99"), times(1, "get32", PEERS, "p99"), "the best peer"
    for figure, bound in [("idle_mib", 8), ("loaded_mib", 12), ("kib_per_connection", 2), ("ready_ms", 30)]:
        yield ONCE[figure][0], once(results, ours, figure), bound, "goal"


def variant(results, subject, base, title):
    """Whether the subject costs more than what one round of the base differs from another."""
    worst = []
    for case, subjects in results["load"].items():
        plain = subjects.get(base, {}).get("us")
        other = subjects.get(subject, {}).get("us")
        # Fewer rounds do not show how much they differ by themselves.
        if plain and other and len(plain) >= 3:
            difference = median(other) / median(plain) - 1
            # Measurable: beyond what the same thing differs from round to round.
            spread = max(max(plain) / min(plain) - 1, 0.03)
            worst.append((difference - spread, difference, spread, case))
    if not worst:
        return title, ["–", "the spread of the rounds", "not measured"]
    over, difference, spread, case = max(worst)
    verdict = "met" if over <= 0 else "**missed**"
    cells = [f"{difference:+.1%} ({TITLES[case]})", f"the spread of the rounds = {spread:.1%}", verdict]
    return title, cells
