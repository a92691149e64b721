"""Images for the slots of each class: shuffled cycles that leave no repeats inside a batch."""

import itertools
from typing import NamedTuple

import numpy as np

from ltjax.samplers.shuffle import Bits, run_positions, shuffled_cycles, uniforms

# Classes are processed in chunks of about this many draws, so that temporary arrays stay small
# and their memory is reused.
_CHUNK = 1 << 17


def fill_images(
    out: np.ndarray,
    bits: Bits,
    slots: np.ndarray,
    draws: np.ndarray,
    sizes: np.ndarray,
    by_class: np.ndarray,
    batch: int,
) -> None:
    """Fills the slots of each class with its images, without replacement within a cycle.

    The images of a class are drawn in cycles, each shuffled anew. If a batch holds the end of one
    cycle and the start of the next, the next cycle is rearranged so that it does not start with
    images that the batch already holds. A batch therefore repeats an image only if the class has
    fewer images than the batch has slots for it.

    Args:
      out: int64, filled in place: receives an image index at each of the slots.
      bits: random bits.
      slots: int `[sum draws]`, slots of the epoch, class after class, the batches of a
        class in order; slot `i` lies in batch `i // batch`.
      draws: int `[K]`, slots of each class.
      sizes: int `[K]`, images of each class, >= 1, descending.
      by_class: int `[sum sizes]`, image indices, class after class.
      batch: slots per batch.

    Source: ours.
    """
    drawn = np.concatenate([[0], np.cumsum(draws)])
    images = np.concatenate([[0], np.cumsum(sizes)])
    work = drawn[1:] + images[1:]
    cuts = np.searchsorted(work, np.arange(_CHUNK, work[-1], _CHUNK))
    edges = np.unique([0, *cuts, len(sizes)]).tolist()
    for a, b in itertools.pairwise(edges):
        part = slots[drawn[a] : drawn[b]]
        members = _draw_members(bits, part, draws[a:b], sizes[a:b], batch)
        out[part] = by_class[images[a] : images[b]].take(members)


def _draw_members(
    bits: Bits, slots: np.ndarray, draws: np.ndarray, sizes: np.ndarray, batch: int
) -> np.ndarray:
    """Members for the slots, int64; the members of all classes are numbered consecutively."""
    cycles = -(-draws // sizes)
    members = shuffled_cycles(bits, sizes, cycles)
    made = cycles * sizes
    _separate(bits, members, _shared_boundaries(slots, draws, sizes, made, batch))
    used = np.tile([True, False], len(draws))
    used = np.repeat(used, np.stack([draws, made - draws], axis=1).ravel())
    return np.compress(used, members).astype(np.int64, copy=False)


class _Boundaries(NamedTuple):
    """Ends of cycles that lie inside a batch with no more slots than the class has images.

    Attributes:
      place: where the new cycle starts among all members.
      before: members of the old cycle that the batch holds.
      after: members of the new cycle that the batch holds.
      size: members of a cycle.
    """

    place: np.ndarray
    before: np.ndarray
    after: np.ndarray
    size: np.ndarray


def _shared_boundaries(
    slots: np.ndarray, draws: np.ndarray, sizes: np.ndarray, made: np.ndarray, batch: int
) -> _Boundaries:
    """The boundaries at which a batch could repeat an image; `made` members per class."""
    inner = np.where(sizes > 1, np.maximum(draws - 1, 0) // sizes, 0)
    group = np.repeat(np.arange(len(sizes)), inner)
    done = (run_positions(inner) + 1) * sizes[group]  # draws of the class before it
    draw = (np.cumsum(draws) - draws)[group] + done
    step = slots[draw] // batch
    shared = np.flatnonzero(slots[draw - 1] // batch == step)
    group, done, draw, step = group[shared], done[shared], draw[shared], step[shared]
    size = sizes[group]
    before = _run_length(slots, draw - 1, -1, step, np.minimum(done, size), batch)
    after = _run_length(slots, draw, 1, step, np.minimum(draws[group] - done, size), batch)
    place = (np.cumsum(made) - made)[group] + done
    fits = before + after <= size
    return _Boundaries(place[fits], before[fits], after[fits], size[fits])


def _run_length(
    slots: np.ndarray,
    start: np.ndarray,
    direction: int,
    step: np.ndarray,
    limit: np.ndarray,
    batch: int,
) -> np.ndarray:
    """How many draws from `start` on, up to `limit`, belong to the batch `step`; at least 1."""
    length = np.ones(len(start), np.int64)
    active = np.flatnonzero(limit > 1)
    while len(active):
        same = slots[start[active] + direction * length[active]] // batch == step[active]
        active = active[same]
        length[active] += 1
        active = active[length[active] < limit[active]]
    return length


def _separate(bits: Bits, members: np.ndarray, at: _Boundaries) -> None:
    """Rearranges cycles in place so that no batch repeats an image across a boundary."""
    count = len(at.place)
    follows = at.place[1:] == at.place[:-1] + at.size[:-1]  # boundary i + 1 ends i's cycle
    previous = np.concatenate([[False], follows])
    pending = np.arange(count)
    clash = np.zeros(count, bool)
    while len(pending):
        clash[pending] = _clashes(members, _Boundaries(*(x[pending] for x in at)))
        # A cycle is final once the boundary before it is settled, so a boundary waits for
        # the next round where the one before it is itself about to change.
        waits = clash & np.roll(clash, 1) & previous
        now = np.flatnonzero(clash & ~waits)
        if len(now):
            _defer_held(bits, members, _Boundaries(*(x[now] for x in at)))
        clash[now] = False
        changed = now[now < len(follows)]
        pending = np.union1d(np.flatnonzero(waits), changed[follows[changed]] + 1)


def _held_keys(members: np.ndarray, at: _Boundaries) -> np.ndarray:
    """Keys `boundary * len(members) + member` of what the batch holds of the old cycle."""
    which = np.repeat(np.arange(len(at.place)), at.before)
    held = np.repeat(at.place - at.before, at.before) + run_positions(at.before)
    keys: np.ndarray = which * len(members) + members[held]
    return keys


def _clashes(members: np.ndarray, at: _Boundaries) -> np.ndarray:
    """Whether the batch holds an image of both the old and the new cycle."""
    if at.before.max() == at.after.max() == 1:
        same: np.ndarray = members[at.place - 1] == members[at.place]
        return same
    which = np.repeat(np.arange(len(at.place)), at.after)
    new = members[np.repeat(at.place, at.after) + run_positions(at.after)]
    clash = np.zeros(len(at.place), bool)
    clash[which[np.isin(which * len(members) + new, _held_keys(members, at))]] = True
    return clash


def _defer_held(bits: Bits, members: np.ndarray, at: _Boundaries) -> None:
    """Moves members that the batch holds already out of the start of each new cycle.

    They go to random places behind the first `after` members that the batch does not
    hold; all others keep their order.
    """
    which = np.repeat(np.arange(len(at.place)), at.size)
    within = run_positions(at.size)
    place = at.place[which] + within
    cycle = members[place]
    held = np.isin(which * len(members) + cycle, _held_keys(members, at))
    total = np.cumsum(~held)
    first = np.cumsum(at.size) - at.size
    free = total - (total[first] - ~held[first])[which]  # not held, up to here
    front = free < at.after[which]
    anchor = np.bincount(which[front], minlength=len(at.place))[which]
    span = at.size[which] - anchor
    random = anchor + 0.5 + uniforms(bits, len(within)) * (span - 0.5)
    key = np.where(held & front, random, within)
    members[place] = cycle[np.lexsort((key, which))]
