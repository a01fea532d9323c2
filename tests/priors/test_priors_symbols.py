"""Many tensors' code lengths in one pass, and bounds that keep them finite."""

from __future__ import annotations

import pytest
import torch

from epigram.errors import ConfigError
from epigram.maths.rate import LOG_SCALE_MAX, LOG_SCALE_MIN, held
from epigram.priors.symbols import SymbolPrior, joint_bits

SHAPES = ((3, 4), (5,), (2, 3, 2))


def priors(axes: tuple[int, ...]) -> list[SymbolPrior]:
    torch.manual_seed(0)
    made = [SymbolPrior(shape, axes=axes if len(shape) > 1 else ()) for shape in SHAPES]
    with torch.no_grad():
        for parameter in (p for prior in made for p in prior.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("axes", [(), (0, 1)], ids=["whole tensors", "rows and columns"])
def test_one_pass_is_what_one_by_one_is_gradients_included(axes):
    symbols = [3 * torch.randn(shape) for shape in SHAPES]
    together, apart = priors(axes), priors(axes)
    first = joint_bits(symbols, together)
    second = torch.cat([prior.bits(q).reshape(-1) for q, prior in zip(symbols, apart, strict=True)])
    assert torch.allclose(first, second, rtol=1e-5)
    first.sum().backward()
    second.sum().backward()
    for one, other in zip(together, apart, strict=True):
        for mine, its in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.allclose(mine.grad, its.grad, rtol=1e-4, atol=1e-5)


def test_scales_beyond_their_bounds_come_back():
    prior = SymbolPrior((2, 2), axes=(0,))
    with torch.no_grad():
        prior.log_scales.copy_(torch.tensor([-50.0, 50.0]))
        prior.factors[0].fill_(100.0)
    assert torch.isfinite(prior.bits(torch.tensor([[0.0, 1e6], [-3.0, 1.0]]))).all()
    prior.clamp_()
    assert prior.log_scales.tolist() == [LOG_SCALE_MIN, LOG_SCALE_MAX]
    assert float(prior.factors[0].detach().max()) == LOG_SCALE_MAX - LOG_SCALE_MIN


@pytest.mark.parametrize("family", ["mixture", "spike", "laplace"])
@pytest.mark.parametrize(("factor", "symbol"), [(-5.0, 6.0), (12.0, 0.0)])
def test_a_scale_whose_factor_took_it_beyond_its_bounds_recovers(family, factor, symbol):
    """Scale and factor are each within their own bounds; the sum is not, and the symbols want it back."""
    prior = SymbolPrior((2, 50), axes=(0,), family=family)
    with torch.no_grad():
        prior.factors[0][0] = factor
    symbols = torch.zeros(2, 50)
    symbols[0] = symbol
    before = prior.bits(symbols)[0].sum().item()
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        prior.bits(symbols)[0].sum().backward()
        optimizer.step()
        prior.clamp_()
    assert prior.bits(symbols)[0].sum().item() < 0.5 * before


@pytest.mark.parametrize("beyond", [LOG_SCALE_MIN - 1.0, LOG_SCALE_MAX + 1.0])
def test_only_a_gradient_that_leads_back_is_let_through(beyond):
    inwards = 1.0 if beyond > 0 else -1.0
    for sign, passes in ((inwards, True), (-inwards, False)):
        scale = torch.tensor(beyond, requires_grad=True)
        (sign * held(scale)).backward()
        assert bool(scale.grad != 0) is passes


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="axis 1"):
        SymbolPrior((4,), axes=(1,))
