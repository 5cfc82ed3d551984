"""Limits of servers and what belongs to them, and what projects and users have of these, counted from the rows.

A check runs in the transaction that makes something. Writers run one after the other, so two requests never take the
same room.
"""

from __future__ import annotations

from collections.abc import Mapping

from kevel.domain.errors import Forbidden
from kevel.domain.model import Actor
from kevel.domain.quotas import FALLBACKS, SERVER_RESOURCES, UNLIMITED, QuotaKey
from kevel.store.keypairs import count_keypairs
from kevel.store.quotas import limits_in_force
from kevel.store.server_groups import count_groups
from kevel.store.servers import list_used
from kevel.store.transactions import Tx


def server_limits(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """What holds for the project, or for one user in it, by Nova's names."""
    return pick_limits(limits_in_force(tx, project_id, user_id))


def pick_limits(limits: Mapping[QuotaKey, int]) -> dict[str, int]:
    """The limits of servers and what belongs to them, all of them."""
    return {
        resource: limits.get(QuotaKey(resource), FALLBACKS.get(resource, UNLIMITED)) for resource in SERVER_RESOURCES
    }


def server_usage(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """What the project has, or one user in it; half-made and failed servers count, too."""
    used = [one for one in list_used(tx, project_id=project_id) if user_id in (None, one.user_id)]
    return dict.fromkeys(SERVER_RESOURCES, 0) | {
        "instances": len(used),
        "cores": sum(one.flavor["vcpus"] for one in used),
        "ram": sum(one.flavor["ram_mib"] for one in used),
        "server_groups": count_groups(tx, project_id),
        # Key pairs are a user's, not a project's.
        "key_pairs": 0 if user_id is None else count_keypairs(tx, user_id),
    }


def bound_servers(tx: Tx, actor: Actor, per_server: Mapping[str, int], *, count_min: int, count_max: int) -> int:
    """How many servers of that size may be made, `count_max` at most. Raises Forbidden for less than `count_min`."""
    count = count_max
    for user_id in (None, actor.user_id):
        limits = server_limits(tx, actor.project_id, user_id)
        bounded = {name: each for name, each in per_server.items() if each and limits[name] != UNLIMITED}
        if not bounded:
            continue
        used = server_usage(tx, actor.project_id, user_id)
        count = min(count, *((limits[name] - used[name]) // each for name, each in bounded.items()))
        if count < count_min:
            raise Forbidden(_refuse(bounded, limits, used, count_min))
    return count


def _refuse(wanted: Mapping[str, int], limits: Mapping[str, int], used: Mapping[str, int], count: int) -> str:
    """Nova's words: what is exceeded, what was asked for, and what there is of how much."""
    over = sorted(name for name, each in wanted.items() if used[name] + each * count > limits[name])
    names = ", ".join(over)
    asked = ", ".join(str(wanted[name] * count) for name in over)
    has = ", ".join(str(used[name]) for name in over)
    allowed = ", ".join(str(limits[name]) for name in over)
    return f"Quota exceeded for {names}: Requested {asked}, but already used {has} of {allowed} {names}"


def check_server_limit(tx: Tx, actor: Actor, resource: str, number: int, words: str) -> None:
    """Raise Forbidden, which begins with `words`, if there may not be so many."""
    limit = server_limits(tx, actor.project_id, actor.user_id)[resource]
    if limit != UNLIMITED and number > limit:
        raise Forbidden(f"{words}: {number} would be more than the {limit} that the quota {resource} allows.")


def check_keypairs(tx: Tx, project_id: str, user_id: str) -> None:
    """Raise Forbidden if the user may have no more key pairs."""
    limit = server_limits(tx, project_id, user_id)["key_pairs"]
    if limit != UNLIMITED and count_keypairs(tx, user_id) >= limit:
        raise Forbidden(f"Quota exceeded, too many key pairs: {limit} are allowed.")
