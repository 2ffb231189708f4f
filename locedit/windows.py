"""Windows of layers: those that are restored, or edited, together."""


def window_layers(centre: int, window: int, n_layers: int) -> range:
    """Layers of a window of width `window` centred at `centre`, clipped (METHODS section 0)."""
    return range(max(0, centre - window // 2), min(n_layers, centre - (-window // 2)))
