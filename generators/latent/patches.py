"""What latent transformers share: square images that are cut into patches, one token each."""

from collections.abc import Sequence
from dataclasses import dataclass

from generators.errors import CheckpointError, ConfigError, one_of
from generators.latent.adapters import Adapters
from generators.latent.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Sizes of one image.

    Attributes:
        image_size: side in pixels.
        token_size: side of what one token stands for, in pixels: the autoencoder's reduction times
            the transformer's patch.
    """

    image_size: int
    token_size: int

    @property
    def tokens_per_side(self) -> int:
        """Tokens along a side."""
        return self.image_size // self.token_size

    @property
    def num_tokens(self) -> int:
        """Tokens of one image."""
        return self.tokens_per_side**2


def grid_of(checkpoint: Checkpoint, wanted: int | None, *, patch: int, latent_side: int) -> Grid:
    """The sizes of a checkpoint's images.

    Args:
        checkpoint: verified.
        wanted: side in pixels; None for the checkpoint's own.
        patch: side of a token in latents.
        latent_side: of the images the checkpoint was trained on.

    Raises:
        ConfigError: a side that cannot be cut into tokens.
    """
    reduction = 2 ** (len(checkpoint.config("vae").get("block_out_channels", [64])) - 1)
    size, token = wanted or latent_side * reduction, reduction * patch
    if size % token:
        raise ConfigError("image_size", size, f"a multiple of {token}, which is one token's side")
    return Grid(image_size=size, token_size=token)


def require_transformer(checkpoint: Checkpoint, names: Sequence[str], *, packing: int = 1) -> None:
    """Checks that a checkpoint's transformer denoises its autoencoder's latents.

    Args:
        checkpoint: verified.
        names: classes it may be of.
        packing: latents that are stacked into one input channel's place.

    Raises:
        CheckpointError: another class, or other inputs (masks, further images).
    """
    part = checkpoint.components["transformer"]
    if part.class_name not in names:
        raise CheckpointError(
            f"{part.folder}: transformer is a {part.class_name}; {checkpoint.family.method!r} "
            f"runs {one_of(names)}"
        )
    wanted = checkpoint.config("vae").get("latent_channels", 4) * packing
    found = part.config().get("in_channels", wanted)
    if found != wanted:
        raise CheckpointError(
            f"{part.folder / 'config.json'}: in_channels {found}; expected {wanted}, what the "
            "autoencoder's latents have: a network that reads more than noise is not run"
        )


def check_loras(adapters: Adapters) -> None:
    """Checks adapters of pipelines that load LoRAs and no textual inversions.

    Raises:
        CheckpointError: a file that cannot be used.
        ConfigError: a textual inversion.
    """
    if adapters.textual_inversions:
        given = [word.path for word in adapters.textual_inversions]
        allowed = "nothing: diffusers loads none into this family, only LoRAs"
        raise ConfigError("adapters.textual_inversions", given, allowed)
    adapters.check()
