"""The rows of quotas and limits."""

from __future__ import annotations

from typing import Final

from kevel.api.volume.quotas import handlers, shapes
from kevel.api.volume.rows import admin, read

QUOTAS: Final = (
    read(
        name="showLimits",
        reply=shapes.LIMITS,
        query_names=("project_id", "tenant_id"),
        path="/limits",
        handler=handlers.show_limits,
    ),
    read(
        name="showQuotas",
        reply=shapes.QUOTAS,
        query_names=("usage",),
        path="/os-quota-sets/{project_id}",
        handler=handlers.show_quotas,
        errors=(400,),
    ),
    read(
        name="showDefaultQuotas",
        reply=shapes.QUOTAS,
        path="/os-quota-sets/{project_id}/defaults",
        handler=handlers.show_defaults,
        errors=(400,),
    ),
    admin(
        name="updateQuotas",
        reply=shapes.QUOTAS,
        method="PUT",
        path="/os-quota-sets/{project_id}",
        handler=handlers.update_quotas,
        errors=(400,),
        body=shapes.PutQuotas,
    ),
    admin(
        name="deleteQuotas",
        reply=None,
        method="DELETE",
        path="/os-quota-sets/{project_id}",
        handler=handlers.delete_quotas,
        errors=(400,),
    ),
    admin(
        name="showQuotaClass",
        reply=shapes.CLASS,
        method="GET",
        path="/os-quota-class-sets/{class_name}",
        handler=handlers.show_class,
        errors=(404,),
    ),
    admin(
        name="updateQuotaClass",
        reply=shapes.CLASS,
        method="PUT",
        path="/os-quota-class-sets/{class_name}",
        handler=handlers.update_class,
        errors=(400, 404),
        body=shapes.PutClass,
    ),
)
