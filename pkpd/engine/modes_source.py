"""Text that carries a linear block by its modes inside a step: exact, whatever the step.

In a step of constant inputs R each mode moves as z(s) = q + (z - q) e^(l s), q = -(U (b + R))/l, and the states are
V z. The rows D2 and D3 of the block's states keep z - q and q for dense output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pkpd.engine.plan import Plan, Split, at, fixed_given, seen

__all__ = ["Modes"]

_PER_LN2 = 1.4426950408889634


def _sum(terms: list[tuple[str, str]]) -> str:
    """a1 b1 + a2 b2 + ..., by fused multiply-adds."""
    text = "{} * {}".format(*terms[0]) if terms else "0.0"
    for a, b in terms[1:]:
        text = f"fma({a}, {b}, {text})"
    return text


@dataclass(slots=True)
class Modes:
    """Phrases about the block; all empty where there is none."""

    plan: Plan
    _known: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Constants the phrases use."""
        return self.plan.split.nodes if self.plan.split else ()

    def _local(self) -> dict[int, str]:
        return fixed_given(self.plan)

    def first(self) -> list[str]:
        """The first step after an event, `first`, is no longer than a tenth of the block's fastest time."""
        split = self.plan.split
        if split is None:
            return []
        c = self._local()
        fastest = [f"fastest = greatest(fastest, abs({c[rate]}))" for rate in split.rates]
        return ["fastest = 0.0", *fastest, "first = least(first, 0.1 / fastest)"]

    def begin(self) -> list[str]:
        """z - q and q of every mode at the start of a step, as z{k} and q{k}; y and r of the block are locals."""
        split = self.plan.split
        if split is None:
            return []
        c, lines = self._local(), []
        for j, s in enumerate(split.states):
            constant = split.constant.get(j)
            lines.append(f"w{j} = r{s}" + (f" + {c[constant]}" if constant is not None else ""))
        for k in range(len(split.states)):
            row = [(c[node], j) for (i, j), node in split.U.items() if i == k]
            drive = _sum([(u, f"w{j}") for u, j in row])
            lines += [f"q{k} = -({drive}) * {c[split.inverse[k]]}"]
            lines += [f"z{k} = {_sum([(u, f'y{split.states[j]}') for u, j in row])} - q{k}"]
        return lines + self._halvings(split)

    def _halvings(self, split: Split) -> list[str]:
        """The rates to the base 2, as l{k}."""
        c = self._local()
        return [f"l{k} = {c[rate]} * {_PER_LN2!r}" for k, rate in enumerate(split.rates)]

    def at(self, fraction: str, prefix: str) -> list[str]:
        """States of the block at t + fraction h, as locals `prefix` + number."""
        split = self.plan.split
        if split is None:
            return []
        if fraction in self._known:
            return [f"{prefix}{s} = {self._known[fraction]}{s}" for s in split.states]
        self._known[fraction] = prefix
        return self._moved(split, f"({fraction} * h)", prefix)

    def _moved(self, split: Split, span: str, prefix: str) -> list[str]:
        c = self._local()
        lines = [f"m{prefix}{k} = fma(z{k}, exp2(l{k} * {span}), q{k})" for k in range(len(split.rates))]
        for i, s in enumerate(split.states):
            terms = [(c[node], f"m{prefix}{k}") for (row, k), node in split.V.items() if row == i]
            lines.append(f"{prefix}{s} = {_sum(terms)}")
        return lines

    def end(self, last: str) -> list[str]:
        """Store the block's states at the end of the step, locals `last` + number; rows of dense output if used."""
        split = self.plan.split
        if split is None:
            return []
        lines = [f"{at('YN', s)} = {last}{s}" for s in split.states]
        if set(seen(self.plan, [*self.plan.stepped, *self.plan.watched])) & set(split.states):
            for k, s in enumerate(split.states):
                lines += [f"{at('D2', s)} = z{k}", f"{at('D3', s)} = q{k}"]
        return lines

    def dense(self, states: list[int]) -> tuple[list[str], list[str]]:
        """Statements before, and at every fraction theta of the step, for the block's states among `states`."""
        split = self.plan.split
        if split is None or not set(states) & set(split.states):
            return [], []
        before = [
            line for k, s in enumerate(split.states) for line in (f"z{k} = {at('D2', s)}", f"q{k} = {at('D3', s)}")
        ]
        return before + self._halvings(split), self._moved(split, "(theta * h)", "y")
