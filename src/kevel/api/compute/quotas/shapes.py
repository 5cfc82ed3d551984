"""What quota operations take and answer. The keys of a set are resources; which ones, the microversion says."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from kevel.api.answers import Answer, name_answer
from kevel.domain.quotas import QuotaLimit

#: A number, or its digits.
Value = int | Annotated[str, Meta(max_length=32)]


class CommonLimits(Struct, forbid_unknown_fields=True):
    """What every microversion has."""

    instances: Value | UnsetType = UNSET
    cores: Value | UnsetType = UNSET
    ram: Value | UnsetType = UNSET
    metadata_items: Value | UnsetType = UNSET
    key_pairs: Value | UnsetType = UNSET
    server_groups: Value | UnsetType = UNSET
    server_group_members: Value | UnsetType = UNSET
    injected_files: Value | UnsetType = UNSET
    injected_file_content_bytes: Value | UnsetType = UNSET
    injected_file_path_bytes: Value | UnsetType = UNSET
    fixed_ips: Value | UnsetType = UNSET
    floating_ips: Value | UnsetType = UNSET
    security_groups: Value | UnsetType = UNSET
    security_group_rules: Value | UnsetType = UNSET


class SetLimits(CommonLimits, forbid_unknown_fields=True):
    """Limits of a project or user."""

    force: bool | str | int = False


class PutQuotas(Struct, forbid_unknown_fields=True):
    """PUT /os-quota-sets/{project_id}."""

    quota_set: SetLimits


class PutClass(Struct, forbid_unknown_fields=True):
    """PUT /os-quota-class-sets/{class_name}."""

    quota_class_set: CommonLimits


class Usage(Answer, kw_only=True):
    """One resource in detail."""

    limit: QuotaLimit
    in_use: int
    reserved: int


class QuotaDetails(Answer, kw_only=True):
    """A set in detail; `id` is the project."""

    quota_set: dict[str, str | Usage]


#: `id` is the project, or the class.
QUOTAS: Final = name_answer("quota_set", dict[str, str | int])
CLASS: Final = name_answer("quota_class_set", dict[str, str | int])
