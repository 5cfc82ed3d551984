"""Key pairs: the use cases. They are a user's own, not a project's; admins may have to do with everybody's."""

from __future__ import annotations

from kevel.control.runtime import Runtime
from kevel.domain.errors import Forbidden, NotFound
from kevel.domain.keypairs import KeyKind, Keypair, NewKeys, draw_keys, take_fingerprint
from kevel.domain.model import Actor
from kevel.store import keypairs as rows
from kevel.store.server_quotas import check_keypairs
from kevel.store.transactions import Tx


class Keypairs:
    """Public keys by user and name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self, actor: Actor, user_id: str | None) -> list[Keypair]:
        """The user's pairs by name; None: the actor's own. Raises Forbidden as the other methods do."""
        return await self._runtime.store.read(rows.list_keypairs, _owner(actor, user_id))

    async def get(self, actor: Actor, user_id: str | None, name: str) -> Keypair:
        """One pair. Raises NotFound."""
        return await self._runtime.store.read(_find, _owner(actor, user_id), name)

    async def create(
        self, actor: Actor, user_id: str | None, name: str, kind: KeyKind, public_key: str | None
    ) -> tuple[Keypair, str | None]:
        """Keep a public key, or draw a pair and return the private half, which is kept nowhere.

        Raises Forbidden for another's pair and at the limit, Invalid for what is no key, Conflict for a name in use.
        """
        owner, at = _owner(actor, user_id), self._runtime.clock.now_us()
        keys = NewKeys(public_key, None) if public_key is not None else await self._draw(kind, owner, at)
        new = Keypair(
            user_id=owner,
            name=name,
            kind=kind,
            public_key=keys.public_key,
            fingerprint=take_fingerprint(kind, keys.public_key),
            created_at=at,
        )
        await self._runtime.store.write(_create, actor, new)
        return new, keys.private_key

    async def _draw(self, kind: KeyKind, owner: str, at: int) -> NewKeys:
        return await self._runtime.executor.run(draw_keys, kind, owner, at)

    async def delete(self, actor: Actor, user_id: str | None, name: str) -> None:
        """Forget the pair; servers that were made with it keep its name. Raises NotFound."""
        await self._runtime.store.write(_delete, _owner(actor, user_id), name)


def _owner(actor: Actor, user_id: str | None) -> str:
    if user_id not in (None, actor.user_id) and not actor.is_admin:
        raise Forbidden("Policy does not allow another user's key pairs to be used with the roles of this token.")
    return user_id or actor.user_id


def _find(tx: Tx, user_id: str, name: str) -> Keypair:
    found = rows.load_keypair(tx, user_id, name)
    if found is None:
        raise NotFound(f"Keypair {name[:255]} not found for user {user_id}")
    return found


def _create(tx: Tx, actor: Actor, new: Keypair) -> None:
    check_keypairs(tx, actor.project_id, new.user_id)
    rows.insert_keypair(tx, new)


def _delete(tx: Tx, user_id: str, name: str) -> None:
    if not rows.delete_keypair(tx, user_id, name):
        raise NotFound(f"Keypair {name[:255]} not found for user {user_id}")
