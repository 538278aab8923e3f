"""Cosine classifiers and experts."""

import pytest
import torch
from torch import nn

from generators.classifiers import create_classifier
from generators.errors import ConfigError
from generators.heads import CosineLinear, Experts, HeadSpec, classifier_of, with_head

INPUTS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(name: str) -> nn.Module:
    return create_classifier(name, 5, 3, image_size=(32, 32), seed=1)


@pytest.mark.parametrize("name", ["small_cnn", "test_resnet", "test_vit"])
def test_cosine_logits_know_directions_only(name: str) -> None:
    cosine = with_head(network(name), HeadSpec(kind="cosine", scale=7)).eval()
    head = classifier_of(cosine)
    assert isinstance(head, CosineLinear)
    with torch.no_grad():
        logits = cosine(INPUTS)
        assert logits.abs().max() <= 7
        head.weight *= 3
        torch.testing.assert_close(cosine(INPUTS), logits)
    features = torch.randn(2, head.in_features)
    wanted = [7 * torch.cosine_similarity(f, w, dim=0) for f in features for w in head.weight]
    torch.testing.assert_close(head(features).flatten(), torch.stack(wanted))


@pytest.mark.parametrize("name", ["small_cnn", "test_resnet"])
def test_experts_share_the_early_layers_and_average_when_they_are_asked(name: str) -> None:
    plain = network(name)
    early = sum(p.numel() for p in plain.parameters())
    experts = with_head(plain, HeadSpec(num_experts=3, kind="cosine"))
    assert isinstance(experts, Experts)
    late = sum(p.numel() for p in experts.late[0].parameters())
    heads = sum(p.numel() for p in experts.heads.parameters())
    assert sum(p.numel() for p in experts.shared.parameters()) < early - late
    assert heads == 3 * 5 * experts.num_features
    each = experts.train()(INPUTS)
    assert each.shape == (4, 3, 5)
    assert not torch.allclose(each[:, 0], each[:, 1])
    with torch.inference_mode():
        logits = experts.eval()(INPUTS)
        embedding = experts.forward_head(experts.forward_features(INPUTS), pre_logits=True)
    assert logits.shape == (4, 5)
    assert embedding.shape == (4, experts.num_features)
    # In evaluation mode batch statistics are not used: the mean of the experts, one by one.
    with torch.inference_mode():
        found = [
            head(experts.shared.forward_head(late(experts.forward_features(INPUTS))))
            for late, head in zip(experts.late, experts.heads, strict=True)
        ]
    torch.testing.assert_close(logits, torch.stack(found).mean(0))


def test_pretrained_experts_start_alike_but_for_their_heads() -> None:
    experts = with_head(network("test_resnet"), HeadSpec(num_experts=2), pretrained=True)
    assert isinstance(experts, Experts)
    one, two = (late.state_dict() for late in experts.late)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(experts.heads[0].weight, experts.heads[1].weight)


def test_seeds_decide_and_the_global_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    heads = [with_head(network("small_cnn"), HeadSpec(kind="cosine"), seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = (classifier_of(head).weight for head in heads)
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]


def test_networks_without_a_last_stage_to_copy_are_refused() -> None:
    with pytest.raises(ConfigError, match="ResNet"):
        with_head(network("test_vit"), HeadSpec(num_experts=2))
