"""What operations on server groups take and answer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from kevel.api.answers import Answer, name_answer

Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
HardPolicy = Literal["affinity", "anti-affinity"]
Policy = Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]


class OldGroup(Struct, forbid_unknown_fields=True):
    """A group until 2.14."""

    name: Name
    policies: Annotated[list[HardPolicy], Meta(min_length=1, max_length=1)]


class OldBody(Struct, forbid_unknown_fields=True):
    """Body of a POST until 2.14."""

    server_group: OldGroup


class SoftGroup(Struct, forbid_unknown_fields=True):
    """A group until 2.63, with the soft policies."""

    name: Name
    policies: Annotated[list[Policy], Meta(min_length=1, max_length=1)]


class SoftBody(Struct, forbid_unknown_fields=True):
    """Body of a POST until 2.63."""

    server_group: SoftGroup


class Rules(Struct, forbid_unknown_fields=True):
    """What bounds a policy."""

    per_host_max: Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}\Z")] | UnsetType = field(
        name="max_server_per_host", default=UNSET
    )


class NewGroup(Struct, forbid_unknown_fields=True):
    """A group from 2.64 on."""

    name: Name
    policy: Policy
    rules: Rules | UnsetType = UNSET


class GroupBody(Struct, forbid_unknown_fields=True):
    """Body of a POST from 2.64 on."""

    server_group: NewGroup


class ShownRules(Answer, kw_only=True):
    """What bounds a policy."""

    max_server_per_host: int | UnsetType = UNSET


class Group(Answer, kw_only=True):
    """A group. UNSET: came or went with a microversion."""

    id: str
    name: str
    members: list[str]
    policies: list[Policy] | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    project_id: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET
    rules: ShownRules | UnsetType = UNSET


GROUPS: Final = name_answer("server_groups", list[Group])
GROUP: Final = name_answer("server_group", Group)
