from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed.config.contract import FRONTENDS, TINY_128, WIDE_384, Frontend, Net
from bcsed.errors import ConfigError
from bcsed.models.backbone import _stages, build_backbone, feature_shape
from bcsed.models.network import Head, SedNet, ToImage, delta, fold, modern_names, pool, unfold


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 7))
def test_unfold_undoes_fold(B, C, F, folds, part):
    x = torch.arange(B * C * F * folds * part, dtype=torch.float32).reshape(B, C, F, folds * part)
    folded = fold(x, folds)
    assert folded.shape == (B, C, F * folds, part)
    assert torch.equal(unfold(folded, folds), x)


def test_the_first_half_is_on_top():
    x = torch.arange(8.0).reshape(1, 1, 1, 8)
    assert fold(x, 2)[0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_delta_equals_librosa(rng):
    x = rng.standard_normal((5, 40)).astype("float32")
    expected = librosa.feature.delta(np.pad(x, ((0, 0), (8, 8)), mode="edge"), width=5)[:, 8:-8]
    np.testing.assert_allclose(delta(torch.from_numpy(x)[None])[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS.values(), ids=FRONTENDS)
def test_images_span_zero_to_one_per_window(frontend):
    db = torch.randn(3, frontend.n_mels, frontend.n_frames) * 20 - 40
    db[1] += 50  # a loud neighbour
    picture = ToImage(frontend)(db)
    assert picture.shape == (3, 3, *frontend.image_shape)
    flat = picture[:, 0].flatten(1)
    assert torch.equal(flat.amin(1), torch.zeros(3))
    torch.testing.assert_close(flat.amax(1), torch.ones(3))
    assert torch.equal(ToImage(frontend)(db[:1])[0], picture[0])


@pytest.mark.parametrize("level", [-100.0, 0.0, 30.0])
def test_a_window_of_equal_values_gives_zeros(level):
    picture = ToImage(TINY_128)(torch.full((1, 64, 256), level))
    assert torch.equal(picture, torch.zeros_like(picture))


def test_the_floor_is_per_window():
    db = torch.full((1, 64, 256), -95.0)
    db[0, 0, 0] = 10.0
    db[0, 1, 1] = -30.0
    picture = ToImage(Frontend(hop_length=1000, n_mels=64, n_frames=256, channels="mono"))(db)
    assert picture[0, 0, 0, 0] == 1
    torch.testing.assert_close(picture[0, 0, 1, 1], torch.tensor(0.5))


def test_slopes_are_computed_before_the_fold():
    """A ramp along time has one slope everywhere; after the fold there would be an edge at the seam."""
    ramp = torch.linspace(-60, 0, 256).expand(1, 64, 256).clone()
    slope = unfold(ToImage(TINY_128)(ramp), 2)[0, 1]
    assert slope[:, 2:-2].std() < 1e-6


def test_pool_of_equal_attention_is_the_mean():
    logits, attention = torch.randn(2, 6, 4), torch.zeros(2, 6, 4)
    torch.testing.assert_close(pool(logits, attention, "prob"), logits.sigmoid().mean(1))
    torch.testing.assert_close(pool(logits, attention, "logit"), logits.mean(1).sigmoid())


@pytest.mark.parametrize("kind", ["prob", "logit"])
def test_pool_ignores_steps_of_no_weight(kind):
    logits, attention = torch.randn(2, 6, 4), torch.rand(2, 6, 4)
    weight = torch.tensor([[1, 1, 1, 0, 0, 0]]).expand(2, 6)
    torch.testing.assert_close(pool(logits, attention, kind, weight), pool(logits[:, :3], attention[:, :3], kind))


def test_pool_of_certain_steps_is_not_above_1():
    attention = torch.randn(64, 7, 9, generator=torch.Generator().manual_seed(1))
    for kind in ("prob", "logit", "max", "prob_max"):
        assert pool(torch.full((64, 7, 9), 40.0), attention, kind).max() <= 1.0, kind


def test_pool_weighs_a_step_by_its_overlap():
    logits, attention = torch.randn(1, 2, 3), torch.zeros(1, 2, 3)
    expected = (3 * logits[:, 0].sigmoid() + logits[:, 1].sigmoid()) / 4
    torch.testing.assert_close(pool(logits, attention, "prob", torch.tensor([[3, 1]])), expected)


@pytest.mark.parametrize(
    ("name", "frontend", "steps"),
    [
        ("tf_efficientnet_b0.ns_jft_in1k", WIDE_384, 24),
        ("eca_nfnet_l0", TINY_128, 8),
        ("resnest14d", TINY_128, 8),
        ("regnety_008", TINY_128, 8),
        ("mobilenetv3_small_050", TINY_128, 8),
    ],
)
@pytest.mark.parametrize("freq_pool", ["mean", "gem"])
@pytest.mark.slow
def test_outputs_per_time_step(name, frontend, steps, freq_pool):
    network = SedNet(frontend, Net(backbone=name, freq_pool=freq_pool), 5).eval()
    with torch.inference_mode():
        logits, attention = network(torch.randn(2, frontend.n_mels, frontend.n_frames) * 10)
    assert logits.shape == attention.shape == (2, steps, 5)
    assert attention.abs().max() < 1


def test_dropout_acts_only_in_training(rng):
    network = SedNet(TINY_128, Net(backbone="mobilenetv3_small_050"), 3, dropout=(0.5, 0.5, 0.5)).eval()
    db = torch.randn(1, 64, 256)
    with torch.inference_mode():
        assert torch.equal(network(db)[0], network(db)[0])
        for layer in (network.features, network.heads):
            layer.train()
        assert not torch.equal(network(db)[0], network(db)[0])


TINY_NET = Net(backbone="mobilenetv3_small_050")


def test_outputs_of_several_heads_have_the_order_of_the_classes():
    groups = (2, 0, 1, 0, 2)
    net = Net(backbone="mobilenetv3_small_050", heads="frequency")
    network = SedNet(TINY_128, net, 5, groups=groups).eval()
    assert [head.attention.out_channels for head in network.heads] == [2, 1, 2]
    db = torch.randn(2, 64, 256) * 15 - 30
    with torch.inference_mode():
        logits, attention = network(db)
        x = network.features(network.encode(db).transpose(1, 2))
        alone = [head(x) for head in network.heads]
    for k, group in enumerate(groups):
        column = groups[:k].count(group)
        assert torch.equal(logits[..., k], alone[group][0][..., column])
        assert torch.equal(attention[..., k], alone[group][1][..., column])


def test_a_shared_head_has_all_classes():
    network = SedNet(TINY_128, TINY_NET, 4).eval()
    assert len(network.heads) == 1
    db = torch.randn(2, 64, 256) * 15 - 30
    with torch.inference_mode():
        pooled = network.encode(db)
        assert pooled.shape == (2, network.n_features, network.steps)
        for left, right in zip(network(db), network.apply_heads(pooled), strict=True):
            assert torch.equal(left, right)


def test_groups_that_do_not_fit_the_heads():
    with pytest.raises(ConfigError, match="heads is 'shared', but there are 2 groups"):
        SedNet(TINY_128, TINY_NET, 3, groups=(0, 1, 1))
    with pytest.raises(ConfigError, match="group of each of the 3 classes, got 0"):
        SedNet(TINY_128, Net(backbone="mobilenetv3_small_050", heads="taxon"), 3)


def test_a_state_of_the_first_version():
    network, other = SedNet(TINY_128, TINY_NET, 3).eval(), SedNet(TINY_128, TINY_NET, 3).eval()
    old = {
        name.removeprefix("heads.0.").replace("logits", "what").replace("attention", "when"): tensor
        for name, tensor in network.state_dict().items()
    }
    assert {"what.0.weight", "what.3.bias", "when.weight", "when.bias"} <= set(old)
    other.load_state_dict(old)
    db = torch.randn(1, 64, 256) * 15 - 30
    with torch.inference_mode():
        assert torch.equal(network(db)[0], other(db)[0])
    # Today's names are left alone, and nothing but the earlier ones is.
    assert set(modern_names(network.state_dict())) == set(network.state_dict())
    assert set(modern_names({"unrelated": 1, "backbone.when.x": 2})) == {"unrelated", "backbone.when.x"}


STAGES = {
    "resnet10t": 4,
    "tf_efficientnet_b0.ns_jft_in1k": 7,
    "eca_nfnet_l0": 4,
    "regnety_008": 4,
    "resnest14d": 4,
    "mobilenetv3_small_050": 6,
    "convnext_atto": 4,
}


def rates(model: torch.nn.Module) -> list[list[float]]:
    """Return the drop probability of each block, by stage."""
    return [[getattr(block.drop_path, "drop_prob", 0.0) for block in blocks] for blocks in _stages(model).values()]


@pytest.mark.parametrize(("name", "n_stages"), STAGES.items(), ids=STAGES)
@pytest.mark.slow
def test_drop_path_is_a_ramp_or_one_value_per_stage(name, n_stages):
    for none in ((), (0.0,)):
        assert not any(map(any, rates(build_backbone(name, 3, drop_path=none))))
    ramp = [rate for stage in rates(build_backbone(name, 3, drop_path=(0.2,))) for rate in stage]
    assert ramp == sorted(ramp)
    assert ramp[0] == 0 < ramp[1] < ramp[-1] <= 0.2 + 1e-6
    wanted = [stage / 10 for stage in range(n_stages)]
    by_stage = rates(build_backbone(name, 3, drop_path=wanted))
    assert [set(stage) for stage in by_stage] == [{rate} for rate in wanted]
    with pytest.raises(ConfigError, match=rf"has {n_stages + 1} values, {name} has {n_stages} stages \("):
        build_backbone(name, 3, drop_path=[0.1] * (n_stages + 1))


@pytest.mark.parametrize(("drop_path", "acts"), [((0.0, 0.0, 0.0, 0.0), False), ((0.0, 0.9, 0.0, 0.9), True)])
def test_drop_path_acts_only_in_training(drop_path, acts):
    network = SedNet(TINY_128, Net(backbone="resnet10t"), 3, drop_path=drop_path).eval()
    for layer in network.modules():
        # timm begins with branches that give zero.
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(layer.weight)
    db = torch.randn(4, 64, 256)
    with torch.inference_mode():
        expected = network(db)[0]
        assert torch.equal(network(db)[0], expected)
        for layer in network.modules():
            # BatchNorm stays as it is, so that nothing but the drop path is left to act.
            if type(layer).__name__ == "DropPath":
                layer.train()
        assert torch.equal(network(db)[0], expected) != acts
    plain = SedNet(TINY_128, Net(backbone="resnet10t"), 3)
    assert set(plain.state_dict()) == set(network.state_dict())


@pytest.mark.parametrize("drop_path", [(0.1,), (0.1, 0.2)])
def test_a_backbone_without_drop_path(drop_path):
    with pytest.raises(ConfigError, match="timm's densenet121 has no drop path; leave drop_path empty"):
        build_backbone("densenet121", 3, drop_path=drop_path)
    with pytest.raises(ConfigError, match=r"in \[0, 1\), got 1"):
        build_backbone("resnet10t", 3, drop_path=(1.0,))


def test_unknown_and_unsuitable_backbones():
    with pytest.raises(ConfigError, match="has no model 'tf_efficientnet_b99'"):
        SedNet(TINY_128, Net(backbone="tf_efficientnet_b99"), 3)
    with pytest.raises(ConfigError, match="choose a CNN"):
        feature_shape(build_backbone("swin_tiny_patch4_window7_224", 3), 3, (224, 448 // 2 * 1))


def test_weights_from_a_file(tmp_path):
    """A local file replaces the hub; the error about a missing file explains how to get it."""
    from safetensors.torch import save_file

    donor = build_backbone("mobilenetv3_small_050", 3)
    state = {name: value.clone() for name, value in donor.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    built = build_backbone("mobilenetv3_small_050", 3, pretrained=tmp_path / "model.safetensors")
    assert all(torch.equal(built.state_dict()[name], value) for name, value in state.items())
    with pytest.raises(ConfigError, match="--pretrained FILE, or start from random weights"):
        build_backbone("mobilenetv3_small_050", 3, pretrained=tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_backbone("mobilenetv3_small_050", 3, pretrained=tmp_path / "text.safetensors")


def test_the_maximum_of_the_time_steps():
    logits, attention = torch.tensor([[[0.0], [2.0], [5.0]]]), torch.zeros(1, 3, 1)
    weight = torch.tensor([[1.0, 3.0, 0.0]])
    assert pool(logits, attention, "max", weight).item() == pytest.approx(torch.tensor(2.0).sigmoid().item())
    mean, both = (pool(logits, attention, kind, weight).item() for kind in ("prob", "prob_max"))
    assert both == pytest.approx((mean + torch.tensor(2.0).sigmoid().item()) / 2)


def test_attention_starts_as_the_mean_of_the_features():
    head = Head(12, 4)
    head.start_as_mean()
    x = torch.randn(2, 9, 12)
    attention = head(x)[1]
    assert torch.equal(attention[..., 0], attention[..., 3])
    windows = torch.nn.functional.pad(x.mean(2), (1, 1)).unfold(1, 3, 1)
    torch.testing.assert_close(attention[..., 0], windows.mean(2).tanh())
    zeros = head(torch.zeros(2, 9, 12))[1]
    assert not zeros.any()


def test_dropout_of_logits_acts_only_in_training():
    head = Head(12, 40, 0.0, 0.3)
    x = torch.randn(2, 50, 12)
    share = float((head(x)[0] == 0).float().mean())
    assert 0.25 < share < 0.35
    assert not (head.eval()(x)[0] == 0).any()
