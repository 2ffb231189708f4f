"""How much a layer writes at the subject's last token, as a share of what it reads there."""

from dataclasses import dataclass

from locedit.localizers import Localization, Localizer, register


@dataclass(frozen=True, kw_only=True)
class Settings:
    """relative: to the norm of the layer's input; otherwise the norm itself."""

    relative: bool = True


def localize(lm, facts, place, settings, shared):
    """||module's output|| / ||layer's input|| of each layer: one pass for all facts."""
    import torch  # here: it takes a second to import

    from locedit.engine import passes
    from locedit.model import hooks

    ids, lengths = passes.pad([lm.encode(fact.prompt) for fact in facts], lm.device)
    ends = [lm.subject_range(fact.prompt, fact.subject, fact.subject_start)[1] for fact in facts]
    at = (range(len(facts)), [end - 1 for end in ends])
    written = {}

    def keep(layer):
        return lambda _, output: written.update({layer: output[at]})  # [facts, d]

    kept = {lm.module(place.module, layer): keep(layer) for layer in range(lm.n_layers)}
    with torch.inference_mode(), hooks.hooked(kept):
        read = passes.record(lm, ids, lengths).inputs
        norms = torch.stack([written[layer].norm(dim=-1) for layer in range(lm.n_layers)], dim=-1)
        if settings.relative:
            inputs = [read[layer][at].norm(dim=-1) for layer in range(lm.n_layers)]
            norms = norms / torch.stack(inputs, dim=-1)
    return [Localization(values=row, passes=1) for row in norms.double().cpu().numpy()]


register(
    Localizer(name="write_norm", function=localize, settings=Settings, modules=("mlp", "attn"))
)
