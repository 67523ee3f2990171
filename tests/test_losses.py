from __future__ import annotations

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from bcsed.config.recipe import Fit
from bcsed.train.losses import (
    _loss,
    bce,
    cosine_distance,
    criterion,
    cross_entropy,
    focal,
    focal_torchvision,
    soft_auc,
    soft_auc_batch,
)

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * 3
TARGETS = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)).round(decimals=1)


def test_focal_equals_torchvision():
    expected = sigmoid_focal_loss(LOGITS, TARGETS, alpha=0.8, gamma=2.0)
    loss = focal_torchvision(LOGITS.sigmoid(), TARGETS, 2.0, 0.8)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("form", "target", "minimum"),
    [(focal, 0.8, 0.782), (focal, 0.3, 0.275), (focal_torchvision, 0.8, 0.953), (focal_torchvision, 0.3, 0.122)],
)
def test_the_minimum_of_the_focal_loss(form, target, minimum):
    """The write-up's form has its minimum near the target, so that `label_target` lowers the output."""
    p = torch.linspace(1e-4, 1 - 1e-4, 100_001)
    loss = form(p, torch.full_like(p, target), 2.0, 0.8)
    assert abs(float(p[loss.argmin()]) - minimum) < 1e-3


def test_negatives_weigh_1_in_the_focal_loss():
    """The gradient of a certain label at a logit: -0.8 (1-p)²... for positives, and p³... for negatives, in full."""
    logits = LOGITS.double().requires_grad_()
    target = TARGETS.double().round()
    focal(logits.sigmoid(), target, 2.0, 0.8).sum().backward()
    p = LOGITS.double().sigmoid()
    positive = -0.8 * ((1 - p) ** 3 - 2 * p * (1 - p) ** 2 * p.log())
    negative = p**3 - 2 * (1 - p) * p**2 * (1 - p).log()
    torch.testing.assert_close(logits.grad, torch.where(target > 0, positive, negative), atol=1e-5, rtol=1e-5)


def test_bce_equals_torch():
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, TARGETS, reduction="none")
    torch.testing.assert_close(bce(LOGITS.sigmoid(), TARGETS), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("loss", ["focal", "bce"])
@pytest.mark.parametrize("two_way", [True, False])
@pytest.mark.parametrize("kind", ["prob", "logit"])
def test_an_element_counts_as_much_as_its_weight(loss, two_way, kind):
    fit = Fit(loss=loss, two_way=two_way)
    attention = torch.rand(2, 4, 3) - 0.5
    target = torch.tensor([[1.0, 0.3, 0.0], [0.0, 1.0, 0.8]])

    def gradient(weight):
        logits = torch.linspace(-2, 2, 24).reshape(2, 4, 3).requires_grad_()
        criterion(logits, attention, target, weight, fit=fit, kind=kind).backward()
        return logits.grad

    full, weight = gradient(torch.ones(2, 3)), torch.ones(2, 3)
    weight[0, 1], weight[1, 2] = 0.0, 0.6
    part = gradient(weight)
    assert (part[0, :, 1] == 0).all()
    torch.testing.assert_close(part[1, :, 2], 0.6 * full[1, :, 2])
    torch.testing.assert_close(part[0, :, 0], full[0, :, 0])


def test_a_class_of_weight_0_is_no_negative_of_cross_entropy():
    """It is not known to be absent, so its logit is not lowered; half known, it is lowered less."""
    logits = torch.zeros(1, 3).requires_grad_()
    target = torch.tensor([[1.0, 0.0, 0.0]])
    gradients = []
    for weight in (1.0, 0.5, 0.0):
        logits.grad = None
        cross_entropy(logits.sigmoid(), target, torch.tensor([[1.0, 1.0, weight]])).backward()
        gradients.append(float(logits.grad[0, 2]))
    assert gradients[0] == pytest.approx(1 / 3) and gradients[0] > gradients[1] > gradients[2]
    assert gradients[2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", ["focal", "focal_torchvision"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradients_are_finite_at_certainty(loss, gamma):
    logits = torch.tensor([[[40.0, -40.0, 18.0]]]).requires_grad_()
    target, fit = torch.tensor([[1.0, 0.0, 0.3]]), Fit(loss=loss, focal_gamma=gamma)
    criterion(logits, torch.zeros(1, 1, 3), target, torch.ones(1, 3), fit=fit, kind="prob").backward()
    assert logits.grad.isfinite().all()


def test_two_way_gives_attention_and_frames_a_gradient():
    logits, attention = (torch.randn(2, 4, 3, requires_grad=True) for _ in range(2))
    criterion(logits, attention, torch.ones(2, 3), torch.ones(2, 3), fit=Fit(), kind="prob").backward()
    assert attention.grad.abs().sum() > 0
    assert logits.grad.abs().sum() > 0


def test_certain_answers_stay_finite():
    logits = torch.tensor([[[80.0, -80.0]]]).requires_grad_()
    loss = criterion(logits, torch.zeros(1, 1, 2), torch.tensor([[0.0, 1.0]]), torch.ones(1, 2), fit=Fit(), kind="prob")
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_cross_entropy_equals_torch():
    expected = torch.nn.functional.cross_entropy(LOGITS, TARGETS)
    torch.testing.assert_close(cross_entropy(LOGITS.sigmoid(), TARGETS, torch.ones(6, 5)), expected, rtol=1e-4, atol=0)


def test_soft_auc_of_the_batch_equals_its_definition():
    """Pairs of elements of any class; targets of 0.5 are in no pair."""
    weight = torch.rand(6, 5, generator=torch.Generator().manual_seed(2))
    target = TARGETS.clone()
    target[0, 0] = 0.5
    p, lost, pairs = LOGITS.sigmoid().flatten(), 0.0, 0.0
    t, w = target.flatten(), weight.flatten()
    for i in range(30):
        for j in range(30):
            if t[i] > 0.5 > t[j]:
                share = w[i] * (t[i] - 0.5) * w[j] * (0.5 - t[j])
                lost += share * torch.nn.functional.softplus(p[j] - p[i])
                pairs += share
    torch.testing.assert_close(soft_auc_batch(LOGITS.sigmoid(), target, weight), lost / pairs, rtol=1e-4, atol=0)
    none = torch.zeros(6, 5)
    assert soft_auc_batch(LOGITS.sigmoid(), none, torch.ones(6, 5)) == 0


def test_soft_auc_equals_its_definition():
    weight = torch.rand(6, 5, generator=torch.Generator().manual_seed(2))
    lost = []
    for k in range(5):
        pairs = total = 0.0
        for i in range(6):
            for j in range(6):
                if i != j:
                    share = TARGETS[i, k] * (1 - TARGETS[j, k])
                    apart = torch.nn.functional.softplus(LOGITS[j, k] - LOGITS[i, k])
                    total += share * weight[i, k] * weight[j, k] * apart
                    pairs += share
        lost.append(total / pairs)
    torch.testing.assert_close(soft_auc(LOGITS.sigmoid(), TARGETS, weight), torch.stack(lost).mean(), rtol=1e-4, atol=0)


def test_soft_auc_falls_as_positives_rise_and_needs_a_pair():
    p, target = torch.tensor([[0.2], [0.6]]), torch.tensor([[1.0], [0.0]])
    worse, better = (soft_auc(x, target, torch.ones(2, 1)) for x in (p, p.flip(0)))
    assert better < worse
    assert soft_auc(p, torch.ones(2, 1), torch.ones(2, 1)) == 0


@pytest.mark.parametrize("loss", ["focal", "bce", "ce", "auc"])
@pytest.mark.parametrize("weight", [1.0, 0.6, 0.1, 0.0])
def test_a_pseudolabel_of_weight_w_contributes_w_times_its_loss(loss, weight):
    """The gradient on the answers of an element that is positive only by a pseudolabel."""
    fit, target = Fit(loss=loss, two_way=False), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

    def lost(weights):
        logits = torch.linspace(-2, 2, 24).reshape(3, 4, 2).double()
        return criterion(logits, torch.zeros(3, 4, 2), target, weights, fit=fit, kind="prob")

    def at(value):
        weights = torch.ones(3, 2)
        weights[1, 1] = value
        return lost(weights)

    alone = at(1.0) - at(0.0)
    assert alone > 0
    torch.testing.assert_close(at(weight) - at(0.0), weight * alone, rtol=1e-4, atol=1e-6)


def test_a_batch_without_embeddings_has_no_distance():
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(cosine_distance(student, teacher), torch.tensor(0.5))
    torch.testing.assert_close(cosine_distance(student, teacher * torch.tensor([[1.0], [0.0]])), torch.tensor(0.0))
    nothing = cosine_distance(student, torch.zeros(2, 2))
    nothing.backward()
    assert nothing == 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["bce", "focal", "focal_torchvision", "ce", "auc"])
def test_an_output_that_is_sure_and_wrong_is_corrected(loss):
    logits = torch.tensor([[-15.0, 15.0], [15.0, -15.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    _loss(logits.sigmoid(), target, torch.ones(2, 2), Fit(loss=loss)).backward()
    assert (logits.grad.sign() == -(2 * target - 1)).all()
