"""Limits of a project, and what it has of them, under the names that clients look for."""

from __future__ import annotations

from typing import Final

from kevel.api.compute.shapes import refuse_unknown_query, v
from kevel.api.operations import Call, Reply
from kevel.domain.errors import Forbidden

_LIMITS: Final = {
    "maxServerMeta": "metadata_items",
    "maxTotalInstances": "instances",
    "maxTotalCores": "cores",
    "maxTotalRAMSize": "ram",
    "maxTotalKeypairs": "key_pairs",
    "maxServerGroups": "server_groups",
    "maxServerGroupMembers": "server_group_members",
}
_USED: Final = {
    "totalInstancesUsed": "instances",
    "totalCoresUsed": "cores",
    "totalRAMUsed": "ram",
    "totalServerGroupsUsed": "server_groups",
}
#: Shown until 2.56, 2.38 and 2.35.
_FILES: Final = {"maxPersonality": "injected_files", "maxPersonalitySize": "injected_file_content_bytes"}
_IMAGES: Final = {"maxImageMeta": "metadata_items"}
_NETWORK: Final = {
    "maxTotalFloatingIps": "floating_ips",
    "maxSecurityGroups": "security_groups",
    "maxSecurityGroupRules": "security_group_rules",
}
_NETWORK_USED: Final = {"totalFloatingIpsUsed": "floating_ips", "totalSecurityGroupsUsed": "security_groups"}


async def show_limits(call: Call) -> Reply:
    if call.version >= v(75):
        refuse_unknown_query(call, ("tenant_id", "reserved"))
    project_id = dict(call.query_items).get("tenant_id") or call.caller.project
    if project_id != call.caller.project_id and not call.caller.is_admin:
        raise Forbidden("Policy does not allow another project's limits to be shown with the roles of this token.")
    names, used = dict(_LIMITS), dict(_USED)
    if call.version < v(57):
        names |= _FILES
    if call.version < v(39):
        names |= _IMAGES
    if call.version < v(36):
        names |= _NETWORK
        used |= _NETWORK_USED
    found = await call.services.server_quotas.show(call.actor, project_id)
    absolute = {name: found[resource].limit for name, resource in names.items()}
    absolute |= {name: found[resource].in_use for name, resource in used.items()}
    return Reply(body={"limits": {"rate": [], "absolute": absolute}})
