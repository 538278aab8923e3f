"""A synthetic image as a member of a shard: the one form, whether it was made or copied."""

from typing import Literal

from generators.records import GenerationRequest
from infra.storage.shards import ShardMember


def shard_member(
    request: GenerationRequest, image: bytes, extension: Literal["png", "jpg"]
) -> ShardMember:
    """Label and facts come from the request, and its key is the member's name."""
    return ShardMember(
        key=request.key,
        image=image,
        extension=extension,
        label=request.label,
        info={
            "key": request.key,
            "source_key": request.source_key,
            "class_name": request.class_name,
            "prompt": request.prompt,
            "image_guidance": request.image_guidance,
            "seed": request.seed,
            "backbone": request.backbone,
        },
    )
