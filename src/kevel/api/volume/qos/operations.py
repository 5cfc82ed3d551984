"""The rows of QoS specs. Some that change something are GETs: Cinder has them so."""

from __future__ import annotations

from typing import Final

from kevel.api.volume.qos import handlers, shapes
from kevel.api.volume.rows import PAGE_QUERY, admin

_ONE: Final = "/qos-specs/{specs_id}"

QOS: Final = (
    admin(
        name="listQos",
        reply=shapes.LIST,
        query_names=("id", "name", "consumer", *PAGE_QUERY),
        new_id="/qos_specs/0/id",
        method="GET",
        path="/qos-specs",
        handler=handlers.list_qos,
        errors=(400, 404),
    ),
    admin(name="showQos", reply=shapes.ShownQos, method="GET", path=_ONE, handler=handlers.show_qos, errors=(404,)),
    admin(
        name="createQos",
        reply=shapes.ShownQos,
        new_id="/qos_specs/id",
        needs_space=True,
        method="POST",
        path="/qos-specs",
        handler=handlers.create_qos,
        errors=(400, 409, 413),
        body=shapes.CreateQos,
    ),
    admin(
        name="setQosKeys",
        reply=shapes.KEYS,
        method="PUT",
        path=_ONE,
        handler=handlers.set_keys,
        errors=(400, 404),
        body=shapes.SetKeys,
    ),
    admin(
        name="unsetQosKeys",
        reply=None,
        method="PUT",
        path=f"{_ONE}/delete_keys",
        handler=handlers.unset_keys,
        success=202,
        errors=(400, 404),
        body=shapes.UnsetKeys,
    ),
    admin(
        name="deleteQos",
        reply=None,
        query_names=("force",),
        method="DELETE",
        path=_ONE,
        handler=handlers.delete_qos,
        success=202,
        errors=(400, 404),
    ),
    admin(
        name="listQosAssociations",
        reply=shapes.ASSOCIATIONS,
        method="GET",
        path=f"{_ONE}/associations",
        handler=handlers.list_associations,
        errors=(404,),
    ),
    admin(
        name="associateQos",
        reply=None,
        query_names=("vol_type_id",),
        method="GET",
        path=f"{_ONE}/associate",
        handler=handlers.associate,
        success=202,
        errors=(400, 404),
    ),
    admin(
        name="disassociateQos",
        reply=None,
        query_names=("vol_type_id",),
        method="GET",
        path=f"{_ONE}/disassociate",
        handler=handlers.disassociate,
        success=202,
        errors=(400, 404),
    ),
    admin(
        name="disassociateQosFromAll",
        reply=None,
        method="GET",
        path=f"{_ONE}/disassociate_all",
        handler=handlers.disassociate_all,
        success=202,
        errors=(404,),
    ),
)
