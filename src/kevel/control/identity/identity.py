"""Identity: logging in, tokens, and the resources that rights are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from kevel.control.identity.passwords import PasswordCost, Passwords
from kevel.control.runtime import Runtime
from kevel.domain.errors import Forbidden, Invalid, NotFound, SetupError, Unauthenticated
from kevel.domain.identity import (
    FIXED_ROLES,
    ApplicationCredential,
    Assignment,
    CatalogEntry,
    CredentialRef,
    Domain,
    Endpoint,
    Project,
    Region,
    Resource,
    Role,
    RoleRef,
    ScopeKind,
    Service,
    Token,
    TokenDescription,
    User,
    UserRef,
    WantedScope,
    expand_roles,
)
from kevel.store import bootstrap, identity, tokens
from kevel.store.identity import TOKENS_WAKE
from kevel.store.tokens import LOGIN_FAILED, NewToken, Proof
from kevel.store.transactions import Wake

R = TypeVar("R", Domain, Project, User, Role, Service, Region, Endpoint)

TOKEN_LIFETIME_S: Final = 3600
TOKEN_LIFETIME_S_MIN: Final = 60
TOKEN_LIFETIME_S_MAX: Final = 30 * 24 * 3600
#: Tokens kept in memory, for the one process that writes to its database.
CACHED_TOKENS_MAX: Final = 1024
#: A longer token is none of ours.
TOKEN_CHARS_MAX: Final = 128
_SECOND_US: Final = 1_000_000


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A new token: its secret, shown this once, and what it says."""

    secret: str
    description: TokenDescription


class Identity:
    """The use cases of identity.

    `cached_tokens_max`: a read that finds a token is remembered until this process writes anything that may end one, so
    the cache is exact only where no other process writes to the database; pass 0 there.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        token_lifetime_s: int = TOKEN_LIFETIME_S,
        cached_tokens_max: int = CACHED_TOKENS_MAX,
        password_cost: PasswordCost | None = None,
    ) -> None:
        if not TOKEN_LIFETIME_S_MIN <= token_lifetime_s <= TOKEN_LIFETIME_S_MAX:
            raise SetupError(
                f"The token lifetime is {token_lifetime_s} s; it has to be"
                f" {TOKEN_LIFETIME_S_MIN} to {TOKEN_LIFETIME_S_MAX} s."
            )
        self._runtime = runtime
        self._store = runtime.store
        self._token_lifetime_us = token_lifetime_s * _SECOND_US
        self._passwords = Passwords(runtime.executor, runtime.ids, password_cost or PasswordCost())
        self._cached_max = cached_tokens_max
        self._cached: dict[str, Token] = {}
        #: Counts what may have ended a token, so that a read begun before is not remembered after it.
        self._endings = 0
        self._store.subscribe(self._forget_tokens)

    # Tokens.

    async def find_token(self, secret: str) -> Token:
        """What the token says. Raises Unauthenticated."""
        if len(secret) > TOKEN_CHARS_MAX:
            raise Unauthenticated
        token_hash = _hash_token(secret)
        now = self._runtime.clock.now_us()
        cached = self._cached.get(token_hash)
        if cached is not None and cached.expires_at > now:
            return cached
        endings = self._endings
        token = await self._store.read_point(tokens.find_token, token_hash, now)
        if token is None:
            raise Unauthenticated
        if endings == self._endings and self._cached_max > 0:
            if len(self._cached) >= self._cached_max:
                self._cached.clear()
            self._cached[token_hash] = token
        return token

    def _forget_tokens(self, wakes: Sequence[Wake]) -> None:
        if any(wake.kind == TOKENS_WAKE for wake in wakes):
            self._endings += 1
            self._cached.clear()

    async def describe_token(self, token: Token, *, with_catalog: bool) -> TokenDescription:
        """The token with the names of what it refers to. Raises NotFound when it has just ended."""
        return await self._store.read(tokens.describe_token, token, with_catalog=with_catalog)

    async def find_subject_token(self, secret: str) -> Token:
        """Like `find_token`, for a token that is asked about. Raises NotFound."""
        try:
            return await self.find_token(secret)
        except Unauthenticated as error:
            raise NotFound("Could not find token: it is unknown, has expired or was revoked.") from error

    async def revoke_token(self, secret: str) -> None:
        """End the token. Raises NotFound."""
        await self._store.write(tokens.revoke_token, _hash_token(secret))

    async def list_catalog(self, project_id: str | None) -> list[CatalogEntry]:
        """What the catalog has for a token of that project, or of none."""
        return await self._store.read(tokens.list_catalog, project_id)

    # Logging in.

    async def log_in_by_password(
        self, user: UserRef, password: str, wanted: WantedScope, *, with_catalog: bool = True
    ) -> Issued:
        """A token for the user. Raises Unauthenticated."""
        found = await self._store.read(tokens.find_login, user)
        fits = await self._passwords.verify(found[1] if found else None, password)
        if found is None or not fits:
            raise Unauthenticated(LOGIN_FAILED)
        return await self._issue(Proof(user_id=found[0].id, password_hash=found[1]), wanted, with_catalog)

    async def log_in_by_credential(
        self, ref: CredentialRef, secret: str, wanted: WantedScope, *, with_catalog: bool = True
    ) -> Issued:
        """A token for the application credential's project. Raises Unauthenticated."""
        if wanted.kind is not None:
            raise Unauthenticated("An application credential has its own scope; do not ask for one.")
        found = await self._store.read(tokens.find_credential_login, ref)
        fits = await self._passwords.verify(found[1] if found else None, secret)
        if found is None or not fits:
            raise Unauthenticated(LOGIN_FAILED)
        return await self._issue(Proof(user_id=found[0].user_id, credential_id=found[0].id), wanted, with_catalog)

    async def log_in_by_token(self, secret: str, wanted: WantedScope, *, with_catalog: bool = True) -> Issued:
        """A token made from another one, that ends no later. Raises Unauthenticated or Forbidden."""
        source = await self.find_token(secret)
        return await self._issue(Proof(user_id=source.user_id, token_hash=_hash_token(secret)), wanted, with_catalog)

    async def _issue(self, proof: Proof, wanted: WantedScope, with_catalog: bool) -> Issued:
        secret = self._runtime.ids.secret()
        now = self._runtime.clock.now_us()
        new = NewToken(
            hash=_hash_token(secret), audit_id=self.draw_id(), now=now, expires_at=now + self._token_lifetime_us
        )
        token = await self._store.write(tokens.issue_token, new, proof, wanted)
        return Issued(secret=secret, description=await self.describe_token(token, with_catalog=with_catalog))

    # Resources, and users' passwords.

    def draw_id(self) -> str:
        """A fresh id: 32 hex characters."""
        return self._runtime.ids.uuid().replace("-", "")

    def now_us(self) -> int:
        """The time, for a new resource's `created_at`."""
        return self._runtime.clock.now_us()

    async def find_resource(self, struct: type[R], resource_id: str) -> R:
        """Raises NotFound."""
        return await self._store.read(identity.find_resource, struct, resource_id)

    async def list_resources(
        self, struct: type[R], filters: Mapping[str, Any], *, limit: int, marker: str | None
    ) -> list[R]:
        """See the store's function of this name."""
        return await self._store.read(identity.list_resources, struct, filters, limit=limit, marker=marker)

    async def create_resource(self, resource: Resource) -> None:
        """Raises Conflict, NotFound or Invalid."""
        await self._store.write(identity.create_resource, resource)

    async def change_resource(self, struct: type[R], resource_id: str, changes: Mapping[str, Any]) -> R:
        """Raises Conflict, NotFound, Invalid or Forbidden."""
        return await self._store.write(identity.change_resource, struct, resource_id, changes)

    async def delete_resource(self, struct: type[Resource], resource_id: str) -> None:
        """Raises NotFound or Forbidden."""
        await self._store.write(identity.delete_resource, struct, resource_id)

    async def create_user(self, user: User, password: str | None) -> None:
        """A user without a password cannot log in with one. Raises Conflict or NotFound."""
        password_hash = None if password is None else await self._passwords.hash(password)
        await self._store.write(identity.create_user, user, password_hash)

    async def change_user(self, user_id: str, changes: Mapping[str, Any], password: str | None) -> User:
        """A new password ends all of the user's tokens. Raises Conflict, NotFound or Invalid."""
        password_hash = None if password is None else await self._passwords.hash(password)
        return await self._store.write(identity.change_user, user_id, changes, password_hash)

    async def change_own_password(self, user_id: str, old_password: str, new_password: str) -> None:
        """Raises Unauthenticated when the old password is wrong, or has been changed meanwhile."""
        found = await self._store.read(tokens.find_login, UserRef(id=user_id))
        stored = found[1] if found else None
        if not await self._passwords.verify(stored, old_password) or stored is None:
            raise Unauthenticated("The original password is wrong.")
        new_hash = await self._passwords.hash(new_password)
        await self._store.write(tokens.exchange_password, user_id, stored, new_hash)

    # Roles.

    async def assign_role(self, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> None:
        """Nothing changes if it is so already. Raises NotFound."""
        await self._store.write(identity.assign_role, user_id, scope, scope_id, role_id)

    async def unassign_role(self, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> None:
        """The user's tokens for that scope end. Raises NotFound."""
        await self._store.write(identity.unassign_role, user_id, scope, scope_id, role_id)

    async def require_role(self, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> None:
        """Raises NotFound unless the user has the role there."""
        await self._store.read(identity.require_role, user_id, scope, scope_id, role_id)

    async def list_roles_at(self, user_id: str, scope: ScopeKind, scope_id: str) -> list[Role]:
        """The roles assigned to the user there. Raises NotFound."""
        return await self._store.read(identity.list_roles_of_user, user_id, scope, scope_id)

    async def list_assignments(
        self,
        *,
        user_id: str | None,
        role_id: str | None,
        scope: ScopeKind | None,
        scope_id: str | None,
        effective: bool,
    ) -> list[Assignment]:
        """The assignments that fit; `effective`: those that roles imply as well."""
        if not effective:
            return await self._store.read(
                identity.list_assignments, user_id=user_id, role_id=role_id, scope=scope, scope_id=scope_id
            )
        found = await self._store.read(identity.list_assignments, user_id=user_id, scope=scope, scope_id=scope_id)
        roles = await self._store.read(identity.list_resources, Role, {})
        by_name = {role.name: role.id for role in roles}
        return [item for item in _expand_assignments(found, by_name) if role_id in (None, item.role_id)]

    async def list_projects_of(self, user_id: str, filters: Mapping[str, Any]) -> list[Project]:
        """The projects in which the user has a role. Raises NotFound."""
        return await self._store.read(identity.list_projects_of, user_id, filters)

    async def list_domains_of(self, user_id: str) -> list[Domain]:
        """The domains in which the user has a role."""
        return await self._store.read(identity.list_domains_of, user_id)

    # Application credentials.

    async def create_credential(
        self, token: Token, credential: ApplicationCredential, secret: str | None, roles: Sequence[RoleRef] | None
    ) -> tuple[ApplicationCredential, str]:
        """Write it with those of the token's roles (None: all); returns it with its secret, drawn if none was given.

        Raises Forbidden, Conflict or Invalid.
        """
        await self.require_unrestricted(token)
        secret = secret if secret is not None else self._runtime.ids.secret()
        if credential.expires_at is not None and credential.expires_at <= self.now_us():
            raise Invalid("expires_at is in the past.")
        secret_hash = await self._passwords.hash(secret)
        made = await self._store.write(tokens.create_credential, credential, secret_hash, roles, token.roles)
        return made, secret

    async def require_unrestricted(self, token: Token) -> None:
        """Raise Forbidden for a token of an application credential that may not make or delete others."""
        if token.application_credential_id is None:
            return
        own = await self._store.read(tokens.find_credential, token.user_id, token.application_credential_id)
        if not own.unrestricted:
            raise Forbidden("This application credential is restricted: it cannot create or delete others.")

    async def find_credential(self, user_id: str, credential_id: str) -> ApplicationCredential:
        """Raises NotFound."""
        return await self._store.read(tokens.find_credential, user_id, credential_id)

    async def list_credentials(self, user_id: str, name: str | None) -> list[ApplicationCredential]:
        """Raises NotFound for an unknown user."""
        return await self._store.read(tokens.list_credentials, user_id, name)

    async def delete_credential(self, token: Token, user_id: str, credential_id: str) -> None:
        """Tokens made with it end. Raises Forbidden or NotFound."""
        await self.require_unrestricted(token)
        await self._store.write(tokens.delete_credential, user_id, credential_id)

    # Starting.

    async def bootstrap(self, origin: str) -> str | None:
        """Put in what Kevel needs and bring its catalog entries to `origin` ("http://host:port"); safe at every start.

        At the first start it returns the generated password of the user `admin`, which is stored nowhere else; later
        None. A password that was lost on its way is replaced by `restore_admin`.
        """
        await self._store.write(bootstrap.put_catalog, origin)
        if await self._store.read(bootstrap.is_first_start):
            return await self.restore_admin()
        return None

    async def restore_admin(self) -> str:
        """The way back in: user and project `admin` exist, are enabled, and the password is this new one."""
        password = self._runtime.ids.secret()
        password_hash = await self._passwords.hash(password)
        fresh_ids = {name: self.draw_id() for name in (*FIXED_ROLES, "user", "project")}
        await self._store.write(bootstrap.put_admin, fresh_ids, password_hash, self.now_us())
        return password


def _hash_token(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _expand_assignments(found: Sequence[Assignment], role_ids: Mapping[str, str]) -> list[Assignment]:
    """The assignments, and one for each role that they imply; none twice."""
    expanded: dict[tuple[str, ScopeKind, str, str], Assignment] = {}
    for item in found:
        for name in sorted(expand_roles([item.role_name])):
            role_id = role_ids.get(name)
            if role_id is not None:
                key = (item.user_id, item.scope, item.scope_id, role_id)
                expanded[key] = msgspec.structs.replace(item, role_id=role_id, role_name=name)
    return list(expanded.values())
