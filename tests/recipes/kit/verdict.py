"""What came of a run: what was sent against what arrived, and what was said."""

import sys
from collections import Counter

from .services import LIFETIME


def row(stage, at_least):
    """The row of the table; all that is wrong becomes a problem of the stage."""
    for at, text in stage.failures:
        if not stage.faults.excuses(at):
            stage.problem(f"without a fault, {at - stage.faults.began:.1f} s after the start: {text}")
    missing, extra = stage.sent - stage.arrived, stage.arrived - stage.sent
    if not stage.once:
        extra = Counter(key for key in extra if key not in stage.sent)
    stage.check(stage.sent.total() >= at_least, f"only {stage.sent.total()} were sent")
    stage.check(not missing, f"{missing.total()} did not arrive, such as {sample(missing)}")
    stage.check(not extra, f"{extra.total()} arrived that were not sent so, or twice, such as {sample(extra)}")
    stage.problems += stage.instance.problems
    seen = len(stage.instance.token_numbers)
    stage.check(seen >= int(stage.seconds / LIFETIME / 2), f"only {seen} tokens were used")
    for sidecar in stage.sidecars:
        for kind in sidecar.secrets_said():
            stage.problem(f"the sidecar's log holds {kind}")
    return {
        "name": stage.name, "version": stage.version, "seconds": round(stage.seconds),
        "sent": stage.sent.total(), "arrived": (stage.arrived & stage.sent).total(), "lost": missing.total(),
        "twice": sum((stage.arrived - Counter(set(stage.arrived))).values()), "failures": len(stage.failures),
        "tokens": seen, "unauthorized": stage.instance.unauthorized, "notes": stage.notes,
        "verdict": "failed" if stage.problems else "passed",
    }


def show(stage):
    for text, count in Counter(stage.problems).most_common(20):
        print(f"{stage.name}: PROBLEM ({count} times): {text}", file=sys.stderr)
    for text, count in Counter(text for _, text in stage.failures).most_common(10):
        print(f"{stage.name}: in a fault ({count} times): {text}", file=sys.stderr)


def sample(counter):
    return ", ".join(str(key) for key in list(counter)[:3])
