"""The rows of quotas and limits."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.compute import replies
from kevel.api.compute.quotas import handlers, limits, shapes
from kevel.api.operations import Operation, Policy

_QUOTAS: Final = "/os-quota-sets/{project_id}"
_CLASS: Final = "/os-quota-class-sets/{class_name}"
_read = partial(Operation, method="GET", policy=Policy.READER)
_admin = partial(Operation, policy=Policy.ADMIN)

QUOTAS: Final = (
    _read(
        name="showLimits",
        reply=replies.LIMITS,
        query_names=("tenant_id", "reserved"),
        path="/limits",
        handler=limits.show_limits,
        errors=(400, 403),
    ),
    _read(
        name="showQuotas",
        reply=shapes.QUOTAS,
        query_names=("user_id",),
        path=_QUOTAS,
        handler=handlers.show_quotas,
        errors=(400, 403),
    ),
    _read(
        name="showDefaultQuotas",
        reply=shapes.QUOTAS,
        path=f"{_QUOTAS}/defaults",
        handler=handlers.show_defaults,
        errors=(400,),
    ),
    _read(
        name="showQuotaDetails",
        reply=shapes.QuotaDetails,
        query_names=("user_id",),
        path=f"{_QUOTAS}/detail",
        handler=handlers.show_details,
        errors=(400, 403),
    ),
    _admin(
        name="updateQuotas",
        reply=shapes.QUOTAS,
        query_names=("user_id",),
        method="PUT",
        path=_QUOTAS,
        handler=handlers.update_quotas,
        errors=(400,),
        body=shapes.PutQuotas,
    ),
    _admin(
        name="deleteQuotas",
        reply=None,
        query_names=("user_id",),
        method="DELETE",
        path=_QUOTAS,
        handler=handlers.delete_quotas,
        success=202,
        errors=(400,),
    ),
    _admin(
        name="showQuotaClass",
        reply=shapes.CLASS,
        method="GET",
        path=_CLASS,
        handler=handlers.show_class,
        errors=(404,),
    ),
    _admin(
        name="updateQuotaClass",
        reply=shapes.CLASS,
        method="PUT",
        path=_CLASS,
        handler=handlers.update_class,
        errors=(400, 404),
        body=shapes.PutClass,
    ),
)
