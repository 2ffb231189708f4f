"""Windows of layers: those that are restored, or edited, together; and what is no layer."""

EMBEDDING = -1  # the input embedding, where edits name a layer
EMBEDDING_NAME = "embedding"  # of it, where people do


def window_layers(centre: int, window: int, n_layers: int) -> range:
    """Layers of a window of width `window` centred at `centre`, clipped (METHODS section 0)."""
    return range(max(0, centre - window // 2), min(n_layers, centre - (-window // 2)))


def layer_words(layer: int) -> str:
    """Where an edit is, in words: "layer 5", counted from 0, or "the embedding"."""
    return f"the {EMBEDDING_NAME}" if layer == EMBEDDING else f"layer {layer}"
