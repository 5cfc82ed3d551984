"""Limits of a project: what it uses, and that only the hosts' room bounds it."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.compute import replies
from kevel.api.compute.shapes import refuse_unknown_query, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.servers import METADATA_MAX
from kevel.domain.errors import Forbidden

#: Nova's word for "no limit".
UNLIMITED: Final = -1


async def show_limits(call: Call) -> Reply:
    if call.version >= v(75):
        refuse_unknown_query(call, ("tenant_id", "reserved"))
    project_id = dict(call.query_items).get("tenant_id") or call.caller.project
    if project_id != call.caller.project_id and not call.caller.is_admin:
        raise Forbidden("Policy does not allow another project's limits to be shown with the roles of this token.")
    used = await call.services.servers.list_used(project_id)
    absolute: dict[str, Any] = {
        "maxServerMeta": METADATA_MAX,
        "maxTotalInstances": UNLIMITED,
        "maxTotalCores": UNLIMITED,
        "maxTotalRAMSize": UNLIMITED,
        # There are none of these.
        "maxTotalKeypairs": 0,
        "maxServerGroups": 0,
        "maxServerGroupMembers": 0,
        "totalServerGroupsUsed": 0,
        "totalInstancesUsed": len(used),
        "totalCoresUsed": sum(one.flavor["vcpus"] for one in used),
        "totalRAMUsed": sum(one.flavor["ram_mib"] for one in used),
    }
    if call.version < v(57):
        absolute |= {"maxPersonality": 0, "maxPersonalitySize": 0}
    if call.version < v(39):
        absolute["maxImageMeta"] = METADATA_MAX
    if call.version < v(36):
        absolute |= {
            "maxTotalFloatingIps": 0,
            "totalFloatingIpsUsed": 0,
            "maxSecurityGroups": 0,
            "totalSecurityGroupsUsed": 0,
            "maxSecurityGroupRules": 0,
        }
    return Reply(body={"limits": {"rate": [], "absolute": absolute}})


OPERATIONS: Final = (
    Operation(
        name="showLimits",
        reply=replies.LIMITS,
        query_names=("tenant_id", "reserved"),
        method="GET",
        path="/limits",
        handler=show_limits,
        policy=Policy.READER,
        errors=(400, 403),
    ),
)
