"""What operations on QoS specs take and answer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from kevel.api.answers import Answer, Link, name_answer, name_list
from kevel.api.volume.bodies import Text

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class CreateQos(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /qos-specs: `name`, `consumer`, and every other key is a spec."""

    qos_specs: dict[Key, Text]


class SetKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /qos-specs/{id}: `consumer`, and every other key is a spec."""

    qos_specs: Annotated[dict[Key, Text], msgspec.Meta(min_length=1)]


class UnsetKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /qos-specs/{id}/delete_keys."""

    keys: list[Key]


class Qos(Answer, kw_only=True):
    """A set of qualities, and who keeps to them."""

    id: str
    name: str
    consumer: Literal["front-end", "back-end", "both"]
    specs: dict[str, str]


class ShownQos(Answer, kw_only=True):
    """One set with its address."""

    qos_specs: Qos
    links: list[Link]


class Association(Answer, kw_only=True):
    """What has the specs."""

    association_type: Literal["volume_type"]
    id: str
    name: str


LIST: Final = name_list("qos_specs", Qos)
KEYS: Final = name_answer("qos_specs", dict[str, str])
ASSOCIATIONS: Final = name_answer("qos_associations", list[Association])
