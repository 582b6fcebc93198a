"""Tokens made of others, one by one. All give copies: nothing on the table changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask
from hybrid_compute.tabletop.table import Token


class Merged(TypedDict):
    """The token that several became, and those if they are asked for."""

    merged: Token
    originals: NotRequired[list[Token]]


def transform(token: Token, properties: dict[str, Any] | None = None) -> Ask[Token]:
    """The token with other fields; `_transformedFrom` is the id that it had."""
    return ask("token:transform", token=token, properties=properties)


def attach(host: Token, attachment: Token, type: str = "default") -> Ask[Token]:
    """The host with another token as the last of its `_attachments`."""
    return ask("token:attach", host=host, attachment=attachment, attachmentType=type)


def detach(host: Token, attachment_id: str) -> Ask[Token]:
    """The host without the attachment of that id. It is no error if there is none."""
    return ask("token:detach", host=host, attachmentId=attachment_id)


def merge(
    tokens: Sequence[Token], properties: dict[str, Any] | None = None, *, keep_originals: bool = False
) -> Ask[Merged]:
    """One token of several: all fields of all, the later before the earlier, and `properties` before both."""
    return ask("token:merge", tokens=list(tokens), properties=properties, keepOriginals=keep_originals)


def split(token: Token, count: int = 2, properties: Sequence[dict[str, Any]] | None = None) -> Ask[list[Token]]:
    """So many tokens made of one, each with a new id and the fields that `properties` has for it."""
    return ask("token:split", token=token, count=count, propertiesArray=properties and list(properties))
