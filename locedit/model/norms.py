"""What can be written behind an RMS norm: its output has one length, whatever goes in."""

import torch
from torch import Tensor

HALVINGS = 128  # of the bracket around the multiplier: far below double precision


def nearest_output(gain: Tensor, wanted: Tensor) -> Tensor:
    """u [..., d], of mean square 1, for which gain * u is as near as it can be to `wanted`.

    gain, wanted: [..., d]; float64. Least squares on a sphere: u = g w / (g^2 + mu), with the one
    mu > -min g^2 that gives u its length (Gander, Golub and von Matt 1989, doi
    10.1016/0024-3795(89)90494-1). Gains may be 0 or differ by orders of magnitude, where dividing
    by them would spend u's length on what hardly leaves the norm.
    """
    gain, wanted = gain.double(), wanted.double()
    d = wanted.shape[-1]
    along = gain * wanted
    squares = gain.square()
    least, where = squares.min(dim=-1, keepdim=True)
    # u's length falls with mu + least, which is halved down to it
    low = torch.zeros_like(least)
    high = least + along.norm(dim=-1, keepdim=True) / d**0.5
    tiny = torch.finfo(high.dtype).tiny
    for _ in range(HALVINGS):
        middle = ((low + high) / 2).clamp(min=tiny)
        longer = (along / (squares - least + middle)).square().sum(dim=-1, keepdim=True) > d
        low, high = torch.where(longer, middle, low), torch.where(longer, high, middle)
    u = along / (squares - least + high)
    # where even the smallest mu leaves u too short, the rest goes where it is felt least
    rest = d - u.square().sum(dim=-1, keepdim=True)
    felt_least = u.gather(-1, where)
    filled = (felt_least.square() + rest.clamp(min=0)).sqrt()
    return u.scatter(-1, where, torch.where(rest > 1e-9 * d, filled, felt_least))
