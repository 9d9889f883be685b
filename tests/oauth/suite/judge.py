"""Which failures could have been avoided: everything that a client met without a reason."""

from collections import Counter

#: The least distance of two token calls, less what a busy machine adds to the first.
FLOOR = 0.6
#: How many calls 20 s without a token may cost: about ten of full jitter, whose ceiling grows.
MOST_CALLS = 18
#: How much later than announced by Retry-After a client may be served again.
GRACE = 2.0


class Judge:
    """Of one scenario: a row for each phase, and the problems."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.problems = list(scenario.problems) + list(dict.fromkeys(scenario.instance.problems))
        self.outcomes = [outcome for load in scenario.loads for outcome in load.outcomes]
        self.names = [client.name for client in scenario.clients]
        if not self.outcomes:
            self.problems.append("no request was sent")
        self.rows = [self.row(phase) for phase in scenario.phases]

    def row(self, phase):
        within = [outcome for outcome in self.outcomes if phase.began <= outcome.at < phase.ended]
        calls = {name: self.calls(phase, name) for name in self.names}
        refused = [name for at, name, _ in self.scenario.instance.refused if phase.began <= at < phase.ended]
        statuses = Counter(self.kind(outcome) for outcome in within)
        if phase.is_clean:
            self.expect_success(phase, within)
        if not phase.may_refuse and refused:
            self.problems.append(f"{phase.name}: the service refused {dict(Counter(refused))} tokens that should be good")
        if phase.name == "renewals":
            self.expect_renewals(phase, calls)
        if phase.name == "client disabled":
            self.expect_reasons(phase, within, calls)
        if phase.name == "enabled again":
            phase.notes += self.recovery(phase, within)
        slowest = max((outcome.seconds for outcome in within if outcome.status == 200), default=0)
        every = [call for made in calls.values() for call in made]
        return {
            "phase": phase.name, "seconds": phase.ended - phase.began, "requests": len(within), "statuses": statuses,
            "refused": len(refused), "calls": len(every),
            "rejected": sum(call.status is not None and call.status >= 400 for call in every),
            "slowest": slowest, "notes": phase.notes,
        }

    @staticmethod
    def kind(outcome):
        if outcome.status is None:
            return "broken"
        return f"{outcome.status}" if outcome.own or outcome.status == 200 else f"{outcome.status} of the service"

    def calls(self, phase, name):
        plain, tls = self.scenario.relays
        certificates = [client.name for client in self.scenario.clients if client.method.endswith("tls_client_auth")]
        made = [call for call in plain.calls if call.client == name]
        made += tls.calls if [name] == certificates else []
        return [call for call in made if phase.began <= call.at < phase.ended]

    def expect_success(self, phase, within):
        for name in self.names:
            bad = [outcome for outcome in within if outcome.client == name and outcome.status != 200]
            if bad:
                kinds = dict(Counter(map(self.kind, bad)))
                after = bad[0].at - phase.began
                self.problems.append(
                    f"{phase.name}: {name}: {kinds}, the first {after:.1f} s after its begin: {bad[0].detail or 'no body'}")

    def expect_renewals(self, phase, calls):
        least = int((phase.ended - phase.began) / self.scenario.server.LIFETIME)
        for name, made in calls.items():
            if len(made) < least:
                self.problems.append(f"{phase.name}: {name} made {len(made)} token calls, {least} at least were due")

    def expect_reasons(self, phase, within, calls):
        for name in self.names:
            bad = [outcome for outcome in within if outcome.client == name and outcome.status != 200]
            if not bad:
                self.problems.append(f"{phase.name}: {name} was served all the time: nothing was shown")
            for outcome in bad:
                is_told = outcome.status == 503 and outcome.own and outcome.retry_after and outcome.detail
                is_services = outcome.status == 401 and not outcome.own
                if not is_told and not is_services:
                    self.problems.append(f"{phase.name}: {name}: {self.kind(outcome)} without a reason: {outcome.detail}")
                    break
            times = [call.at for call in calls[name]]
            gaps = [later - earlier for earlier, later in zip(times, times[1:])]
            if gaps and min(gaps) < FLOOR or len(times) > MOST_CALLS:
                self.problems.append(f"{phase.name}: {name} hammers: {len(times)} calls, the least gap {min(gaps):.2f} s")

    def recovery(self, phase, within):
        """Nobody comes later than was announced."""
        slowest = 0
        for name in self.names:
            mine = sorted((outcome for outcome in within if outcome.client == name), key=lambda one: one.at + one.seconds)
            good = next((outcome.at + outcome.seconds for outcome in mine if outcome.status == 200), None)
            if good is None:
                self.problems.append(f"{phase.name}: {name} was not served again")
                continue
            told = [one for one in self.outcomes if one.client == name and one.retry_after and one.at < good]
            announced = max((one.at + one.seconds + one.retry_after - phase.began for one in told), default=0)
            took = good - phase.began
            slowest = max(slowest, took)
            if took > announced + GRACE:
                self.problems.append(f"{phase.name}: {name} was served after {took:.1f} s, announced were {announced:.1f} s")
            late = [one for one in mine if one.at > good and one.status != 200]
            if late:
                self.problems.append(f"{phase.name}: {name}: {len(late)} failures after the first success: {late[0].detail}")
        return [f"served again after {slowest:.1f} s"]
