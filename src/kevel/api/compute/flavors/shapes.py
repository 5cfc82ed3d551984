"""The bodies of requests about flavors, and access lists as they are shown."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from kevel.api.answers import Answer, name_answer

#: Clients send numbers as texts, too.
_Number = int | str
_Flag = bool | int | str


class NewFlavor(msgspec.Struct, forbid_unknown_fields=True):
    """The flavor in the body of a creation."""

    name: str
    ram: _Number
    vcpus: _Number
    disk: _Number
    id: int | str | None = None
    ephemeral: _Number = msgspec.field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    swap: _Number = 0
    rxtx_factor: float | str = 1.0
    is_public: _Flag = msgspec.field(default=True, name="os-flavor-access:is_public")


class DescribedFlavor(NewFlavor, forbid_unknown_fields=True):
    """The same from 2.55 on."""

    description: str | None = None


class TrimmedFlavor(msgspec.Struct, forbid_unknown_fields=True):
    """The same from 2.102 on."""

    name: str
    ram: _Number
    vcpus: _Number
    disk: _Number
    id: int | str | None = None
    ephemeral: _Number = msgspec.field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    swap: _Number = 0
    is_public: _Flag = msgspec.field(default=True, name="os-flavor-access:is_public")
    description: str | None = None


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a creation."""

    flavor: NewFlavor


class DescribedCreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a creation from 2.55 on."""

    flavor: DescribedFlavor


class TrimmedCreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a creation from 2.102 on."""

    flavor: TrimmedFlavor


class FlavorChange(msgspec.Struct, forbid_unknown_fields=True):
    """What may change of a flavor."""

    description: str | None


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a change."""

    flavor: FlavorChange


class ExtraSpecsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body that sets extra specs."""

    extra_specs: Annotated[dict[str, str], msgspec.Meta(min_length=1)]


class Grant(msgspec.Struct, forbid_unknown_fields=True):
    """Which project."""

    tenant: Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-]*\Z")]


class AddAccessBody(msgspec.Struct, forbid_unknown_fields=True):
    """The action `addTenantAccess`."""

    grant: Grant = msgspec.field(name="addTenantAccess")


class RemoveAccessBody(msgspec.Struct, forbid_unknown_fields=True):
    """The action `removeTenantAccess`."""

    grant: Grant = msgspec.field(name="removeTenantAccess")


class Access(Answer, kw_only=True):
    """A project that may use a flavor."""

    flavor_id: str
    tenant_id: str


ACCESS: Final = name_answer("flavor_access", list[Access])
