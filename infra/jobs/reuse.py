"""Images that other shards of a store hold already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from generators.records import GenerationRequest, SampleRecord, Status
from infra.jobs.members import shard_member
from infra.storage.shards import ShardMember, ShardReader


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedImage:
    """Where an image is, and what its row says.

    Attributes:
        folder: of its shard.
        shard: name.
        member: file name in the tar; empty where the request failed.
        offset: of the image in the tar, -1 without one.
        size: of the image in bytes, -1 without one.
        num_model_calls: what it cost.
        status: of its row before any judge.
        reason: of its row before any judge.
    """

    folder: Path
    shard: str
    member: str
    offset: int
    size: int
    num_model_calls: int
    status: Status
    reason: str


def reused_members(
    requests: Sequence[GenerationRequest], reused: Mapping[str, ReusedImage]
) -> tuple[list[ShardMember], list[SampleRecord]]:
    """Members and rows as generating would have given them, in the order of requests."""
    members: list[ShardMember] = []
    records: list[SampleRecord] = []
    for request in requests:
        image = reused.get(request.key)
        if image is None:
            continue
        if image.member:
            extension: Literal["png", "jpg"] = "png" if image.member.endswith(".png") else "jpg"
            with ShardReader(image.folder) as reader:
                data = reader.read(image.shard, image.offset, image.size)
            members.append(shard_member(request, data, extension))
        records.append(
            SampleRecord(
                key=request.key,
                request=request,
                num_model_calls=image.num_model_calls,
                status=image.status,
                reason=image.reason,
            )
        )
    return members, records
