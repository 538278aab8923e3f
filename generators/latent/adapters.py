"""Fine-tunings of a checkpoint in files of their own: LoRA and textual inversion.

Both become part of the loaded pipeline, so that they cost nothing at run time: a LoRA is fused into
the weights (Hu et al. 2021, arXiv:2106.09685), a textual inversion adds words to the tokenizer
(Gal et al. 2022, arXiv:2208.01618). Reading and placing them is diffusers' work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from generators.checkpoint_places import local_checkpoint
from generators.errors import CheckpointError, ConfigError
from generators.latent.content import file_hash
from generators.latent.weights import check_safetensors
from generators.registry import JsonValue

AT = "generation.backbone.adapters"
SUFFIX = ".safetensors"
LORA, INVERSION = "pytorch_lora_weights.safetensors", "learned_embeds.safetensors"
"""What diffusers' training scripts call their files."""

ENCODERS = {
    "clip_l": ("tokenizer", "text_encoder"),
    "clip_g": ("tokenizer_2", "text_encoder_2"),
}
"""Names of the tensors of a textual inversion for several text encoders."""

NAMELESS = (*ENCODERS, "emb_params")
"""Tensor names that are not the token itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A low-rank change of the weights.

    Attributes:
        path: a safetensors file, or a folder with one.
        scale: how much of it is added; 0 nothing, 1 as trained.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    path: str
    scale: Annotated[float, Field(ge=-10, le=10)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextualInversion:
    """A word that was learned from images.

    Attributes:
        path: a safetensors file, or a folder with one.
        token: the word as prompts write it; empty takes the one in the file.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    path: str
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """What is added to a checkpoint; nothing by default.

    Attributes:
        loras: fused one after the other, each at its scale.
        textual_inversions: words that prompts may use from then on.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    loras: tuple[Lora, ...] = ()
    textual_inversions: tuple[TextualInversion, ...] = ()

    def check(self) -> None:
        """Looks at the heads of the files.

        Raises:
            CheckpointError: a file that is missing, no safetensors, or without what it should hold.
            ConfigError: a textual inversion whose word is not known.
        """
        for index, lora in enumerate(self.loras):
            at = f"{AT}.loras.{index}.path"
            if not any("lora" in name for name in _tensor_names(_file(lora.path, LORA, at))):
                raise CheckpointError(f"{at}: {lora.path!r} holds no LoRA: no tensor is named so")
        for index, inversion in enumerate(self.textual_inversions):
            at = f"{AT}.textual_inversions.{index}"
            _token(inversion, _tensor_names(_file(inversion.path, INVERSION, at)), at)

    def files(self) -> tuple[Path, ...]:
        """All files, in the order in which they are applied; raises what `check` does."""
        loras = [
            _file(lora.path, LORA, f"{AT}.loras.{i}.path") for i, lora in enumerate(self.loras)
        ]
        words = [
            _file(word.path, INVERSION, f"{AT}.textual_inversions.{i}.path")
            for i, word in enumerate(self.textual_inversions)
        ]
        return (*loras, *words)

    def identity(self) -> dict[str, JsonValue]:
        """What decides pixels, for fingerprints: hashes of the files, scales, words."""
        files = self.files()
        count = len(self.loras)
        loras = zip(files[:count], self.loras, strict=True)
        words = zip(files[count:], self.textual_inversions, strict=True)
        return {
            "loras": [[file_hash(file), lora.scale] for file, lora in loras],
            "textual_inversions": [[file_hash(file), word.token] for file, word in words],
        }

    def apply(self, pipeline: Any) -> None:
        """Changes a diffusers pipeline in place.

        Raises:
            CheckpointError: a file that does not fit this pipeline.
            ConfigError: a word that its tokenizer knows already.
        """
        files = self.files()
        for index, lora in enumerate(self.loras):
            fuse_lora(pipeline, files[index], lora.scale, f"{AT}.loras.{index}")
        for index, inversion in enumerate(self.textual_inversions):
            at = f"{AT}.textual_inversions.{index}"
            add_words(pipeline, inversion, files[len(self.loras) + index], at)


def fuse_lora(pipeline: Any, file: Path, scale: float, at: str) -> None:
    """Adds a LoRA to the weights of a pipeline that diffusers can load it into.

    Raises:
        CheckpointError: some of its layers have no place in this pipeline, or another shape.
    """
    state, *_ = pipeline.lora_state_dict(str(file), use_safetensors=True)
    layers = sum("lora" in name and not name.endswith("alpha") for name in state)
    name = "adapter"
    try:
        pipeline.load_lora_weights(str(file), adapter_name=name, use_safetensors=True)
        used = {
            part: _adapter_size(pipeline, part, name) for part in pipeline._lora_loadable_modules
        }
    except (ValueError, RuntimeError, KeyError) as error:
        # diffusers' own cleaning up can fail, too, and hide what went wrong first.
        why = " ".join(str(error.__context__ or error).splitlines()[:2])
        raise CheckpointError(f"{at}: {str(file)!r} does not fit this network: {why}") from error
    if sum(used.values()) < layers:
        raise CheckpointError(
            f"{at}: {layers - sum(used.values())} of {layers} tensors of {str(file)!r} have no "
            f"place in this network, e.g. {sorted(state)[0]!r}; it was made for another "
            "family, or mixes the formats of several trainers"
        )
    changed = [part for part, size in used.items() if size]
    pipeline.fuse_lora(components=changed, lora_scale=scale, adapter_names=[name])
    pipeline.unload_lora_weights()


def _adapter_size(pipeline: Any, part: str, name: str) -> int:
    """Tensors an adapter has in one component."""
    from peft import get_peft_model_state_dict

    component = pipeline.components.get(part)
    if component is None or not component._hf_peft_config_loaded:
        return 0
    if name not in component.peft_config:
        return 0
    return len(get_peft_model_state_dict(component, adapter_name=name))


def add_words(pipeline: Any, inversion: TextualInversion, file: Path, at: str) -> None:
    """Teaches a pipeline's tokenizers and text encoders a learned word.

    Raises:
        CheckpointError: embeddings that do not fit the text encoders.
        ConfigError: a word that is known already, or a family that cannot learn any.
    """
    from diffusers.loaders import TextualInversionLoaderMixin

    if not isinstance(pipeline, TextualInversionLoaderMixin):
        raise ConfigError(at, inversion.path, f"none: {type(pipeline).__name__} learns no words")
    tensors = load_file(file)
    token = _token(inversion, sorted(tensors), at)
    for name, (tokenizer, encoder) in _targets(pipeline, tensors, file, at).items():
        words, network = pipeline.components[tokenizer], pipeline.components[encoder]
        if {token, f"{token}_1"} & set(words.get_vocab()):
            raise ConfigError(f"{at}.token", token, f"a word that the {tokenizer} does not know")
        width = network.get_input_embeddings().weight.shape[1]
        if tensors[name].shape[-1] != width:
            raise CheckpointError(
                f"{at}: {str(file)!r} holds vectors of {tensors[name].shape[-1]} values, but the "
                f"{encoder} of this checkpoint reads {width}; it was made for another family"
            )
        pipeline.load_textual_inversion(
            {token: tensors[name]}, token=token, tokenizer=words, text_encoder=network
        )


def _targets(
    pipeline: Any, tensors: Mapping[str, Tensor], file: Path, at: str
) -> dict[str, tuple[str, str]]:
    """Tensor name to the tokenizer and the encoder it belongs to."""
    wanted = {name: parts for name, parts in ENCODERS.items() if pipeline.components.get(parts[1])}
    if len(wanted) == 1 and len(tensors) == 1:
        return {next(iter(tensors)): next(iter(wanted.values()))}
    if set(tensors) != set(wanted):
        raise CheckpointError(
            f"{at}: {str(file)!r} holds {sorted(tensors)}, but this checkpoint needs one tensor "
            f"for each of its text encoders: {sorted(wanted)}"
        )
    return wanted


def _token(inversion: TextualInversion, names: Sequence[str], at: str) -> str:
    if inversion.token:
        return inversion.token
    if len(names) != 1 or names[0] in NAMELESS:
        allowed = f"the word that prompts use; {inversion.path!r} does not name it"
        raise ConfigError(f"{at}.token", inversion.token, allowed)
    return names[0]


def _file(path: str, usual: str, at: str) -> Path:
    """The safetensors file at a path: itself, the one of the usual name, or the only one."""
    place = local_checkpoint(path, at)
    if place.is_dir():
        found = sorted(place.glob(f"*{SUFFIX}"))
        named = [file for file in found if file.name == usual] or found
        if len(named) != 1:
            listed = [file.name for file in found]
            raise CheckpointError(
                f"{at}: folder {path!r} holds {listed or 'no *' + SUFFIX}; give the file"
            )
        return named[0]
    if not place.is_file():
        raise CheckpointError(f"{at}: no file or folder {path!r}")
    if place.suffix != SUFFIX:
        raise CheckpointError(f"{at}: {path!r} is no *{SUFFIX}; other formats can run code")
    return place


def _tensor_names(file: Path) -> list[str]:
    check_safetensors(file)
    with safe_open(file, framework="pt") as opened:
        return sorted(opened.keys())
