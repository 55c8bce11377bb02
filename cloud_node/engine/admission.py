"""When a request would be done, predicted from what was measured of late; who would be too late is refused for it.

Pure: measurements and times are arguments. One `Pace` per model, so that a slow model refuses nothing of a quick one's.

    finish  =  (wait for those ahead  +  wait for a row  +  its own steps) x (how late such predictions were, of late)

The last factor, with a margin for its scatter, is what TCP does for its timeouts (Jacobson, 1988): whatever the sum
leaves out (threads that share a core, a network, a fit that is off) it brings back within some ten requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from wire.errors import Overloaded

# Of a new measurement. About the last ten count: a burst is seen within one queue's length.
_WEIGHT = 0.1
# What one measurement may be of the mean before it: a stalled clock or a paused machine is no new pace.
_OUTLIER = 4.0
# Requests that ended before anything is predicted: cold, all are let in.
_COLD = 8
# Tenants whose answers' lengths are known apart from all others'.
_MAX_TENANTS = 1024
# Of those who would be refused while a row is free, so many are let in: what they take sets a wrong measurement right.
_TRIED = 0.01
# Deviations above the mean lateness that are kept free.
_MARGIN = 2.0
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0


@dataclass(slots=True)
class Mean:
    """Of the latest measurements, the last counting most; plain at first. Nothing measured: 0."""

    value: float = 0.0
    count: int = 0

    def add(self, measured: float) -> None:
        self.count += 1
        if self.count > 1 and self.value > 0:
            measured = min(measured, _OUTLIER * self.value)
        self.value += (measured - self.value) * max(_WEIGHT, 1 / self.count)


@dataclass(frozen=True, slots=True)
class Others:
    """What waits of another tenant, in seconds of work, and its share."""

    work_s: float
    share: float


@dataclass(slots=True)
class Pace:
    """How quickly one engine works. The threads tell it of steps, the loop of ends; a torn reading does no harm."""

    prepare_s: Mean = field(default_factory=Mean)  # of one request in its batch of tails, fusion included
    read_token_s: Mean = field(default_factory=Mean)  # of a prompt
    row_step_s: Mean = field(default_factory=Mean)  # a row's part of a step of the batch
    token_gap_s: Mean = field(
        default_factory=Mean
    )  # between an answer's tokens: a step, and what is read between two
    read_tokens: Mean = field(default_factory=Mean)  # of one prompt, those that were read
    num_tokens: Mean = field(default_factory=Mean)  # of one answer
    tenants_tokens: dict[str, Mean] = field(default_factory=dict)  # the same, by tenant
    lateness: Mean = field(default_factory=Mean)  # what requests took, by what was predicted
    scatter: Mean = field(default_factory=Mean)  # of the lateness, mean absolute
    num_ended: int = 0

    def prepared(self, size: int, seconds: float) -> None:
        """A batch of tails, with what made prompts of it."""
        self.prepare_s.add(seconds / size)

    def tail_batch(self, size: int, seconds: float) -> None:
        """Its tails alone: `prepared` says more."""

    def prefill_chunk(self, tokens: int, seconds: float, reused_tokens: int) -> None:
        self.read_token_s.add(seconds / tokens)

    def decode_step(self, batch: int, seconds: float) -> None:
        self.row_step_s.add(seconds / batch)

    def answered(self, tenant: str, read_tokens: int, num_tokens: int, decode_s: float) -> None:
        """A generation has ended well; `decode_s` is from its first token to its last."""
        self.read_tokens.add(read_tokens)
        self._add_tokens(tenant, num_tokens)
        if num_tokens > 1:
            self.token_gap_s.add(decode_s / (num_tokens - 1))

    def cut_off(self, tenant: str, num_tokens: int, decode_s: float) -> None:
        """One ran out of time. If only those counted that did not, long answers would look rare, and tokens quick."""
        if num_tokens > self._tokens_of(tenant).value:
            self._add_tokens(tenant, num_tokens)
        if num_tokens:
            self.token_gap_s.add(decode_s / num_tokens)

    def ended(self, predicted_s: float, took_s: float, *, is_late: bool = False) -> None:
        """A request ended that was predicted so (0: it was not). One that ran out of time would have taken longer."""
        self.num_ended += 1
        if predicted_s <= 0:
            return
        lateness = took_s / predicted_s
        if is_late and lateness < self.lateness.value:
            return
        if self.lateness.count:
            self.scatter.add(abs(lateness - self.lateness.value))
        self.lateness.add(lateness)

    @property
    def is_cold(self) -> bool:
        return self.num_ended < _COLD

    def likely_tokens(self, tenant: str, least: int, most: int) -> float:
        """Of an answer that may have so many: as that tenant's, or as all where it had none."""
        return min(max(self._tokens_of(tenant).value, least), most)

    def is_tried(self, tenant: str, spread: float) -> bool:
        """Whether one that would be late is let in where a row is free: all of a tenant that nobody knows, and few."""
        is_unknown = bool(self.tenants_tokens) and tenant not in self.tenants_tokens
        return is_unknown or spread < _TRIED

    def _tokens_of(self, tenant: str) -> Mean:
        return self.tenants_tokens.get(tenant, self.num_tokens)

    def _add_tokens(self, tenant: str, num_tokens: int) -> None:
        self.num_tokens.add(num_tokens)
        known = self.tenants_tokens.pop(tenant, Mean())
        known.add(num_tokens)
        self.tenants_tokens[tenant] = known  # the last one that was heard of goes last
        if len(self.tenants_tokens) > _MAX_TENANTS:
            del self.tenants_tokens[next(iter(self.tenants_tokens))]

    @property
    def read_s(self) -> float:
        """Of a prompt."""
        return self.read_tokens.value * self.read_token_s.value

    def work_s(self, tokens: float) -> float:
        """How long a request of an answer of so many tokens holds up those behind it, at the narrowest place."""
        return max(self.prepare_s.value, self.read_s + tokens * self.row_step_s.value)

    def own_s(self, tokens: float) -> float:
        """How long such a request takes where nobody is ahead."""
        return self.prepare_s.value + self.read_s + tokens * self.token_gap_s.value

    def corrected(self, predicted_s: float, *, has_margin: bool) -> float:
        """A prediction, set right by how late such ones were; with a margin, most that are so predicted are in time."""
        if not self.lateness.count:
            return predicted_s
        margin = _MARGIN * self.scatter.value if has_margin else 0.0
        return predicted_s * (self.lateness.value + margin)


def wait_s(ahead_s: float, own_s: float, share: float, others: Iterable[Others]) -> float:
    """Until it is one's turn: after those ahead of one's own tenant, and what the other tenants get meanwhile."""
    mine_s = ahead_s + own_s
    return ahead_s + sum(min(one.work_s, mine_s * one.share / share) for one in others)


def too_late(finish_s: float, left_s: float, spread: float) -> Overloaded | None:
    """The refusal of what would take `finish_s` and has `left_s`; `spread`, 0 to 1 by chance, parts the herd."""
    if finish_s <= left_s:
        return None
    return Overloaded(
        f"this would take about {finish_s:.2g} s at the moment, and the request has {max(0.0, left_s):.2g} s; allow "
        "more, or ask again later or elsewhere",
        retry_after_s=retry_after_s(finish_s - left_s, spread),
    )


def queue_full(num_waiting: int, work_s: float, spread: float) -> Overloaded:
    """The refusal of one more than wait already; half of them should be gone when it comes back."""
    return Overloaded(
        f"{num_waiting} requests are waiting already, which is all that this cloud queues; ask again later or "
        "elsewhere",
        retry_after_s=retry_after_s(num_waiting * work_s / 2 or 1.0, spread),
    )


def retry_after_s(seconds: float, spread: float) -> float:
    """Half to one and a half times as long, within what is sensible."""
    return min(max(seconds, _MIN_RETRY_S), _MAX_RETRY_S) * (0.5 + spread)
