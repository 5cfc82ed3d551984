"""What operations on key pairs take and answer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from kevel.api.answers import Answer, Link, name_answer

Name = Annotated[str, Meta(min_length=1, max_length=255)]


class NewPair(Struct, forbid_unknown_fields=True):
    """A pair until 2.91: without a public key, one is drawn."""

    name: Name
    public_key: str | UnsetType = UNSET
    type: Literal["ssh", "x509"] | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


class PairBody(Struct, forbid_unknown_fields=True):
    """Body of a POST until 2.91."""

    keypair: NewPair


class ImportedPair(Struct, forbid_unknown_fields=True):
    """A pair from 2.92 on: public keys are only taken."""

    name: Name
    public_key: str
    type: Literal["ssh", "x509"] | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


class ImportBody(Struct, forbid_unknown_fields=True):
    """Body of a POST from 2.92 on."""

    keypair: ImportedPair


class Pair(Answer, kw_only=True):
    """A pair in a list."""

    name: str
    public_key: str
    fingerprint: str
    type: Literal["ssh", "x509"] | UnsetType = UNSET


class MadePair(Pair, kw_only=True):
    """A pair that has just been made; a drawn private key is shown this once."""

    user_id: str
    private_key: str | UnsetType = UNSET


class WholePair(Pair, kw_only=True):
    """One pair."""

    id: int
    user_id: str
    created_at: str
    updated_at: None
    deleted: bool
    deleted_at: None


class NamedPair(Answer, kw_only=True):
    """A pair in its envelope, of which a list has one each."""

    keypair: Pair


PAIRS: Final = name_answer("keypairs", list[NamedPair], keypairs_links=list[Link])
MADE: Final = name_answer("keypair", MadePair)
PAIR: Final = name_answer("keypair", WholePair)
