"""What operations on volume types take and answer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, name_answer, name_list
from kevel.api.volume.bodies import Bool, Text

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
#: A key of extra specs; no spaces, as it stands in a path.
SpecKey = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9_:.\-]+$")]
NewSpecKey = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9_:. /\-]+$")]
ControlLocation = Literal["front-end", "back-end"]


class NewTypeFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A volume type as it is asked for."""

    name: Name
    description: Text | None = None
    is_public: Bool | None = field(default=None, name="os-volume-type-access:is_public")
    extra_specs: dict[NewSpecKey, Text] | None = None


class CreateType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /types."""

    volume_type: NewTypeFields


class TypeChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What PUT may change."""

    name: Name | None = None
    description: Text | UnsetType | None = UNSET
    is_public: Bool | None = None


class UpdateType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /types/{id}."""

    volume_type: TypeChanges


class PutSpecs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /types/{id}/extra_specs."""

    extra_specs: Annotated[dict[SpecKey, Text], msgspec.Meta(min_length=1)]


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom an access is for."""

    project: Name


class AddAccess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """addProjectAccess."""

    access: Project = field(name="addProjectAccess")


class RemoveAccess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """removeProjectAccess."""

    access: Project = field(name="removeProjectAccess")


class TypeRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A type by id or name."""

    volume_type: Name


class SetDefault(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /default-types/{project_id}."""

    default_type: TypeRef


class EncryptionChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What PUT may change of an encryption. Other keys say nothing."""

    provider: Text | UnsetType = UNSET
    control_location: ControlLocation | UnsetType = UNSET
    cipher: Text | UnsetType | None = UNSET
    key_size: int | Text | UnsetType | None = UNSET


class NewEncryption(EncryptionChanges, frozen=True, kw_only=True):
    """An encryption as it is asked for."""

    provider: Text
    control_location: ControlLocation


class CreateEncryption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /types/{id}/encryption."""

    encryption: NewEncryption


class UpdateEncryption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /types/{id}/encryption/{encryption_id}."""

    encryption: EncryptionChanges


class VolumeType(Answer, kw_only=True):
    """A volume type."""

    id: str
    name: str
    description: str | None
    is_public: bool
    extra_specs: dict[str, str]
    #: Not in the answer to a change.
    access_is_public: bool | UnsetType = field(name="os-volume-type-access:is_public", default=UNSET)
    #: For admins, and not of a new or changed type.
    qos_specs_id: str | UnsetType | None = UNSET


class Access(Answer, kw_only=True):
    """A project that may use a private type."""

    volume_type_id: str
    project_id: str


class DefaultType(Answer, kw_only=True):
    """A project's own default type."""

    project_id: str
    volume_type_id: str


class EncryptionFields(Answer, kw_only=True):
    """What of an encryption was given with the request."""

    provider: str | UnsetType = UNSET
    control_location: ControlLocation | UnsetType = UNSET
    cipher: str | UnsetType | None = UNSET
    key_size: int | UnsetType | None = UNSET


class CreatedEncryption(EncryptionFields, kw_only=True):
    """A new encryption."""

    volume_type_id: str
    encryption_id: str


class Encryption(EncryptionFields, kw_only=True):
    """An encryption; an empty object where the type has none."""

    volume_type_id: str | UnsetType = UNSET
    encryption_id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType | None = UNSET
    deleted_at: UnsetType | None = UNSET
    deleted: Literal[False] | UnsetType = UNSET


TYPES: Final = name_list("volume_types", VolumeType)
TYPE: Final = name_answer("volume_type", VolumeType)
SPECS: Final = name_answer("extra_specs", dict[str, str])
ACCESS: Final = name_answer("volume_type_access", list[Access])
DEFAULT: Final = name_answer("default_type", DefaultType)
DEFAULTS: Final = name_answer("default_types", list[DefaultType])
CREATED_ENCRYPTION: Final = name_answer("encryption", CreatedEncryption)
UPDATED_ENCRYPTION: Final = name_answer("encryption", EncryptionFields)
