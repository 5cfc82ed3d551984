"""What quota operations take and answer. The keys of a set are resources, those of volume types among them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from kevel.api.answers import Answer, name_answer
from kevel.domain.quotas import QuotaLimit

#: A number, or its digits. `id` and `tenant_id` may be there, and say nothing.
Value = int | Annotated[str, msgspec.Meta(max_length=255)]
Values = Annotated[dict[Annotated[str, msgspec.Meta(min_length=1, max_length=300)], Value], msgspec.Meta(min_length=1)]


class PutQuotas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-quota-sets/{id}."""

    quota_set: Values


class PutClass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-quota-class-sets/{id}."""

    quota_class_set: Values


class Usage(Answer, kw_only=True):
    """With `?usage=true`."""

    limit: int
    in_use: int
    reserved: int


class AbsoluteLimits(Answer, kw_only=True):
    """What the project may have (-1: without limit), and has."""

    maxTotalVolumes: QuotaLimit  # noqa: N815 - Cinder's name
    maxTotalVolumeGigabytes: QuotaLimit  # noqa: N815 - Cinder's name
    maxTotalSnapshots: QuotaLimit  # noqa: N815 - Cinder's name
    maxTotalBackups: QuotaLimit  # noqa: N815 - Cinder's name
    maxTotalBackupGigabytes: QuotaLimit  # noqa: N815 - Cinder's name
    totalVolumesUsed: int  # noqa: N815 - Cinder's name
    totalGigabytesUsed: int  # noqa: N815 - Cinder's name
    totalSnapshotsUsed: int  # noqa: N815 - Cinder's name
    totalBackupsUsed: int  # noqa: N815 - Cinder's name
    totalBackupGigabytesUsed: int  # noqa: N815 - Cinder's name


class Limits(Answer, kw_only=True):
    """There are no limits to the rate of requests."""

    rate: Annotated[list[str], msgspec.Meta(max_length=0)]
    absolute: AbsoluteLimits


#: `id` is the project, or the class.
QUOTAS: Final = name_answer("quota_set", dict[str, str | int | Usage])
CLASS: Final = name_answer("quota_class_set", dict[str, str | int])
LIMITS: Final = name_answer("limits", Limits)
